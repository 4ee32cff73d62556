"""`workbench rewind`: plan a rewind, show it, and do it once it is confirmed."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from workbench.cli.output import Output
from workbench.cli.text import inert, short
from workbench.cli.words import WHEN, examples

if TYPE_CHECKING:
    from workbench.case import Case, Clone, RewindPlan, Rewound

__all__ = ["add", "add_words", "carry_out"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "rewind",
        parents=[common],
        help="go back: a clone of the past, or the guest itself",
        description="Show what going back means, then do it. Test mode starts a clone beside the guest at once.\n"
        "Production mode takes the guest itself back, in place, and only if its name is confirmed.",
        epilog=examples(
            "workbench rewind before:alert-7 --mode test",
            "workbench rewind -5m --mode production --plan",
            "workbench rewind -5m --mode production --confirm web1",
        ),
    )
    parser.add_argument("when", metavar="WHEN", help=WHEN)
    parser.add_argument("--mode", choices=("test", "production"), required=True, help="a clone, or the guest itself")
    parser.add_argument("--network", action="store_true", help="leave the clone's network as the guest has it")
    add_words(parser)
    parser.set_defaults(run=run)


def add_words(parser: argparse.ArgumentParser) -> None:
    """Add the words of whatever changes the guest itself."""
    parser.add_argument("--plan", action="store_true", help="only show what would be done")
    parser.add_argument("--confirm", metavar="NAME", help="the guest's name: needed to change the guest itself")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Plan and execute."""
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case:
        plan = case.plan_rewind(case.moment(arguments.when, arguments.guest), mode=arguments.mode)
        return carry_out(case, plan, arguments, output, network=arguments.network)


def carry_out(
    case: Case, plan: RewindPlan, arguments: argparse.Namespace, output: Output, *, network: bool = False
) -> int:
    """Show a plan, ask for what is missing, execute it, and tell."""
    if not output.as_json:
        # A name with line breaks must not add lines to the plan.
        shown = replace(plan, guest_name=inert(plan.guest_name), reshaped=tuple(inert(each) for each in plan.reshaped))
        output.say("\n".join(inert(line, 1000) for line in str(shown).splitlines()))
    if arguments.plan:
        if output.as_json:
            output.document(_planned(plan))
        return 0
    confirm = arguments.confirm
    if plan.mode == "production" and confirm is None:
        confirm = output.ask(f"Type the guest's name ({inert(plan.guest_name)}) to take the guest itself back: ")
    with output.progress() as progress:
        done = case.rewind(plan, confirm=confirm, network=network, progress=progress)
    _tell(done, plan, output)
    return 0


def _planned(plan: RewindPlan) -> dict[str, Any]:
    return {
        "guest": plan.guest_name,
        "mode": plan.mode,
        "target": plan.target.id,
        "present": plan.present.id,
        "pages": plan.pages,
        "clusters": plan.clusters,
        "left_behind": plan.left_behind,
        "reshaped": list(plan.reshaped),
        "seconds_expected": plan.seconds_expected,
    }


def _tell(done: Rewound | Clone, plan: RewindPlan, output: Output) -> None:
    from workbench.case import Rewound

    if isinstance(done, Rewound):
        _tell_rewound(done, plan, output)
    else:
        _tell_clone(done, output)


def _tell_clone(clone: Clone, output: Output) -> None:
    record = clone.record
    if output.as_json:
        output.document(asdict(record))
        return
    output.say(f"Clone {inert(record.name)} runs, started in {record.seconds:.2f} s.")
    if record.thaw:
        output.say(f"Its file systems had been frozen for the capture: {inert(record.thaw, 1000)}.")
    if record.directory:  # not where a service runs it
        output.say(f"Its files: {inert(record.directory, 1000)}, its sockets: {inert(record.sockets, 1000)}")
    output.say(f"Remove it with: workbench clone rm {inert(record.name)}")


def _tell_rewound(done: Rewound, plan: RewindPlan, output: Output) -> None:
    if output.as_json:
        told = {name: getattr(done, name) for name in ("how", "pages", "clusters", "parts_ns", "thaw")}
        ends = {"target": done.target.id, "safety": done.safety.id, "downtime_ms": done.downtime_ns / 1e6}
        output.document({**told, **ends})
        return
    output.say(
        f"{inert(plan.guest_name)} is back at {short(done.target.id)} ({done.how}): {done.pages} pages and "
        f"{done.clusters} clusters, {done.downtime_ns / 1e6:.0f} ms standing still."
    )
    if done.thaw:
        output.say(f"Its file systems had been frozen for the capture: {inert(done.thaw, 1000)}.")
    output.say(f"Undo it with: workbench undo --confirm {inert(plan.guest_name)}")
