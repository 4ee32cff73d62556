"""`%load_ext workbench`: the pictures of our objects, and `%wb`, the quick way to the most asked questions.

    %wb open PATH                      open a case; it becomes the one that the other words mean
    %wb timeline [GUEST]               the timeline, to look through and choose from
    %wb moments [GUEST]                every capture, as a table
    %wb moment [MOMENT] [GUEST]        one moment (latest)
    %wb marks [GUEST]                  the marks, as a table
    %wb diff MOMENT MOMENT [GUEST]     what differs
    %wb vol MOMENT PLUGIN [NAME=VALUE ...]
                                       a plugin of Volatility, or a question of ours; `%wb vol --list`
    %wb explorer [MOMENT] [GUEST]      what ran: processes, sockets, modules, any plugin
    %wb files [MOMENT] [GUEST]         the disks' files
    %wb diffview MOMENT MOMENT [GUEST] what differs, to look through
    %wb bisect MOMENT MOMENT FILE [GUEST]
                                       when a file of the guest came about
    %wb experiments                    the experiments of the case, as a table
    %wb experiment [ID]                what came of one (the newest)
    %wb variants [ID]                  its variants side by side, to look through
    %wb console [MOMENT] [GUEST]       a clone and its console
    %wb capture [GUEST]                start and stop capture
    %wb rewind [MOMENT] [GUEST]        a rewind: its plan, and a button
    %wb app                            all of it in one

A MOMENT is a time, a mark, an id, `-30s`, `latest` ..., or a link copied from a timeline. Every word gives back what it
shows. Without `open`, the one `Case` among the notebook's variables is meant. What is wrong is said in a sentence,
without a traceback. Tab completes. Refuses to change anything: what captures, clones and rewinds are the buttons.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

import pandas as pd
from IPython.core.error import UsageError as ShownError

from workbench.errors import UsageError, WorkbenchError
from workbench.notebook.completion import Completion
from workbench.notebook.reprs import install
from workbench.notebook.text import inert, when
from workbench.notebook.verbs import arguments_of

__all__ = ["Magic", "load"]

_SAID = 2000


def load(ipython: Any) -> None:
    """Install the pictures and `%wb` in an IPython shell."""
    install(ipython)
    magic = Magic(ipython)
    ipython.register_magic_function(magic, "line", "wb")
    if getattr(ipython, "Completer", None) is not None:  # a shell without a terminal may have none
        Completion(lambda: magic.case).install(ipython)


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
            verb, words = arguments_of(line)
            return getattr(self, f"_{verb}")(*words)
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

    def _open(self, location: str) -> Any:
        from workbench.remote import open_case

        self._case = open_case(location)
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

    def _explorer(self, moment: str = "latest", guest: str | None = None) -> Any:
        return _widget("Explorer")(self.case.moment(moment, guest))

    def _files(self, moment: str = "latest", guest: str | None = None) -> Any:
        return _widget("FileBrowser")(self.case.moment(moment, guest))

    def _diffview(self, a: str, b: str, guest: str | None = None) -> Any:
        return _widget("DiffView")(self.case.moment(a, guest), self.case.moment(b, guest))

    def _bisect(self, a: str, b: str, path: str, guest: str | None = None) -> Any:
        from workbench.case import file_exists

        return self.case.bisect(file_exists(path), between=(a, b), guest=guest)

    def _experiments(self) -> Any:
        return self.case.experiments()

    def _experiment(self, identity: str = "") -> Any:
        known = self.case.experiments()
        if not identity and known.empty:
            raise UsageError("the case keeps no experiment", cure="Make one: case.experiment(moment, variants).")
        return self.case.open_experiment(identity or str(known["id"].iloc[-1]))

    def _variants(self, identity: str = "") -> Any:
        return _widget("Variants")(self._experiment(identity))

    def _console(self, moment: str = "latest", guest: str | None = None) -> Any:
        return _widget("CloneConsole")(self.case.moment(moment, guest))

    def _capture(self, guest: str | None = None) -> Any:
        return _widget("CapturePanel")(self.case, guest)

    def _rewind(self, moment: str = "latest", guest: str | None = None) -> Any:
        return _widget("RewindButton")(self.case.moment(moment, guest))

    def _app(self) -> Any:
        from workbench.notebook.app import App

        return App(self.case)

    def _help(self) -> None:
        print(__doc__)  # noqa: T201  (a magic's help is printed)


def _widget(name: str) -> Any:
    return getattr(importlib.import_module("workbench.notebook"), name)


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
