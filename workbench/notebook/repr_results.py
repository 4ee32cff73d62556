"""How results look in a notebook: bisections, experiments, commands in guests, trials, segments, exact recordings.

Refuses to ask anything that takes long for a repr: what an experiment's captures say is a widget's matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.notebook.picture import as_image, axis_picture, bars_picture, line_picture, on_paper
from workbench.notebook.repr_parts import ROWS, SHORT, said, titled, where
from workbench.notebook.text import table, value_words, when

__all__ = ["RESULTS", "bisection_html", "experiment_html", "segment_html", "trial_html"]

_ANSWERS = {True: "yes", False: "no", None: "unknown"}
_SUMMARY = ("measure", "variant", "n", "failed", "hung", "median", "q1", "q3", "shift", "cliffs_delta", "p", "p_holm")


def bisection_html(found: Any) -> str:
    """Show a bisection: what was asked, between which captures the answer turns, and where they lie."""
    rows: list[tuple[object, ...]] = [
        ("first", f"{found.first.id[:SHORT]}, {when(found.first.record.time_ns)}"),
        ("last before", f"{found.last_before.id[:SHORT]}, {when(found.last_before.record.time_ns)}"),
        ("between them", f"{found.span:.3f} s, {len(found.unknown)} captures that could not be told"),
        ("asked", f"{len(found.asked)} of {found.captures} captures"),
    ]
    if found.refinement is not None:
        rows.append(("refined", str(found.refinement)))
    if found.refused:
        rows.append(("not refined", found.refused))
    asked: list[tuple[object, ...]] = [
        (each.capture[:SHORT], when(each.time_ns), _ANSWERS[each.answer], f"{each.seconds:.2f}", each.why or "-")
        for each in found.asked[:ROWS]
    ]
    shown = table(rows) + table(asked, ("capture", "time", "answer", "seconds", "why"))
    return titled(found.question, shown + where(found.first.case, (found.last_before.id, found.first.id)))


def refinement_html(found: Any) -> str:
    """Show a refinement: when it came about in a clone's run."""
    asked: list[tuple[object, ...]] = [
        (f"{each.after_s:.2f}", each.capture[:SHORT], _ANSWERS[each.answer], each.why or "-")
        for each in found.asked[:ROWS]
    ]
    rows: list[tuple[object, ...]] = [("interval", f"{found.interval:.3f} s"), ("driven", f"{found.driven:.3f} s")]
    shown = table(rows) + table(asked, ("s of a clone's run", "capture", "answer", "why"))
    chosen = [each.id for each in (found.last_before, found.first) if each is not None]
    return titled(str(found), shown + (where(found.first.case, tuple(chosen)) if found.first is not None else ""))


def driven_html(replay: Any) -> str:
    """Show a moment driven again: from where, beside what, and which inputs were played."""
    rows: list[tuple[object, ...]] = [
        ("begun at", f"{replay.begin.id[:SHORT]}, {when(replay.begin.record.time_ns)}"),
        ("the original", f"{replay.original.id[:SHORT]}, {when(replay.original.record.time_ns)}"),
        ("what came of the clone", f"{replay.moment.id[:SHORT]}, after {replay.seconds:.1f} s"),
    ]
    played: list[tuple[object, ...]] = [
        (each.given.way, each.given.text, f"{each.due_s:.2f}", f"{each.after_s:.2f}", each.why or "-")
        for each in replay.played[:ROWS]
    ]
    shown = table(rows) + (table(played, ("way", "text", "due (s)", "played (s)", "why not")) if played else "")
    ends = (replay.begin.id, replay.original.id, replay.moment.id)
    return titled("Driven again", shown + where(replay.begin.case, ends))


def experiment_html(experiment: Any) -> str:
    """Show an experiment: how its runs ended, medians, quartiles and tests, and every value as a picture."""
    document = experiment.document
    summary = experiment.summary()
    rows: list[tuple[object, ...]] = [
        ("moment", document.moment[:SHORT]),
        ("made", when(document.made_ns)),
        ("control", document.control),
        ("runs", f"{len(document.runs)}, {document.at_once} at once, drawn from seed {document.seed}"),
    ]
    ended = [tuple(row) for row in experiment.outcomes().itertuples(index=False)]
    shown = table(rows) + table(list(ended), ("variant", "ok", "failed", "hung"))
    if len(summary):
        told = [
            tuple(value_words(each) if isinstance(each, float) else each for each in row)
            for row in summary[list(_SUMMARY)].head(ROWS).itertuples(index=False)
        ]
        shown += table(list(told), _SUMMARY) + values_html(experiment.picture())
    else:
        shown += "<p>No run gave a number.</p>"
    return titled(f"Experiment {experiment.id[:SHORT] or '(not kept)'}", shown)


def values_html(picture: Any) -> str:
    """Show the picture of an experiment's values as nothing but a picture."""
    return as_image(on_paper(picture.svg), "every value, medians, quartiles")


def ran_html(ran: Any) -> str:
    """Show what a command in a guest did: how it ended, and the beginning of what it said."""
    rows: list[tuple[object, ...]] = [
        ("ended", "its time was over" if ran.timed_out else f"exit code {ran.exit_code}"),
        ("took", f"{ran.seconds:.2f} s by {ran.how}"),
        ("said", f"{len(ran.stdout):,} bytes, errors {len(ran.stderr):,} bytes" + (", cut" * ran.truncated)),
    ]
    return titled("Command in the guest", table(rows) + said(ran.stdout, "output") + said(ran.stderr, "errors"))


