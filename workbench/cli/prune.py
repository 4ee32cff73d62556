"""`workbench prune`: drop captures by age and size; the plan by default, the deed only where it is asked for."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from workbench.cli.output import Output
from workbench.cli.text import inert
from workbench.cli.words import examples

if TYPE_CHECKING:
    import pandas as pd

    from workbench.case import PrunePlan

__all__ = ["add"]

_REASONS = 12


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "prune",
        parents=[common],
        help="drop old captures and free their space",
        description="Say which captures would be dropped, and what that frees; with --execute, do it. Captures go on\n"
        "meanwhile. Marks, holds, the first and newest of every branch, what a rewind can be undone with and\n"
        "what clones run from are never dropped.",
        epilog=examples(
            "workbench prune --keep 'all for 10m, 1m for 1d, 1h for 30d'",
            "workbench prune --keep 'all for 1h, 1m for 7d, at most 50 GB' --execute",
        ),
    )
    parser.add_argument("--keep", metavar="TIERS", required=True, help="tiers, and a limit of bytes if there is one")
    parser.add_argument("--execute", action="store_true", help="do it")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Plan, tell, and do it if that was asked."""
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case:
        chosen = case.retained(arguments.keep, arguments.guest)
        with output.progress() as progress:
            plan = case.plan_prune(arguments.keep, arguments.guest, progress=progress)
        over = int(chosen.attrs["over"])
        if not arguments.execute:
            _plan(plan, chosen, over, output)
            return 0
        with output.progress() as progress:
            done = plan.execute(progress)
    if output.as_json:
        output.document({**asdict(done), "over": over})
        return 0
    output.say(f"{done.dropped:,} captures dropped, {done.packs:,} packs removed, {done.freed / 1e6:,.1f} MB freed.")
    if not done.complete:
        output.note("A recording is under way and may still need some of it: the next prune frees the rest.")
    _over(over, output)
    return 0


def _plan(plan: PrunePlan, chosen: pd.DataFrame, over: int, output: Output) -> None:
    counts = chosen.loc[chosen["keep"], "reason"].value_counts()
    if output.as_json:
        drop = [ref.id for ref in plan.drop]
        output.document({"drop": drop, **plan.counts(), "over": over, "reasons": counts.to_dict()})
        return
    output.say(str(plan))
    output.say("What stays:")
    for reason, count in list(counts.items())[:_REASONS]:
        output.say(f"  {count:8,} {inert(str(reason))}")
    if len(counts) > _REASONS:
        output.say(f"           and for {len(counts) - _REASONS} more reasons")
    _over(over, output)
    output.note("Nothing was done: add --execute to do it.")


def _over(over: int, output: Output) -> None:
    if over:
        output.note(f"The limit cannot be held: what is never dropped takes {over / 1e6:,.1f} MB more.")
