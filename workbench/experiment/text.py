"""Words of a guest, made harmless and short for errors, tables and pages. Refuses to hand on a control character."""

from __future__ import annotations

__all__ = ["inert", "last_line"]


def inert(text: object, longest: int = 300) -> str:
    r"""Return text cut to a length, without control characters, marks of direction, lone surrogates: `\uNNNN` instead.

    Line ends and tabs stay.
    """
    said = "".join(c if c in "\n\t" or c.isprintable() else f"\\u{ord(c):04x}" for c in str(text)[: longest + 1])
    return said if len(said) <= longest else said[: longest - 1] + "…"


def last_line(text: str, longest: int = 200) -> str:
    """Return the last line that says anything, harmless and cut; empty where none does."""
    lines = text.rstrip().rsplit("\n", 1)
    return inert(lines[-1].strip(), longest)
