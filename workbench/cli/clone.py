"""`workbench clone`: start, list and remove clones of moments."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

import pandas as pd

from workbench.case import Case
from workbench.cli.output import Output, inert
from workbench.errors import UsageError

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb and its own verbs."""
    acts = verbs.add_parser("clone", help="copies of the guest as it was").add_subparsers(metavar="ACT", required=True)
    start = acts.add_parser("run", parents=[common], help="start a clone of a moment")
    start.add_argument("when", metavar="WHEN", help="a time, -30s, an id, a mark, before:MARK")
    start.add_argument("--name", help="its domain name")
    start.add_argument("--network", action="store_true", help="leave its network as the guest has it")
    start.add_argument("--paused", action="store_true", help="do not let it run yet")
    start.set_defaults(run=run_start)
    shown = acts.add_parser("list", parents=[common], help="the clones of a case")
    shown.set_defaults(run=run_list)
    gone = acts.add_parser("rm", parents=[common], help="end clones and remove their files")
    gone.add_argument("names", metavar="NAME", nargs="*", help="names or UUIDs")
    gone.add_argument("--all", action="store_true", help="all clones of the case")
    gone.set_defaults(run=run_remove)


def run_start(arguments: argparse.Namespace, output: Output) -> int:
    """Start a clone."""
    with Case(arguments.case, uri=arguments.connect) as case, output.progress() as progress:
        moment = case.moment(arguments.when, arguments.guest)
        clone = moment.clone(
            name=arguments.name, network=arguments.network, run=not arguments.paused, progress=progress
        )
    if output.as_json:
        output.document(asdict(clone.record))
    else:
        output.say(f"{inert(clone.name)}: started in {clone.record.seconds:.2f} s from {clone.record.capture[:12]}")
        output.say(f"files: {clone.directory}, sockets: {clone.record.sockets}")
    return 0


def run_list(arguments: argparse.Namespace, output: Output) -> int:
    """List the clones."""
    with Case(arguments.case, uri=arguments.connect) as case:
        clones = [clone.record for clone in case.clones()]
    if output.as_json:
        output.document([asdict(clone) for clone in clones])
        return 0
    if not clones:
        output.say("This case has no clones.")
        return 0
    rows = [
        (each.name, each.capture[:12], f"{pd.Timestamp(each.started_ns, unit='ns'):%Y-%m-%d %H:%M:%S}", each.uri)
        for each in clones
    ]
    output.table(("name", "moment", "started (UTC)", "on"), rows)
    return 0


def run_remove(arguments: argparse.Namespace, output: Output) -> int:
    """Remove clones."""
    if bool(arguments.names) == arguments.all:
        raise UsageError("say which clones, or --all", cure="See `workbench clone list`")
    with Case(arguments.case, uri=arguments.connect) as case:
        names = [clone.record.uuid for clone in case.clones()] if arguments.all else arguments.names
        removed = [case.remove_clone(name) for name in names]
    if output.as_json:
        output.document([asdict(clone) for clone in removed])
    else:
        for clone in removed:
            output.say(f"{inert(clone.name)} is gone.")
    return 0
