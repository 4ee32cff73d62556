"""`workbench clone`: start, list and remove clones of moments."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from workbench.cli import inside
from workbench.cli.output import Output
from workbench.cli.table import Column
from workbench.cli.text import inert, short, when
from workbench.cli.words import WHEN, examples
from workbench.errors import UsageError, WorkbenchError

if TYPE_CHECKING:
    from workbench.case import Clone, Identity

__all__ = ["add", "identity_of"]

_IDENTITY = ("hostname", "mac", "machine-id", "address")


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb and its own verbs."""
    about = "copies of the guest as it was"
    acts = verbs.add_parser(
        "clone",
        help=about,
        description="Start, list and remove copies of the guest as it was; the guest itself is not touched.",
        epilog=examples("workbench clone run -5m --name web1-then", "workbench clone list", "workbench clone rm --all"),
    ).add_subparsers(metavar="ACT", required=True)
    start = acts.add_parser(
        "run", parents=[common], help="start a clone of a moment", epilog=examples("workbench clone run -5m")
    )
    start.add_argument("when", metavar="WHEN", help=WHEN)
    start.add_argument("--name", help="its domain name")
    _add_who(start)
    start.add_argument("--paused", action="store_true", help="do not let it run yet")
    start.set_defaults(run=run_start)
    acts.add_parser(
        "list", parents=[common], help="the clones of a case", epilog=examples("workbench clone list --json")
    ).set_defaults(run=run_list)
    gone = acts.add_parser(
        "rm", parents=[common], help="end clones and remove their files", epilog=examples("workbench clone rm --all")
    )
    gone.add_argument("names", metavar="NAME", nargs="*", help="names or UUIDs")
    gone.add_argument("--all", action="store_true", help="all clones of the case")
    gone.set_defaults(run=run_remove)
    inside.add(acts, common)


def _add_who(start: argparse.ArgumentParser) -> None:
    """Add what a clone is connected to, and who it is."""
    start.add_argument(
        "--network",
        nargs="?",
        const="as-guest",
        default="none",
        choices=("none", "as-guest", "shared"),
        help="none (it is cut off), shared (with other clones, on a segment without the host), as-guest (or no word)",
    )
    start.add_argument("--segment", metavar="NAME", help="the segment of --network shared")
    start.add_argument(
        "--identity",
        metavar="WHAT",
        help="who it shall be: `new`, or some of hostname, mac, machine-id, address, each with =VALUE for that one",
    )
    start.add_argument(
        "--clock", choices=("kept", "now"), default="kept", help="its clock: the moment's, or the present"
    )


def identity_of(text: str | None) -> Identity | Literal["new"] | None:
    """Return the identity that `--identity` says.

    Raises
    ------
    UsageError
        If a part of it is none.
    """
    from workbench.case import Identity

    if text is None or text == "new":
        return text  # type: ignore[return-value]
    parts = dict[str, bool | str]()
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if name not in _IDENTITY or (equals and not value):
            raise UsageError(f"no part of an identity: {part!r}", known=", ".join(("new", *_IDENTITY)))
        parts[name.replace("-", "_")] = value if equals else True
    return Identity(**parts)  # type: ignore[arg-type]


def run_start(arguments: argparse.Namespace, output: Output) -> int:
    """Start a clone."""
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case, output.progress() as progress:
        moment = case.moment(arguments.when, arguments.guest)
        clone = moment.clone(
            name=arguments.name,
            network=arguments.network,
            segment=arguments.segment,
            identity=identity_of(arguments.identity),
            clock=arguments.clock,
            run=not arguments.paused,
            progress=progress,
        )
    if output.as_json:
        output.document(asdict(clone.record))
        return 0
    does = "stands, paused" if arguments.paused else "runs"
    output.say(f"{inert(clone.name)} {does}: {short(clone.record.capture)}, in {clone.record.seconds:.2f} s.")
    output.say(f"network: {_network(clone)}; {_who(clone)}; clock: {clone.record.clock}")
    if clone.record.thaw:
        output.say(f"Its file systems had been frozen for the capture: {inert(clone.record.thaw, 1000)}.")
    if clone.record.directory:  # not where a service runs it
        output.say(f"files: {inert(clone.record.directory, 1000)}, sockets: {inert(clone.record.sockets, 1000)}")
    output.say(f"Remove it with: workbench clone rm {inert(clone.name)}")
    return 0


def run_list(arguments: argparse.Namespace, output: Output) -> int:
    """List the clones."""
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case:
        clones = list(case.clones())
    if output.as_json:
        output.document([asdict(clone.record) for clone in clones])
        return 0
    if not clones:
        output.say("This case has no clones.")
        return 0
    columns = (
        *(Column("name", wraps=True), Column("moment"), Column("started (UTC)"), Column("memory")),
        *(Column("network"), Column("who", wraps=True), Column("clock"), Column("on", wraps=True)),
    )
    output.table(columns, [_row(clone) for clone in clones])
    for clone in clones:
        if clone.record.thaw not in ("", "thawed"):
            output.say(
                f"{inert(clone.name)}: its file systems came up frozen; thawed: {inert(clone.record.thaw, 1000)}."
            )
    return 0


def _row(clone: Clone) -> tuple[object, ...]:
    record = clone.record
    began = record.name, short(record.capture), when(record.started_ns), record.memory
    return *began, _network(clone), _who(clone), record.clock, record.uri


def _network(clone: Clone) -> str:
    return f"{clone.record.network} {inert(clone.record.segment)}".strip()


def _who(clone: Clone) -> str:
    """Return what is new in a clone, by its own word."""
    new = ", ".join(f"{name.replace('_', ' ')} {inert(value)}" for name, value in clone.record.identity.items())
    return new or "as its guest"


def run_remove(arguments: argparse.Namespace, output: Output) -> int:
    """Remove clones; one that cannot be removed does not keep the others."""
    from workbench.remote import open_case

    if bool(arguments.names) == arguments.all:
        raise UsageError("say which clones, or --all", cure="See `workbench clone list`.")
    removed, code = [], 0
    with open_case(arguments.case, uri=arguments.connect) as case:
        names = [clone.record.uuid for clone in case.clones()] if arguments.all else arguments.names
        for name in names:
            try:
                removed.append(case.remove_clone(name))
            except WorkbenchError as error:
                output.error(error)
                code = error.exit_code
    if output.as_json:
        output.document([asdict(clone) for clone in removed])
        return code
    for clone in removed:
        output.say(f"{inert(clone.name)} is gone.")
    if not removed and not code:
        output.say("This case has no clones.")
    return code