def trial_html(trial: Any) -> str:
    """Show a trial: of which guest, how it is, when it goes back by itself, and what watches it."""
    status = trial.status
    left = "-" if status.seconds_left is None else f"{status.seconds_left:.0f} s from now"
    probe = ", ".join(f"{name} {value}" for name, value in status.probe.items()) or "none"
    rows: list[tuple[object, ...]] = [
        ("guest", status.guest_name),
        ("state", status.state + (f": {status.why}" if status.why else "")),
        ("taken to", status.target[:SHORT]),
        ("safety capture", status.safety[:SHORT] if status.safety else "not yet"),
        ("begun", when(status.begun_ns)),
        ("goes back by itself", left),
        ("probe", f"{probe}; asked {status.probed} times, {status.failed} failures in a row"),
    ]
    end = status.begun_ns + round(status.commit_within * 1e9)
    picture = line_picture([(status.begun_ns, "begun"), (end, "goes back unless committed")])
    return titled(f"Trial {trial.id[:8]}", table(rows) + as_image(picture, f"a trial, {status.state}"))


def segment_html(segment: Any) -> str:
    """Show a segment: what its hub says of itself, and its packets by protocol."""
    status = segment.status
    rows: list[tuple[object, ...]] = [("segment", segment.name), ("running", "yes" if segment.running else "no")]
    rows += [(name, status[name]) for name in ("frames", "bytes", "dropped", "why") if status.get(name)]
    if not segment.pcap.exists():
        return titled("Segment", table(rows) + "<p>No packets yet.</p>")
    packets = segment.packets(limit=100_000)
    counts = [(str(name), int(count)) for name, count in packets["protocol"].value_counts().items()]
    picture = bars_picture([(name, count, f"{count:,} packets") for name, count in counts], "packets by protocol")
    return titled("Segment", table(rows) + as_image(picture, f"{len(packets):,} packets by protocol"))


def exact_html(recording: Any) -> str:
    """Show an exact recording: of which machine, how long, what its console printed last."""
    found = recording.description
    rows: list[tuple[object, ...]] = [
        ("machine", f"{found.machine.name}, {found.machine.memory_mib} MiB"),
        ("recorded", f"{when(found.time_ns)} by QEMU {found.qemu}"),
        ("instructions", f"{found.begins:,} to {found.icount:,}"),
        ("memory at the end", found.ram_digest[:SHORT]),
        ("begins", _beginning(found)),
    ]
    points = [(found.begins, "begins", f"{found.begins:,}"), (found.icount, "ends", f"{found.icount:,}")]
    shown = table(rows) + as_image(axis_picture(points), f"{found.icount - found.begins:,} instructions")
    return titled(f"Exact recording {recording.id[:8]}", shown + said(recording.console[-1000:], "end of the console"))


def _beginning(found: Any) -> str:
    if found.capture:
        return f"at capture {found.capture[:SHORT]}"
    return f"where {found.parent[:8]} ends" if found.parent else "with a boot"


def outcome_html(outcome: Any) -> str:
    """Show how a replay ended."""
    rows: list[tuple[object, ...]] = [
        ("ended", f"hung: {outcome.why}" if outcome.hung else "where it was asked to"),
        ("instructions", f"{outcome.icount:,}"),
        ("took", f"{outcome.seconds:.1f} s"),
        ("memory", outcome.ram_digest[:SHORT] or "-"),
    ]
    return titled("Replay", table(rows) + said(outcome.console[-1000:], "end of the console"))


def last_write_html(found: Any) -> str:
    """Show the instruction by which bytes took their value."""
    rows: list[tuple[object, ...]] = [
        ("after", f"{found.after:,} instructions: {found.before.hex(' ')}"),
        ("by", f"{found.by:,} instructions: {found.value.hex(' ')}"),
        ("instruction", f"at {found.rip:#x}, {'user' if found.cpl == 3 else 'kernel'}, page table {found.cr3:#x}"),
        ("found with", f"{found.replays} replays"),
    ]
    points = [(found.after, "the old value", f"{found.after:,}"), (found.by, "the new value", f"{found.by:,}")]
    return titled("Last write", table(rows) + as_image(axis_picture(points), "from the old value to the new"))


RESULTS: dict[tuple[str, str], Callable[[Any], str]] = {
    ("workbench.experiment.picture", "Picture"): values_html,
    ("workbench.experiment.result", "Experiment"): experiment_html,
    ("workbench.inside.ran", "Ran"): ran_html,
    ("workbench.replay.bisect", "Bisection"): bisection_html,
    ("workbench.replay.drive", "Replay"): driven_html,
    ("workbench.replay.exact.doors", "ExactRecording"): exact_html,
    ("workbench.replay.exact.replaying", "ReplayOutcome"): outcome_html,
    ("workbench.replay.exact.search", "LastWrite"): last_write_html,
    ("workbench.replay.refine", "Refinement"): refinement_html,
    ("workbench.rewind.network_segment", "Segment"): segment_html,
    ("workbench.trial.trial", "Trial"): trial_html,
}
"""Module and name of a class, and what shows it."""
