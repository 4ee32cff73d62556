"""Make an experiment: understand all of what was asked, run it, keep it; and find those that were kept.

Refuses to start a clone before everything that was asked has been understood.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Literal, Self

import pandas as pd

from workbench.errors import DamagedError, FormatError, UsageError
from workbench.experiment.acting import Work
from workbench.experiment.document import FORMAT, SEEDS, Asked, Document, Run, checked_name, listed, read, write
from workbench.experiment.frames import FIRST, LAST
from workbench.experiment.order import available_memory, cores, fitting, new_seed, turns
from workbench.experiment.parts import Part, measure_of, until_of, variant_of, work_of
from workbench.experiment.result import Experiment
from workbench.experiment.running import need_of, run_all
from workbench.experiment.wire import MOST as _MOST_ON_SEGMENT
from workbench.experiment.wire import sealed
from workbench.progress import Progress

__all__ = ["Request", "listing", "make", "reopened"]

_LONGEST = 86_400.0
_MOST_RUNS = 10_000
_MOST_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, understood; the parts as `parts.Part`, the rest as `document.Document` has it."""

    variants: dict[str, Part]
    measures: dict[str, Part]
    workload: Part
    until: Part
    repeats: int
    timeout: float
    control: str
    seed: int
    keep: Literal["captures", "none"]

    @classmethod
    def of(
        cls,
        *,
        variants: Mapping[str, Any],
        measures: Mapping[str, Any],
        workload: Any,
        until: Any,
        repeats: int,
        timeout: float,
        control: str | None,
        seed: int | None,
        keep: Literal["captures", "none"],
    ) -> Self:
        """Understand what was asked.

        Raises
        ------
        UsageError
        """
        _refuse(variants, measures, repeats, timeout, keep)
        return cls(
            {checked_name(name, "variant"): variant_of(name, value) for name, value in variants.items()},
            {checked_name(name, "measure"): measure_of(name, value) for name, value in measures.items()},
            work_of(workload),
            until_of(until),
            repeats,
            float(timeout),
            _control(variants, control),
            new_seed() if seed is None else _seed(seed),
            keep,
        )

    def work(self) -> dict[str, Work]:
        """Return what is done in the clones of each variant."""
        kept = self.keep == "captures"
        return {
            name: Work(part, self.workload, self.until, self.measures, self.timeout, kept)
            for name, part in self.variants.items()
        }


def _refuse(
    variants: Mapping[str, Any], measures: Mapping[str, Any], repeats: int, timeout: float, keep: object
) -> None:
    if not variants:
        raise UsageError("an experiment has a variant at least", cure='Give variants={"control": None, ...}.')
    if not 0 < repeats * len(variants) <= _MOST_RUNS:
        raise UsageError(f"an experiment has 1 to {_MOST_RUNS} runs", found=repeats * len(variants))
    if not 0 < timeout <= _LONGEST:
        raise UsageError("the time of a run lies between 0 s and a day", found=timeout)
    if keep not in ("captures", "none"):
        raise UsageError("an experiment keeps 'captures' or 'none'", found=keep)
    taken = set(measures) & {*FIRST, *LAST}
    if taken:
        raise UsageError("every run has this already", names=sorted(taken), cure="Give the measure another name.")


def _seed(asked: int) -> int:
    if not isinstance(asked, int) or not 0 <= asked < SEEDS:
        raise UsageError("a seed is a whole number of 64 bits", found=asked)
    return asked


def _control(variants: Mapping[str, Any], control: str | None) -> str:
    if control is not None and control not in variants:
        raise UsageError("the control is none of the variants", found=control, variants=list(variants))
    unchanged = [name for name, value in variants.items() if value is None]
    return control or next(iter(["control"] if "control" in variants else [*unchanged, *variants]))


def make(
    case: Any,
    moment: Any,
    asked: Request,
    at_once: int | None,
    *,
    save: bool,
    options: Mapping[str, Any],
    progress: Progress,
) -> Experiment:
    """Run an experiment; see `ExperimentsOfCase.experiment`."""
    order = turns(list(asked.variants), asked.repeats, asked.seed)
    segment = str(options.get("segment", ""))
    number = _at_once(case, moment, len(order), at_once, _MOST_ON_SEGMENT if segment else _MOST_AT_ONCE)
    made = time.time_ns()
    runs = run_all(case, moment, order, asked.work(), at_once=number, options=options, progress=progress)
    document = replace(
        _document(case, moment, asked, made, number, runs),
        network=str(options["network"]),
        segment=segment,
        packets=sealed(case, segment) if segment else "",
    )
    return Experiment(case, document, write(case.store.backend, document) if save else "")


def _at_once(case: Any, moment: Any, runs: int, asked: int | None, most: int) -> int:
    if asked is None:
        return min(most, fitting(need_of(case.store, moment.id), runs, free=available_memory(), cores=cores()))
    if not 0 < asked <= most:
        raise UsageError(f"1 to {most} clones run at once", found=asked)
    return asked


def _document(case: Any, moment: Any, asked: Request, made: int, at_once: int, runs: list[Run]) -> Document:
    ours = {"rewind-workbench": version("rewind-workbench"), "python": platform.python_version()}
    return Document(
        format=FORMAT,
        case=case.store.id,
        guest=str(moment.guest.id),
        moment=str(moment.id),
        made_ns=made,
        seed=asked.seed,
        control=asked.control,
        variants={name: _told(part) for name, part in asked.variants.items()},
        workload=_told(asked.workload),
        until=_told(asked.until),
        measures={name: _told(part) for name, part in asked.measures.items()},
        repeats=asked.repeats,
        at_once=at_once,
        timeout=asked.timeout,
        keep=asked.keep,
        versions=ours | case.hypervisor.versions(),
        runs=tuple(runs),
    )


def _told(part: Part) -> Asked:
    return Asked(part.kind, part.text, part.digest)


def listing(case: Any) -> pd.DataFrame:
    """Return the experiments of a case; see `ExperimentsOfCase.experiments`."""
    rows = sorted((_row(case, identity) for identity in listed(case.store.backend)), key=lambda row: (row[1], row[0]))
    frame = pd.DataFrame(rows, columns=["id", "made", "guest", "moment", "variants", "runs", "ok", "note"])
    frame["made"] = pd.to_datetime(frame["made"] // 1000, unit="us", utc=True)
    return frame.astype({"runs": "Int64", "ok": "Int64"})


def _row(case: Any, identity: str) -> tuple[str, int, str, str, str, int, int, str]:
    try:
        found = read(case.store.backend, identity)
    except (DamagedError, FormatError) as error:
        return identity, 0, "", "", "", 0, 0, error.message
    ok = sum(run.outcome == "ok" for run in found.runs)
    return identity, found.made_ns, found.guest, found.moment, ", ".join(found.variants), len(found.runs), ok, ""


def reopened(case: Any, identity: str) -> Experiment:
    """Return an experiment that a case keeps; see `ExperimentsOfCase.open_experiment`."""
    fitting_ids = [each for each in listed(case.store.backend) if identity and each.startswith(identity)]
    if len(fitting_ids) != 1:
        what = "more than one experiment begins so" if fitting_ids else f"no experiment {identity[:80]!r} in this case"
        raise UsageError(what, cure="See `case.experiments()`.")
    return Experiment(case, read(case.store.backend, fitting_ids[0]), fitting_ids[0])
