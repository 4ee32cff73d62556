"""How our objects look in a notebook: a table and a picture each, the same bytes for the same case.

`install` tells IPython's formatters by the names of our classes, so that `workbench.case` never hears of notebooks.
The pictures are images, which survive in notebooks that are not trusted and in exports; every text is inert. Refuses
to show an object differently because it could not be read: then the error is what is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.errors import WorkbenchError
from workbench.model import CLUSTER, PAGE
from workbench.notebook.picture import as_image, bars_picture, line_picture
from workbench.notebook.repr_parts import ROWS, SHORT, fields_html, titled, where
from workbench.notebook.repr_results import RESULTS
from workbench.notebook.text import inert, markup, table, when

__all__ = [
    "HTML",
    "case_html",
    "clone_html",
    "diff_html",
    "frame_html",
    "install",
    "moment_html",
    "plan_html",
    "recording_html",
]

_FRAME_ROWS = 60


def case_html(case: Any) -> str:
    """Show a case: its guests, how many captures and marks each has, and its timeline."""
    rows: list[tuple[object, ...]] = []
    total = 0
    for guest in case.guests()[:ROWS]:
        captures = case.store.captures(guest.id)
        total += len(captures)
        ends = (when(captures[0].time_ns), when(captures[-1].time_ns)) if captures else ("-", "-")
        rows.append((guest.name, len(captures), *ends, len(case.marks(guest.id))))
    head = ("guest", "captures", "first", "last", "marks")
    return titled(f"Case {case.location}", table(rows, head) + where(case, (), total))


def moment_html(moment: Any) -> str:
    """Show a moment: when and why it was taken, its regions, and where it lies."""
    record = moment.record
    rows: list[tuple[object, ...]] = [
        ("time", when(record.time_ns)),
        ("capture", record.id[:SHORT]),
        ("mode", record.mode.value),
        ("reason", record.reason or "-"),
        ("branch, depth", f"{record.branch}, {record.depth}"),
        ("follows", record.parent[:SHORT] if record.parent else "nothing"),
        *_file_systems(record.facts),
    ]
    regions = [
        (each.spec.name, each.spec.kind.value, f"{each.spec.length:,}", each.digest[:SHORT])
        for each in record.regions[:ROWS]
    ]
    shown = table(rows) + table(list(regions), ("region", "kind", "bytes", "digest"))
    return titled(f"Moment of {moment.guest.name}", shown + where(moment.case, (moment.id,)))


def _file_systems(facts: Any) -> list[tuple[object, ...]]:
    """Return how consistent its file systems are, as its facts have it; a stranger may have written them."""
    if "consistency" not in facts:
        return []
    told = inert(facts["consistency"], 40)
    if facts.get("consistency_why"):
        told += f": {inert(facts['consistency_why'])}"
    rows: list[tuple[object, ...]] = [("consistency", told)]
    frozen, count = facts.get("frozen_ns"), facts.get("frozen_file_systems")
    if isinstance(frozen, int) and frozen:
        rows.append(("frozen", f"{frozen / 1e6:.1f} ms, {inert(count, 20)} file systems"))
    if facts.get("frozen") is True:
        rows.append(("comes up", "with its file systems frozen: clones and rewinds thaw them"))
    return rows


def diff_html(diff: Any) -> str:
    """Show a diff: which regions changed and by how much, as a table and as bars."""
    rows = [tuple(row) for row in diff.summary().itertuples(index=False)][:ROWS]
    cells: list[tuple[object, ...]] = [(name, kind, f"{blocks:,}", f"{size:,}") for name, kind, blocks, size in rows]
    picture = bars_picture([(name, blocks, f"{blocks:,} blocks") for name, _, blocks, _ in rows], "changed blocks")
    ends = f"{diff.a.id[:SHORT]} ({when(diff.a.record.time_ns)}) to {diff.b.id[:SHORT]} ({when(diff.b.record.time_ns)})"
    shown = table(cells, ("region", "kind", "blocks", "bytes")) + as_image(picture, "changed blocks by region")
    return titled(f"Diff {ends}", shown)


def clone_html(clone: Any) -> str:
    """Show a clone: its domain, the moment that it started from, where its files are."""
    record = clone.record
    rows: list[tuple[object, ...]] = [
        ("domain", record.name),
        ("UUID", record.uuid),
        ("connection", record.uri),
        ("from the moment", record.capture[:SHORT]),
        ("started", when(record.started_ns)),
        ("took", f"{record.seconds:.1f} s"),
        ("files", record.directory),
    ]
    return titled("Clone", table(rows) + where(clone.case, (record.capture,)))


def plan_html(plan: Any) -> str:
    """Show a plan of a rewind: from where to where, what changes, what is lost, how it is undone."""
    in_production = plan.mode == "production"
    rows: list[tuple[object, ...]] = [
        ("mode", f"{plan.mode}: {'the guest itself' if in_production else 'a clone beside the guest'}"),
        ("to", f"{plan.target.id[:SHORT]}, {when(plan.target.time_ns)}"),
        ("from", f"{plan.present.id[:SHORT]}, {when(plan.present.time_ns)}"),
        ("pages", f"{plan.pages:,} ({plan.pages * PAGE:,} bytes)"),
        ("disk clusters", f"{plan.clusters:,} ({plan.clusters * CLUSTER:,} bytes)"),
    ]
    if in_production:
        how = f"by restarting QEMU: {'; '.join(plan.reshaped)}" if plan.reshaped else "in place"
        rows += [
            ("how", f"{how}; about {plan.seconds_expected:.1f} s standing still"),
            ("leaves", f"{plan.left_behind} captures after the target; they stay in the case"),
            ("safety", "a capture of the present is taken first"),
        ]
    picture = line_picture([(plan.present.time_ns, "the present"), (plan.target.time_ns, "the target")])
    return titled(f"Rewind of {plan.guest_name}", table(rows) + as_image(picture, "from the present to the target"))


def recording_html(recording: Any) -> str:
    """Show a recording: of which guest, and what the case has of it."""
    guest = recording.guest
    captures = recording.case.store.captures(guest.id)
    rows: list[tuple[object, ...]] = [
        ("guest", guest.name),
        ("captures", len(captures)),
        ("newest", when(captures[-1].time_ns) if captures else "-"),
    ]
    return titled("Recording", table(rows) + where(recording.case, (), len(captures)))


RECORDS = (
    ("workbench.capture.quiesce", "Quiesce"),
    ("workbench.capture.schedule", "Tick"),
    ("workbench.guest.doctor", "Finding"),
    ("workbench.replay.exact.machine", "Machine"),
    ("workbench.replay.predicates", "Predicate"),
    ("workbench.rewind.identity", "Identity"),
    ("workbench.rewind.outcome", "Rewound"),
    ("workbench.store.prune", "PruneSummary"),
    ("workbench.timeline.retention", "Retention"),
    ("workbench.trial.probes", "CommandProbe"),
    ("workbench.trial.probes", "HttpProbe"),
    ("workbench.trial.probes", "TcpProbe"),
    ("workbench.trial.state", "TrialStatus"),
)
"""Records that are shown by their fields."""

HTML: dict[tuple[str, str], Callable[[Any], str]] = {
    ("workbench.case.case", "Case"): case_html,
    ("workbench.case.moment", "Moment"): moment_html,
    ("workbench.case.diff", "Diff"): diff_html,
    ("workbench.case.clone", "Clone"): clone_html,
    ("workbench.rewind.plan", "RewindPlan"): plan_html,
    ("workbench.case.recording", "Recording"): recording_html,
    **RESULTS,
    **dict.fromkeys(RECORDS, fields_html),
}
"""Module and name of a class, and what shows it."""


def install(ipython: Any) -> None:
    """Let an IPython shell show our objects, and tables with inert texts; no module of theirs is imported."""
    html, plain = (ipython.display_formatter.formatters[kind] for kind in ("text/html", "text/plain"))
    for (module, name), show in HTML.items():
        html.for_type_by_name(module, name, _or_the_error(show))
        plain.for_type_by_name(module, name, _plain)
    for module in ("pandas", "pandas.core.frame"):  # where pandas says that its class lives: newer, older
        html.for_type_by_name(module, "DataFrame", frame_html)
        plain.for_type_by_name(module, "DataFrame", _plain_frame)


def frame_html(frame: Any) -> str:
    """Show a table as pandas does, with every text inert: names that a guest made stand in most of ours."""
    shown: str = _inert_frame(frame).to_html(max_rows=_rows_of(frame), notebook=True, border=0)
    return f"{shown}<p>{len(frame)} rows by {len(frame.columns)} columns</p>"


def _rows_of(frame: Any) -> int:
    """Return how many rows are shown: all, or of a long table the first and last few."""
    return _FRAME_ROWS if len(frame) <= _FRAME_ROWS else 10


def _inert_frame(frame: Any) -> Any:
    """Return so much of a table as is shown, its texts inert; one row more than fit tells pandas to leave some out."""
    import pandas as pd

    half = _FRAME_ROWS // 2
    part = frame if len(frame) <= _FRAME_ROWS else pd.concat([frame.head(half + 1), frame.tail(half)])
    named = part.rename(columns=_inert_cell, index=_inert_cell)
    return named.astype("object").map(_inert_cell)


def _inert_cell(value: Any) -> Any:
    if value is None or isinstance(value, (int, float, complex)):
        return value
    return inert(value)


def _plain(thing: Any, printer: Any, _cycle: bool) -> None:
    words = str(thing)
    printer.text("\n".join(inert(line, 400) for line in words.split("\n")[:ROWS]))


def _plain_frame(frame: Any, printer: Any, _cycle: bool) -> None:
    shown = _inert_frame(frame).to_string(max_rows=_rows_of(frame), show_dimensions=False, line_width=120)
    printer.text(f"{shown}\n\n[{len(frame)} rows x {len(frame.columns)} columns]")


def _or_the_error(show: Callable[[Any], str]) -> Callable[[Any], str]:
    def shown(thing: Any) -> str:
        try:
            return show(thing)
        except WorkbenchError as error:
            return f"<p>{markup(error, 600)}</p>"

    return shown
