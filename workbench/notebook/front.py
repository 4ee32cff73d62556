"""The front end's files: plain JavaScript and CSS beside this module, put together without a build.

anywidget takes one ES module per widget. Ours are written as small files that import nothing and are joined in order,
the one with `export default` last. Refuses anything that would make a page ask the network.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["module", "style"]

_HERE = Path(__file__).parent / "js"


def module(*names: str) -> str:
    """Return one ES module made of these files."""
    return "\n".join(_read(f"{name}.js") for name in names)


def style(*names: str) -> str:
    """Return one style sheet made of these files."""
    return "\n".join(_read(f"{name}.css") for name in names)


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
