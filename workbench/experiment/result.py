"""`Experiment`: what came of A against B, to be looked at; every clone of it is long gone.

Numbers and texts are in the experiment itself; what changed inside is asked of the captures of each run. Refuses to run
anything again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbench.errors import UsageError
from workbench.experiment import changes
from workbench.experiment.document import Document, Run
from workbench.experiment.frames import runs_frame, summary_frame

if TYPE_CHECKING:
    from workbench.experiment.picture import Picture

__all__ = ["Experiment"]


class Experiment:
    """What came of an experiment.

    Attributes
    ----------
    id : str
        Where the case has it; "" where it was not kept.
    document : Document
        What was asked, and each run.
    """

    def __init__(self, case: Any, document: Document, identity: str = "") -> None:
        self.case = case
        self.document = document
        self.id = identity
        self._answers: dict[tuple[str, int], pd.DataFrame] = {}

    @property
    def variants(self) -> list[str]:
        """The names of the variants."""
        return list(self.document.variants)

    @property
    def seed(self) -> int:
        """What the order of the runs was drawn from."""
        return self.document.seed

    @property
    def runs(self) -> pd.DataFrame:
        """One row per run, in their order; columns as `frames.runs_frame` says."""
        return runs_frame(self.document)

    def summary(self, measures: Sequence[str] | None = None) -> pd.DataFrame:
        """Return medians, spread and the test against the control; columns as `frames.summary_frame` says.

        Raises
        ------
        UsageError
            If no run gave numbers of that name.
        """
        return summary_frame(self.document, measures)

    def outcomes(self) -> pd.DataFrame:
        """Return how the runs of each variant ended: variant (str), ok, failed, hung (int64)."""
        rows = []
        for name in self.document.variants:
            ended = [run.outcome for run in self.document.runs_of(name)]
            rows.append((name, *(ended.count(outcome) for outcome in ("ok", "failed", "hung"))))
        return pd.DataFrame(rows, columns=["variant", "ok", "failed", "hung"])

    # What changed inside.

    def moment(self, variant: str, repeat: int, which: str = "after") -> Any:
        """Return a run's clone as it ended (`after`), or the moment that it began as (`before`): a `Moment`.

        Raises
        ------
        UsageError
            If the run was not captured.
        MomentNotFoundError
            If it was pruned.
        """
        run = self._run(variant, repeat)
        if which not in ("before", "after"):
            raise UsageError(f"a run has no capture {which!r}", cure="Say 'before' or 'after'.")
        if not run.after:
            raise UsageError(f"run {repeat} of {variant!r} has no capture", cure="Ask for keep='captures'.")
        return self._began() if which == "before" else self.case.moment(f"id:{run.after}", run.guest)

    def diff(self, variant: str, repeat: int) -> Any:
        """Return what differs between the moment, which a run's clone began as, and the clone as it ended: a `Diff`."""
        return self.case.diff(self._began(), self.moment(variant, repeat))

    def files(self, variant: str) -> pd.DataFrame:
        """Return the files that a variant's runs changed: path, change, runs, of, always, control.

        `always` are those of all runs (the intersection), all rows the union; `control`: runs of the control that
        changed it too. More in `changes.counted`.
        """
        return self._counted(variant, changes.files_of, ["path", "change"])

    def processes(self, variant: str) -> pd.DataFrame:
        """Return the processes that came, went or changed: name, change, changed, runs, of, always, control."""
        return self._counted(variant, changes.processes_of, ["name", "change", "changed"])

    def kernel_log(self, variant: str) -> pd.DataFrame:
        """Return what the kernel said: level, line, runs, of, always, control."""
        return self._counted(variant, changes.kernel_lines_of, ["level", "line"])

    def pages(self, variant: str) -> pd.DataFrame:
        """Return how many pages of memory changed by owner: owner (str), and a column per run (Int64), then median.

        `attrs["failed"]`: why runs could not be asked, by their number.
        """
        answers, failed = changes.asked(self.document, variant, self._of(changes.pages_of))
        found = {f"run {repeat}": each.set_index("owner")["pages"] for repeat, each in answers.items()}
        frame = pd.DataFrame(found).fillna(0).astype("Int64")
        frame["median"] = frame.median(axis=1)
        frame = frame.sort_values("median", ascending=False, kind="stable").rename_axis("owner").reset_index()
        frame.attrs["failed"] = failed
        return frame

    def packets(self, variant: str | None = None) -> pd.DataFrame:
        """Return what the clones sent to each other, if they shared a network, oldest first.

        Parameters
        ----------
        variant : str, optional
            Those of its clones alone.

        Returns
        -------
        DataFrame
            time, variant (str), repeat (Int64), then as `Segment.packets`. Variant and repeat are those of the run that
            was given the packet's source address; "" and NA where none was, as where a guest sends under another.

        Raises
        ------
        UsageError
            If they shared none.
        DamagedError, FormatError, StoreError
            If the file is not the one that the experiment left.
        """
        from workbench.experiment.wire import packets_of

        if variant is not None:
            self.document.runs_of(variant)
        return packets_of(self.case, self.document, variant)

    def console(self, variant: str, repeat: int = 1) -> str:
        """Return the end of what a run's console showed, without control characters; "" where no log is kept of it."""
        return self._run(variant, repeat).console

    def _counted(self, variant: str, ask: Any, columns: Sequence[str]) -> pd.DataFrame:
        return changes.counted(self.document, variant, self._of(ask), columns)

    def _of(self, ask: Callable[[Any], pd.DataFrame]) -> Callable[[Run], pd.DataFrame]:
        """Return how a run answers; what its captures said once is not worked out again."""

        def answer(run: Run) -> pd.DataFrame:
            key = (ask.__name__, run.position)
            if key not in self._answers:
                self._answers[key] = ask(self.diff(run.variant, run.repeat))
            return self._answers[key]

        return answer

    def _began(self) -> Any:
        return self.case.moment(f"id:{self.document.moment}", self.document.guest)

    def _run(self, variant: str, repeat: int) -> Run:
        found = [run for run in self.document.runs_of(variant) if run.repeat == repeat]
        if not found:
            raise UsageError(f"variant {variant!r} has no run {repeat}", repeats=self.document.repeats)
        return found[0]

    # To be shown.

    def picture(self, measures: Sequence[str] | None = None) -> Picture:
        """Return every value with medians and quartiles, as SVG: `.svg`, `.save(path)`, and shown by a notebook."""
        from workbench.experiment.picture import picture_of

        return picture_of(self.document, measures)

    def report(self, target: Path | str, parts: Sequence[str] = ("files", "processes", "kernel_log")) -> Path:
        """Write one HTML file that needs nothing else: what was asked, picture, summary, runs, and what changed.

        Parameters
        ----------
        target : Path or str
            A file that is not there yet.
        parts : sequence of {"files", "processes", "kernel_log", "pages", "packets", "console"}
            What is asked of the captures; a part that cannot be had says why.

        Raises
        ------
        UsageError, StoreError
        """
        from workbench.evidence.report import write_new
        from workbench.experiment.page import page_of

        place = Path(target)
        if place.exists():
            raise UsageError("a file is there already", path=str(place), cure="Name a new one.")
        return write_new(place, page_of(self, parts))

    def _repr_html_(self) -> str:
        from workbench.experiment.page import short_of

        return short_of(self)

    def __repr__(self) -> str:
        told = self.outcomes().set_index("variant")
        ended = ", ".join(f"{name} {told['ok'][name]}/{told.loc[name].sum()} ok" for name in told.index)
        return f"<Experiment {self.id[:12] or 'not kept'} of {self.document.moment[:12]}: {ended}>"
