"""Verify a report: run its template again on the case, with everything asked anew, and name what differs.

Refuses to run code that stands in the report, to believe an answer that was kept, and to call a page verified whose
bytes could not be compared.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from workbench.errors import FormatError, UsageError
from workbench.evidence.page import page_of
from workbench.evidence.report import make_report
from workbench.evidence.running import Template, find_template
from workbench.evidence.statement import Output, Statement, read_report
from workbench.progress import Progress, silent

__all__ = ["Verification", "verify_report"]

_FIGURE = re.compile(r'<figure class="wb-exhibit" id="exhibit-(\d{1,6})">(.*?)</figure>', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of running a report again.

    Attributes
    ----------
    frame : DataFrame
        A row per output: exhibit (int64; 0 where it is none), title (str), cell (str), state (str: "same", "differs",
        "missing" from the new run, "new" there).
    page : str
        "same", "differs", or "not compared", of the report's bytes.
    notes : tuple of str
        What else is to be known, in words.
    """

    frame: pd.DataFrame
    page: str
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether the report is what the case gives: every output, and the page."""
        return self.page == "same" and bool((self.frame["state"] == "same").all())

    def __repr__(self) -> str:
        differing = self.frame[self.frame["state"] != "same"]
        told = ", ".join(f"{row['state']}: {row['title'] or row['cell']}" for row in differing.to_dict("records"))
        return f"<Verification: {'same' if self.same else f'page {self.page}; {told}'}>"


def verify_report(
    report: Path,
    case: Path,
    identity: str,
    template: Path | None = None,
    progress: Progress = silent,
) -> Verification:
    """Run a report again.

    Parameters
    ----------
    identity : str
        The case's UUID.
    template : Path, optional
        The notebook, where the report was made of one that is not ours.

    Raises
    ------
    FormatError
        If this is no report.
    UsageError
        If it is of another case, or of a template that is not at hand.
    AnalysisError
        If it could not be run again.
    """
    page, told = read_report(report)
    if told.case != identity:
        raise UsageError("the report is of another case", report=told.case, case=identity, cure="Name that case.")
    used = _template_of(told, template)
    with tempfile.TemporaryDirectory(prefix="rewind-verify-") as scratch:
        again = make_report(case, identity, used, told.parameters, cache=Path(scratch), progress=progress)
    # The report's own words on versions, and nothing else of it, go into the page that is compared with it.
    expected = page_of(again.notebook, replace(again.statement, versions=told.versions))
    frame = _compared(told.outputs, again.statement.outputs, _altered(page, expected))
    notes = _other_versions(told.versions, again.statement.versions)
    if page == expected:
        return Verification(frame, "same", tuple(notes))
    if any(note.startswith("made with nbconvert") for note in notes):
        return Verification(frame, "not compared", (*notes, "another nbconvert writes other pages"))
    if (frame["state"] == "same").all():
        notes.append("what differs in the page is outside of its exhibits")
    return Verification(frame, "differs", tuple(notes))


def _other_versions(told: dict[str, str], now: dict[str, str]) -> list[str]:
    return [
        f"made with {name} {told.get(name, 'unknown')}, run again with {version}"
        for name, version in now.items()
        if told.get(name) != version
    ]


def _template_of(told: Statement, path: Path | None) -> Template:
    """Return the template that a report names; never one that the report brings."""
    if path is None and told.template.endswith(".ipynb"):
        raise UsageError(
            "the report was made of a template of its own", name=told.template, cure="Name it: --template."
        )
    template = find_template(told.template if path is None else path)
    if template.digest != told.template_digest:
        raise FormatError(
            "the template is not the one that the report was made of",
            expected=told.template_digest,
            found=template.digest,
            cure="Use the version of the workbench that made the report, or name its template.",
        )
    return template


def _altered(page: str, expected: str) -> set[int]:
    """Return the exhibits whose place in the page is not as it should be."""
    found, wanted = ({each[1]: each[2] for each in _FIGURE.finditer(text)} for text in (page, expected))
    return {int(number) for number in {**found, **wanted} if found.get(number) != wanted.get(number)}


def _compared(told: tuple[Output, ...], again: tuple[Output, ...], altered: set[int]) -> pd.DataFrame:
    before, now = ({each.cell: each for each in side} for side in (told, again))
    rows = []
    for cell in {**now, **before}:
        one = now.get(cell) or before[cell]
        if cell not in before or cell not in now:
            state = "new" if cell in now else "missing"
        else:
            state = "same" if before[cell] == now[cell] and one.exhibit not in altered else "differs"
        rows.append((one.exhibit, one.title, cell, state))
    frame = pd.DataFrame(rows, columns=["exhibit", "title", "cell", "state"])
    return frame.astype({"exhibit": "int64", "title": "str", "cell": "str", "state": "str"})
