"""What a plugin said of a moment: a frame, what it lacks, and how to ask again. Known on both sides of the wire.

Refuses to hold anything that is not data: it goes through sockets and files as JSON and Arrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pandas as pd

__all__ = ["ABSENT", "Absence", "Answer", "Artefact", "absences"]

ABSENT = ("unreadable", "unparsable", "not applicable", "not available")
"""Why a cell has no value, as Volatility tells them apart."""

Reason = Literal["unreadable", "unparsable", "not applicable", "not available"]


@dataclass(frozen=True, slots=True)
class Absence:
    """A cell without a value: `row` counts from 0 in the frame."""

    row: int
    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file that a plugin took out of memory.

    Attributes
    ----------
    name : str
        What the plugin called it, made harmless; two may have one name.
    sha256 : str
        Of the content; the file in the case has this name.
    size : int
        Bytes.
    """

    name: str
    sha256: str
    size: int


@dataclass(slots=True)
class Answer:
    """One plugin at one moment.

    Attributes
    ----------
    frame : DataFrame
        A column per column of the plugin, with its own names and nullable types; `depth` where it gave a tree.
    facts : dict
        capture, plugin, arguments, versions, kernel, configuration, seconds: JSON values.
    absent : list of Absence
    artefacts : list of Artefact
    error : str
        What broke the plugin off; the frame has the rows until then. Empty where it went through.
    """

    frame: pd.DataFrame
    facts: dict[str, Any]
    absent: list[Absence] = field(default_factory=list)
    artefacts: list[Artefact] = field(default_factory=list)
    error: str = ""

    @property
    def partial(self) -> bool:
        """Whether the plugin broke off."""
        return bool(self.error)

    def attributes(self) -> dict[str, Any]:
        """Return all but the frame as JSON values."""
        lacks = [[each.row, each.column, each.reason] for each in self.absent]
        files = [asdict(each) for each in self.artefacts]
        return {**self.facts, "absent": lacks, "artefacts": files, "error": self.error, "partial": self.partial}

    @classmethod
    def from_attributes(cls, frame: pd.DataFrame, attributes: Mapping[str, Any]) -> Answer:
        """Return the answer that gave `attributes`.

        Raises
        ------
        KeyError, TypeError, ValueError
            If they are of another shape.
        """
        facts = dict(attributes)
        absent = [Absence(int(row), str(column), str(reason)) for row, column, reason in facts.pop("absent")]
        artefacts = [Artefact(**each) for each in facts.pop("artefacts")]
        error = str(facts.pop("error"))
        facts.pop("partial")
        return cls(frame, facts, absent, artefacts, error)

    def told(self) -> pd.DataFrame:
        """Return the frame with everything else in its `attrs`."""
        self.frame.attrs.clear()
        self.frame.attrs.update(self.attributes())
        return self.frame


def absences(frame: pd.DataFrame) -> pd.DataFrame:
    """Return why cells of an answer are empty.

    Returns
    -------
    DataFrame
        row (int64), column (str), reason (str, one of `ABSENT`).
    """
    return pd.DataFrame(frame.attrs.get("absent", []), columns=["row", "column", "reason"])
