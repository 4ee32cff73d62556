"""An experiment as one HTML file, and in short for a notebook. No script, nothing that is loaded from elsewhere.

Refuses to let through what a guest wrote: every text is made inert and escaped here, and the page's own policy forbids
scripts where even that had failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from workbench.errors import UsageError, WorkbenchError
from workbench.experiment.document import Asked, Document
from workbench.experiment.tables import escaped, summary_tables, table

if TYPE_CHECKING:
    from workbench.experiment.result import Experiment

__all__ = ["PARTS", "page_of", "short_of"]

PARTS = ("files", "processes", "kernel_log", "pages", "packets", "console")
_TITLES = {
    "files": "Files changed",
    "processes": "Processes that came, went or changed",
    "kernel_log": "What the kernel said",
    "pages": "Pages of memory that changed, by owner",
    "packets": "Packets that were sent",
    "console": "Consoles",
}
_TEXT = 20_000
_SHORT = 160
"""Characters of what a run's cells say; a report of many runs is to be read down its columns."""
_NOTE = (
    "Each row compares a variant with the control: p is the share of all deals of the same values onto the two whose "
    "ranks are as far apart; p (Holm) is corrected for all tests of this page; smallest p is the least that so many "
    "values can give. Difference is of the medians, shift Hodges and Lehmann's. Cliff's delta is -1 where every "
    "value of the variant is the lower, 1 where it is the higher. Runs that failed or hung are in no median, unless "
    "they gave a value."
)


def page_of(experiment: Experiment, parts: Sequence[str]) -> str:
    """Return the page of an experiment.

    Raises
    ------
    UsageError
        If there is no such part.
    """
    from workbench.evidence.page import POLICY, wrapped

    if not set(parts) <= set(PARTS):
        raise UsageError("a report has no such part", asked=list(parts), parts=list(PARTS))
    document, summary = experiment.document, experiment.summary()
    body = [
        f"<h1>Experiment: {escaped(', '.join(document.variants))}</h1>",
        _asked(experiment),
        "<h2>Measures</h2>",
        _picture(experiment, summary),
        _summary(summary),
        f"<p>{escaped(_NOTE, 2_000)}</p>",
        "<h2>Runs</h2>",
        table(experiment.runs.drop(columns=["guest", "after"]), _SHORT),
        *(_part(experiment, part) for part in parts),
    ]
    return wrapped("Experiment", POLICY, "\n".join(body), "")


def short_of(experiment: Experiment) -> str:
    """Return what a notebook shows: outcomes, summary and picture."""
    head = f"<p>{escaped(repr(experiment), 2_000)}, seed {experiment.seed}</p>"
    summary = experiment.summary()
    return f"<div>{head}{table(experiment.outcomes())}{_picture(experiment, summary)}{_summary(summary)}</div>"


# What was asked.


def _asked(experiment: Experiment) -> str:
    document = experiment.document
    made = datetime.fromtimestamp(document.made_ns / 1e9, UTC).isoformat(timespec="seconds")
    facts = {
        "experiment": experiment.id or "not kept",
        "case": document.case,
        "guest": document.guest,
        "moment": document.moment,
        "made": made,
        "runs": f"{len(document.runs)} of {document.repeats} x {len(document.variants)}, {document.at_once} at once",
        "order": f"in blocks of one run of each variant, drawn from seed {document.seed}",
        "control": document.control,
        "network": document.network,
        "time of a run": f"{document.timeout:g} s at most",
        "versions": ", ".join(f"{name} {number}" for name, number in document.versions.items()),
    }
    rows = [f"<tr><th>{escaped(name)}</th><td>{escaped(value)}</td></tr>" for name, value in facts.items()]
    return f"<table><tbody>{''.join(rows)}</tbody></table><h2>What was done</h2>{_parts(document)}"


def _parts(document: Document) -> str:
    told = [(f"variant {name}", each) for name, each in document.variants.items()]
    told += [("workload", document.workload), ("until", document.until)]
    told += [(f"measure {name}", each) for name, each in document.measures.items()]
    return f"<table><tbody>{''.join(_one_part(name, each) for name, each in told)}</tbody></table>"


def _one_part(name: str, part: Asked) -> str:
    shown = f"<pre>{escaped(part.text, _TEXT)}</pre>" if part.text else ""
    digest = f"<code>{escaped(part.digest)}</code>" if part.digest else ""
    return f"<tr><th>{escaped(name)}</th><td>{escaped(part.kind)}</td><td>{shown}{digest}</td></tr>"


# What came of it.


def _summary(summary: pd.DataFrame) -> str:
    return summary_tables(summary) if len(summary) else "<p>No run gave a number.</p>"


def _picture(experiment: Experiment, summary: pd.DataFrame) -> str:
    return f"<figure>{experiment.picture().svg}</figure>" if len(summary) else ""


def _part(experiment: Experiment, part: str) -> str:
    found = [f"<h3>{escaped(name)}</h3>{_of_variant(experiment, part, name)}" for name in experiment.variants]
    return f"<h2>{_TITLES[part]}</h2>{''.join(found)}"


def _of_variant(experiment: Experiment, part: str, variant: str) -> str:
    if part == "console":
        runs = experiment.document.runs_of(variant)
        return "".join(f"<h4>run {run.repeat}</h4><pre>{escaped(run.console[-_TEXT:], _TEXT)}</pre>" for run in runs)
    ask: Callable[[str], pd.DataFrame] = getattr(experiment, part)
    try:
        frame = ask(variant)
    except WorkbenchError as error:
        return f'<p class="wb-lack">{escaped(error)}</p>'
    lacking = [
        f'<p class="wb-lack">run {escaped(k)}: {escaped(v)}</p>' for k, v in frame.attrs.get("failed", {}).items()
    ]
    return "".join(lacking) + (table(frame) if len(frame) else "<p>None.</p>")
