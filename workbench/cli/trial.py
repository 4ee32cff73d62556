"""`workbench trial`: take a guest itself back with a change, on trial; commit it or go back.

Refuses to begin without the guest's name confirmed. A trial that was begun here is detached: once the change is applied
it waits for `workbench trial commit`, watched by a process of its own, and goes back if none comes.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.output import Output
from workbench.cli.table import Column
from workbench.cli.text import inert, short, when
from workbench.cli.words import WHEN, examples
from workbench.errors import UsageError

if TYPE_CHECKING:
    from workbench.case import Case

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb and its own verbs."""
    acts = verbs.add_parser(
        "trial",
        help="the guest itself taken back with a change, kept only if it is committed in time",
        description="Take the guest itself to a moment, apply a change in it, and go back by itself unless that is\n"
        "committed in time.",
        epilog=examples(
            "workbench trial start latest --script fix.sh --commit-within 300 --confirm web1",
            "workbench trial status",
            "workbench trial commit",
        ),
    ).add_subparsers(metavar="ACT", required=True)
    _add_start(acts, common)
    for name, about, act in (
        ("status", "how the trials are", run_status),
        ("commit", "keep the guest as it is", run_commit),
        ("undo", "go back now", run_undo),
    ):
        parser = acts.add_parser(name, parents=[common], help=about, epilog=examples(f"workbench trial {name}"))
        if name != "status":
            parser.add_argument("id", metavar="ID", nargs="?", help="needless where one is under way")
        parser.set_defaults(run=act)


def _add_start(acts: Any, common: argparse.ArgumentParser) -> None:
    example = 'workbench trial start -5m --script fix.sh --commit-within 300 --probe-cmd "nginx -t" --confirm web1'
    start = acts.add_parser("start", parents=[common], help="begin one", epilog=examples(example))
    start.add_argument("when", metavar="WHEN", help=WHEN)
    start.add_argument("--script", type=Path, metavar="FILE", help="the change: a script for the guest's `sh`")
    start.add_argument("--commit-within", type=float, required=True, metavar="SECONDS", help="else it goes back")
    start.add_argument("--confirm", metavar="NAME", help="the guest's name")
    probe = start.add_mutually_exclusive_group()
    probe.add_argument("--probe-url", metavar="URL", help="it is well if this answers with 200 to 399")
    probe.add_argument("--probe-tcp", metavar="HOST:PORT", help="it is well if this accepts a connection")
    probe.add_argument("--probe", metavar="NAME", help="of a service's case: a probe that its settings name")
    probe.add_argument("--probe-cmd", metavar="CMD", help="it is well if this ends with 0 in the guest")
    start.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="between two probes (5)")
    start.add_argument("--failures", type=int, default=3, metavar="N", help="failed probes in a row end it (3)")
    start.set_defaults(run=run_start)


def _probe(arguments: argparse.Namespace) -> Any:
    """Return a probe; its name, where a service is to know it."""
    from workbench.case import CommandProbe, HttpProbe, TcpProbe

    if arguments.probe:
        return arguments.probe
    if arguments.probe_url:
        return HttpProbe(arguments.probe_url)
    if arguments.probe_cmd:
        return CommandProbe(arguments.probe_cmd)
    if arguments.probe_tcp:
        host, _, port = arguments.probe_tcp.rpartition(":")
        if not host or not port.isdecimal():
            raise UsageError("no HOST:PORT", found=arguments.probe_tcp)
        return TcpProbe(host, int(port))
    return None


def run_start(arguments: argparse.Namespace, output: Output) -> int:
    """Begin a trial."""
    from workbench.remote import open_case

    with closing(open_case(arguments.case, uri=arguments.connect)) as case:
        moment = case.moment(arguments.when, arguments.guest)
        name = moment.guest.name
        confirm = arguments.confirm
        if confirm is None:
            confirm = output.ask(f"Type the guest's name ({inert(name)}) to change the guest itself: ")
        with output.progress() as progress:
            trial = case.trial(
                moment,
                arguments.script,
                commit_within=arguments.commit_within,
                confirm=confirm or "",
                probe=_probe(arguments),
                every=arguments.every,
                failures=arguments.failures,
                detached=True,
                progress=progress,
            )
        status = trial.status
    if output.as_json:
        output.document(_told(status))
        return 0
    output.say(
        f"{inert(name)} is at {short(status.target)} on trial, and goes back in {status.seconds_left or 0:.0f} s."
    )
    output.say(f"Keep it with: workbench trial commit {status.id[:8]}")
    return 0


def run_status(arguments: argparse.Namespace, output: Output) -> int:
    """Show the trials of a case."""
    from workbench.remote import open_case

    with closing(open_case(arguments.case, uri=arguments.connect)) as case:
        found = [(trial.status, trial.watched) for trial in case.trials()]
    if output.as_json:
        output.document([{**_told(status), "watched": watched} for status, watched in found])
        return 0
    if not found:
        output.say("This case has no trials.")
        return 0
    columns = (*(Column(name) for name in ("id", "guest", "moment", "begun (UTC)", "state")), Column("why", wraps=True))
    rows = []
    for status, watched in found:
        left = "" if status.seconds_left is None else f", {status.seconds_left:.0f} s left"
        unwatched = "" if watched or status.ended else ", nobody watches it"
        told = f"{status.state}{left}{unwatched}"
        rows.append((status.id[:8], status.guest_name, short(status.target), when(status.begun_ns), told, status.why))
    output.table(columns, rows)
    return 0


def run_commit(arguments: argparse.Namespace, output: Output) -> int:
    """Keep the guest as it is."""
    return _end(arguments, output, commit=True)


def run_undo(arguments: argparse.Namespace, output: Output) -> int:
    """Go back now."""
    return _end(arguments, output, commit=False)


def _end(arguments: argparse.Namespace, output: Output, *, commit: bool) -> int:
    from workbench.remote import open_case

    with closing(open_case(arguments.case, uri=arguments.connect)) as case:
        trial = _one(case, arguments.id)
        status = trial.commit() if commit else trial.undo()
    if output.as_json:
        output.document(_told(status))
    else:
        output.say(f"The trial of {inert(status.guest_name)} is {status.state}: {inert(status.why, 1000)}")
    return 0


def _one(case: Case, name: str | None) -> Any:
    """Return the trial of this id, or the only one under way."""
    fitting = [trial for trial in case.trials() if (trial.id.startswith(name) if name else not trial.status.ended)]
    if len(fitting) != 1:
        raise UsageError(
            "no one trial is meant", known=[each.id[:8] for each in case.trials()], cure="Name it by its id."
        )
    return fitting[0]


def _told(status: Any) -> dict[str, Any]:
    return {**asdict(status), "seconds_left": status.seconds_left}
