"""Questions about a moment that are answered with yes or no.

Refuses to take a part of an answer for the whole: what is not in a table that broke off is not known to be absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from workbench.errors import AnalysisError, NoSuchFileError

__all__ = ["Predicate", "Where", "file_exists", "plugin_reports", "process_runs"]

Where = Mapping[str, object] | Callable[[pd.DataFrame], Any] | None
_COMM = 15
"""Bytes of a process's name that Linux keeps (TASK_COMM_LEN less its end, include/linux/sched.h)."""
_ENDED = ("zombie", "dead")


@dataclass(frozen=True)
class Predicate:
    """A question about a moment; `~` is its opposite.

    Attributes
    ----------
    words : str
        The question, for people.
    """

    words: str
    ask: Callable[[Any], bool]

    def __call__(self, moment: Any) -> bool:
        """Answer for a moment."""
        return self.ask(moment)

    def __invert__(self) -> Predicate:
        return Predicate(f"not: {self.words}", lambda moment: not self.ask(moment))

    def __repr__(self) -> str:
        return f"<Predicate {self.words}>"


def file_exists(path: str, *, source: Literal["disk"] | None = None) -> Predicate:
    """Ask whether something is at a path of the guest, links followed.

    Parameters
    ----------
    path : str
        Absolute.
    source : {"disk"}, optional
        Look at the disk alone: quicker, and blind to what the guest has not written yet.

    Notes
    -----
    What lies in a file system that cannot be read (an encrypted one) does not exist for this; see `moment.volumes`.
    """

    def ask(moment: Any) -> bool:
        try:
            moment.stat(path, source=source)
        except NoSuchFileError:
            return False
        return True

    return Predicate(f"{path} exists" + (" on the disk" if source else ""), ask)


def process_runs(name: str) -> Predicate:
    """Ask whether a process runs by its name (15 bytes of it, as the kernel keeps), or the path of its program."""
    short = name.encode()[:_COMM].decode(errors="ignore")

    def fits(frame: pd.DataFrame) -> Any:
        alive = ~frame["state"].isin(_ENDED)
        program = frame["executable"].fillna("").str.removesuffix(" (deleted)")
        return alive & ((frame["name"] == short) | (program == name))

    return Predicate(f"a process {name} runs", lambda moment: _any(moment.processes(), fits))


def plugin_reports(plugin: str, where: Where = None, **arguments: Any) -> Predicate:
    """Ask whether a plugin's table has a row that fits.

    Parameters
    ----------
    plugin : str
        As `moment.vol` takes it.
    where : mapping or callable, optional
        Columns and the values that a row has to have (compared as text where they are not equal as they are), or what
        takes the table and returns which rows fit; by default any row will do.
    **arguments
        The plugin's own.
    """
    words = "" if where is None else f" with {dict(where)}" if isinstance(where, Mapping) else " with a row that fits"
    fits = _chooser(where)
    return Predicate(f"{plugin} reports{words}", lambda moment: _any(moment.vol(plugin, **arguments), fits))


def _chooser(where: Where) -> Callable[[pd.DataFrame], Any]:
    if callable(where):
        return where
    wanted = dict(where or {})

    def fits(frame: pd.DataFrame) -> pd.Series[bool]:
        chosen = pd.Series(data=True, index=frame.index)
        for column, value in wanted.items():
            if column not in frame.columns:
                raise AnalysisError("the plugin's table has no such column", column=column, columns=list(frame.columns))
            same = [found == value or str(found) == str(value) for found in frame[column].astype("object")]
            chosen &= pd.Series(same, index=frame.index, dtype="boolean").fillna(value=False).astype("bool")
        return chosen

    return fits


def _any(frame: pd.DataFrame, fits: Callable[[pd.DataFrame], Any]) -> bool:
    """Tell whether a row fits.

    Raises
    ------
    AnalysisError
        If none does and the table is not whole.
    """
    found = pd.Series(fits(frame), dtype="boolean").fillna(value=False)
    if found.any():
        return True
    if frame.attrs.get("partial"):
        raise AnalysisError(f"the answer broke off: {frame.attrs.get('error')}", plugin=frame.attrs.get("plugin"))
    return False
