"""The words of `%wb`: how many words may follow each, and what they are. Refuses to know what they do."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from workbench.errors import UsageError

__all__ = ["VERBS", "Verb", "arguments_of", "last_word"]


@dataclass(frozen=True, slots=True)
class Verb:
    """A word of `%wb`.

    Attributes
    ----------
    least, most : int
        How many words may follow.
    form : str
        What they are, for people.
    kinds : tuple of str
        What each is, for completion: "moment", "guest", "plugin", "path", "experiment".
    """

    least: int
    most: int
    form: str
    kinds: tuple[str, ...] = ()


_MOMENT = Verb(0, 2, "[MOMENT] [GUEST]", ("moment", "guest"))
_GUEST = Verb(0, 1, "[GUEST]", ("guest",))
_EXPERIMENT = Verb(0, 1, "[ID]", ("experiment",))
_TWO = Verb(2, 3, "MOMENT MOMENT [GUEST]", ("moment", "moment", "guest"))

VERBS = {
    "open": Verb(1, 1, "PATH", ("path",)),
    "timeline": _GUEST,
    "moments": _GUEST,
    "moment": _MOMENT,
    "marks": _GUEST,
    "diff": _TWO,
    "vol": Verb(1, 99, "MOMENT PLUGIN [NAME=VALUE ...]", ("moment", "plugin")),
    "explorer": _MOMENT,
    "files": _MOMENT,
    "diffview": _TWO,
    "bisect": Verb(3, 4, "MOMENT MOMENT FILE [GUEST]", ("moment", "moment", "", "guest")),
    "experiments": Verb(0, 0, ""),
    "experiment": _EXPERIMENT,
    "variants": _EXPERIMENT,
    "console": _MOMENT,
    "capture": _GUEST,
    "rewind": _MOMENT,
    "app": Verb(0, 0, ""),
    "help": Verb(0, 0, ""),
}


def arguments_of(line: str) -> tuple[str, list[str]]:
    """Return a line's verb and the words after it.

    Raises
    ------
    UsageError
        If there is no such verb, a quotation mark is open, or there are too few or too many words.
    """
    try:
        verb, *words = shlex.split(line) or ["help"]
    except ValueError as error:
        raise UsageError(f"cannot be read: {error}", cure="Close the quotation mark.") from error
    if verb not in VERBS:
        raise UsageError(f"no word {verb!r}", cure=f"One of: {', '.join(VERBS)}.")
    known = VERBS[verb]
    if not known.least <= len(words) <= known.most:
        raise UsageError(f"{len(words)} words after {verb}", cure=f"%wb {verb} {known.form}".strip())
    return verb, words


def last_word(text: str) -> tuple[list[str], str]:
    """Return the whole words of a line being written, and the word at its end as it stands ("" after a space)."""
    begin, quote = 0, ""
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char.isspace():
            begin = at + 1
    try:
        return shlex.split(text[:begin]), text[begin:]
    except ValueError:
        return [], text[begin:]
