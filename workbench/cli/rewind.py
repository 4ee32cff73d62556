"""`workbench rewind`: plan a rewind, show it, and do it once it is confirmed."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import Any

from workbench.case import Case, Clone, RewindPlan, Rewound
from workbench.cli.output import Output, inert

__all__ = ["add", "carry_out"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "rewind",
        parents=[common],
        help="go back: a clone of the past, or the guest itself",
        description="Test mode starts a clone beside the guest. Production mode takes the guest itself back, in place.",
    )
    parser.add_argument("when", metavar="WHEN", help="a time, -30s, an id, a mark, before:MARK")
    parser.add_argument("--mode", choices=("test", "production"), required=True, help="a clone, or the guest itself")
    parser.add_argument("--plan", action="store_true", help="only show what would be done")
    parser.add_argument("--confirm", metavar="NAME", help="the guest's name: needed for production")
    parser.add_argument("--network", action="store_true", help="leave the clone's network as the guest has it")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Plan and execute."""
    with Case(arguments.case, uri=arguments.connect) as case:
        plan = case.plan_rewind(case.moment(arguments.when, arguments.guest), mode=arguments.mode)
        return carry_out(case, plan, arguments, output, network=arguments.network)


def carry_out(
    case: Case, plan: RewindPlan, arguments: argparse.Namespace, output: Output, *, network: bool = False
) -> int:
    """Show a plan, ask for what is missing, execute it, and tell."""
    if arguments.plan:
        output.document(_planned(plan)) if output.as_json else output.say(inert_lines(str(plan)))
        return 0
    if not output.as_json:
        output.say(inert_lines(str(plan)))
    confirm = arguments.confirm
    if plan.mode == "production" and confirm is None and sys.stdin.isatty() and not output.as_json:
        confirm = input(f"Type the guest's name ({inert(plan.guest_name)}) to take the guest itself back: ").strip()
    with output.progress() as progress:
        done = case.rewind(plan, confirm=confirm, network=network, progress=progress)
    _tell(done, plan, output)
    return 0


def inert_lines(text: str) -> str:
    """Return text of several lines with each made inert."""
    return "\n".join(inert(each, 500) for each in text.splitlines())


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
    if isinstance(done, Clone):
        if output.as_json:
            output.document(asdict(done.record))
        else:
            output.say(f"Clone {inert(done.name)} runs, started in {done.record.seconds:.2f} s.")
            output.say(f"Its files: {done.directory}, its sockets: {done.record.sockets}")
            output.say(f"Remove it with: workbench clone rm {inert(done.name)}")
        return
    told = {
        "how": done.how,
        "target": done.target.id,
        "safety": done.safety.id,
        "downtime_ms": done.downtime_ns / 1e6,
        "pages": done.pages,
        "clusters": done.clusters,
        "parts_ns": done.parts_ns,
    }
    if output.as_json:
        output.document(told)
        return
    output.say(
        f"{inert(plan.guest_name)} is back at {done.target.id[:12]} ({done.how}): {done.pages} pages and "
        f"{done.clusters} clusters, {done.downtime_ns / 1e6:.0f} ms standing still."
    )
    output.say(f"Undo it with: workbench undo --confirm {inert(plan.guest_name)}")
