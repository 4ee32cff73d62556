"""`workbench token`: names and roles of those who use the service over the network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.output import Output
from workbench.cli.serve import DEFAULT
from workbench.cli.text import inert, when
from workbench.cli.words import examples

if TYPE_CHECKING:
    from workbench.service.identity import Tokens

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "token",
        parents=[common],
        help="make, list and remove the service's tokens",
        description="A token is shown once, when it is made; only its digest is kept.",
        epilog=examples("workbench token add siem --role operator", "workbench token rm siem"),
    )
    parser.add_argument("--settings", type=Path, default=DEFAULT, metavar="FILE", help="default: %(default)s")
    acts = parser.add_subparsers(dest="act", metavar="ACT", required=True)
    make = acts.add_parser("add", help="make a token")
    make.add_argument("name")
    make.add_argument("--role", choices=("viewer", "operator", "admin"), default="viewer")
    make.add_argument("--for", dest="guests", action="append", default=[], metavar="GUEST", help="only for this guest")
    acts.add_parser("list", help="list them")
    remove = acts.add_parser("rm", help="make a token worthless")
    remove.add_argument("name")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Do what was asked."""
    from workbench.service.files import private_directory
    from workbench.service.identity import Tokens
    from workbench.service.settings import read_settings

    settings = read_settings(arguments.settings)
    tokens = Tokens(private_directory(settings.state) / "tokens.json")
    {"add": _make, "list": _list, "rm": _remove}[arguments.act](tokens, arguments, output)
    return 0


def _make(tokens: Tokens, arguments: argparse.Namespace, output: Output) -> None:
    secret = tokens.make(arguments.name, arguments.role, arguments.guests)
    if output.as_json:
        output.document({"name": arguments.name, "role": arguments.role, "token": secret})
    else:
        output.say(secret)
        output.note("It is not shown again.")


def _list(tokens: Tokens, _arguments: argparse.Namespace, output: Output) -> None:
    kept = tokens.all()
    if output.as_json:
        output.document([{"name": each.name, "role": each.role, "guests": each.guests} for each in kept])
        return
    for each in kept:
        seen = ", ".join(inert(name) for name in each.guests) or "all guests"
        output.say(f"{inert(each.name):<24}  {each.role:<8}  {when(each.made_ns)}  {seen}")


def _remove(tokens: Tokens, arguments: argparse.Namespace, _output: Output) -> None:
    tokens.remove(arguments.name)
