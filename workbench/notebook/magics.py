"""`%load_ext workbench`: the pictures of our objects, and `%wb`, the quick way to the most asked questions.

    %wb open PATH                      open a case; it becomes the one that the other words mean
    %wb timeline [GUEST]               the timeline, to look through and choose from
    %wb moments [GUEST]                every capture, as a table
    %wb moment [MOMENT] [GUEST]        one moment (latest)
    %wb marks [GUEST]                  the marks, as a table
    %wb diff MOMENT MOMENT [GUEST]     what differs
    %wb vol MOMENT PLUGIN [NAME=VALUE ...]
                                       a plugin of Volatility, or a question of ours; `%wb vol --list`

Every word gives back what it shows. Without `open`, the one `Case` among the notebook's variables is meant. What is
wrong is said in a sentence, without a traceback. Refuses to change anything: no capture, no rewind.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

import pandas as pd
from IPython.core.error import UsageError as ShownError

from workbench.errors import UsageError, WorkbenchError
from workbench.notebook.reprs import install
from workbench.notebook.text import inert, when

__all__ = ["Magic", "load"]

_SAID = 2000


def load(ipython: Any) -> None:
    """Install the pictures and `%wb` in an IPython shell."""
    install(ipython)
    ipython.register_magic_function(Magic(ipython), "line", "wb")


class Magic:
    """`%wb`.

    Parameters
    ----------
    ipython
        The shell whose variables are looked at for a case.
    """

    def __init__(self, ipython: Any) -> None:
        self._ipython = ipython
        self._case: Any = None
        self.__name__ = "wb"
        self.__doc__ = __doc__

    def __call__(self, line: str) -> Any:
        """Do what a line asks.

        Raises
        ------
        IPython.core.error.UsageError
            With what is wrong, in words that do nothing to a page.
        """
        try:
            verb, *words = _split(line)
            if verb not in _VERBS:
                raise UsageError(f"no word {verb!r}", cure=f"One of: {', '.join(_VERBS)}.")
            return getattr(self, f"_{verb}")(*_counted(verb, words))
        except WorkbenchError as error:
            raise ShownError(inert(error, _SAID)) from None

    @property
    def case(self) -> Any:
        """The case that is meant.

        Raises
        ------
        UsageError
            If there is none, or there are several.
        """
        if self._case is not None:
            return self._case
        from workbench.case import Case

        found = {
            id(each): each for name, each in self._ipython.user_ns.items() if name[:1] != "_" and isinstance(each, Case)
        }
        if len(found) != 1:
            raise UsageError(f"{len(found)} cases are among the variables", cure="Say which: %wb open PATH.")
        return next(iter(found.values()))

    def _open(self, path: str) -> Any:
        from workbench.case import Case

        self._case = Case(path)
        return self._case

    def _timeline(self, guest: str | None = None) -> Any:
        from workbench.notebook.timeline import Timeline

        return Timeline(self.case, None if guest is None else self.case.guest(guest).id)

    def _moments(self, guest: str | None = None) -> Any:
        return self.case.timeline(guest)

    def _moment(self, moment: str = "latest", guest: str | None = None) -> Any:
        return self.case.moment(moment, guest)

    def _marks(self, guest: str | None = None) -> pd.DataFrame:
        """Return the marks: time, kind, name, note, capture (all str)."""
        rows = [(when(each.time_ns), each.kind, each.name, each.note, each.capture) for each in self.case.marks(guest)]
        return pd.DataFrame(rows, columns=["time", "kind", "name", "note", "capture"], dtype="object")

    def _diff(self, a: str, b: str, guest: str | None = None) -> Any:
        return self.case.diff(a, b, guest)

    def _vol(self, moment: str, plugin: str = "", *options: str) -> Any:
        if moment == "--list":
            return self.case.plugins()
        if not plugin:
            raise UsageError("a moment and a plugin are needed", cure="%wb vol latest workbench.processes")
        return self.case.moment(moment).vol(plugin, **dict(_option(each) for each in options))

    def _help(self) -> None:
        print(__doc__)  # noqa: T201  (a magic's help is printed)


_VERBS = {
    "open": (1, 1, "PATH"),
    "timeline": (0, 1, "[GUEST]"),
    "moments": (0, 1, "[GUEST]"),
    "moment": (0, 2, "[MOMENT] [GUEST]"),
    "marks": (0, 1, "[GUEST]"),
    "diff": (2, 3, "MOMENT MOMENT [GUEST]"),
    "vol": (1, 99, "MOMENT PLUGIN [NAME=VALUE ...]"),
    "help": (0, 0, ""),
}
"""How many words may follow a word, and what they are."""


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line) or ["help"]
    except ValueError as error:
        raise UsageError(f"cannot be read: {error}", cure="Close the quotation mark.") from error


def _counted(verb: str, words: list[str]) -> list[str]:
    least, most, form = _VERBS[verb]
    if not least <= len(words) <= most:
        raise UsageError(f"{len(words)} words after {verb}", cure=f"%wb {verb} {form}".strip())
    return words


def _option(word: str) -> tuple[str, Any]:
    """Return the name and value of `name=value`; lists with commas or as JSON.

    Raises
    ------
    UsageError
        If it has not that form.
    """
    name, equals, text = word.partition("=")
    name = name.replace("-", "_")
    if not equals or not name.isidentifier():
        raise UsageError(f"not NAME=VALUE: {word!r}", cure="%wb vol --list tells what a plugin takes.")
    return name, _value(text)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return [_value(part) for part in text.split(",")] if "," in text else text
