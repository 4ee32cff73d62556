"""What `case.py` gives its Case of this room: make a report, and verify one.

Refuses to load what runs notebooks before it is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UsageError
from workbench.progress import Progress, silent
from workbench.store import CaseStore

if TYPE_CHECKING:
    from workbench.evidence.verifying import Verification

__all__ = ["ReportsOfCase"]


class ReportsOfCase:
    """Reports of a case."""

    store: CaseStore
    path: Path

    def moment(self, when: str = "latest", guest: str | None = None) -> Any:
        """Return the moment that `when` names."""
        raise NotImplementedError

    def report(
        self,
        target: Path | str,
        since: str,
        until: str = "latest",
        guest: str | None = None,
        *,
        template: str | Path = "incident",
        interactive: bool = False,
        progress: Progress = silent,
    ) -> Path:
        """Run a template on a span and write the report: one HTML file, the same bytes each time.

        Parameters
        ----------
        target : Path or str
            A file that is not there yet.
        since, until : str
            Moments, by any of their names; the report has their ids.
        template : str or Path
            A name of ours, or an .ipynb file with a cell tagged `parameters` (since, until, guest).
        interactive : bool
            With widgets that work in the page: larger, and no evidence, since it is not verified.

        Raises
        ------
        MomentNotFoundError, AmbiguousMomentError, UsageError
        AnalysisError
            If a cell of the template failed.
        UnsupportedError
            If what an interactive page is made of cannot be had.
        """
        from workbench.evidence.interactive import interactive_page
        from workbench.evidence.report import make_report, write_new
        from workbench.evidence.running import find_template

        used, place = find_template(template), Path(target)
        first, last = self.moment(since, guest), self.moment(until, guest)
        if first.record.time_ns > last.record.time_ns:
            raise UsageError("the span ends before it begins", since=since, until=until, cure="Exchange the two.")
        if place.exists():
            raise UsageError("a file is there already", path=str(place), cure="Name a new one.")
        parameters = {"since": first.id, "until": last.id, "guest": str(first.guest.id)}
        if interactive:
            return write_new(place, interactive_page(self.path, used, parameters, progress=progress))
        return write_new(place, make_report(self.path, self.store.id, used, parameters, progress=progress).page)

    def verify_report(
        self, report: Path | str, *, template: str | Path | None = None, progress: Progress = silent
    ) -> Verification:
        """Run a report again, with everything asked anew, and say what differs.

        Parameters
        ----------
        template : str or Path, optional
            The notebook, where the report was made of one that is not ours.

        Raises
        ------
        FormatError
            If this is no report, or of another version of its template.
        UsageError
            If it is of another case.
        """
        from workbench.evidence.verifying import verify_report

        own = None if template is None else Path(template)
        return verify_report(Path(report), self.path, self.store.id, own, progress)
