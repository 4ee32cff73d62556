"""`workbench vol`: a plugin of Volatility 3, or a question of ours, at any moment."""

from __future__ import annotations

import argparse
import json
from typing import Any

from workbench.cli.frames import show_frame
from workbench.cli.output import Output
from workbench.cli.words import WHEN, examples
from workbench.errors import UsageError

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "vol",
        parents=[common],
        help="ask the memory of a moment: Volatility's plugins and ours",
        description="Run a plugin on the memory of a moment. No symbol package and no dump are needed; what was asked\n"
        "once is kept. Lists are written with commas or as JSON: pid=1,451 or pid=[1,451].",
        epilog=examples(
            "workbench vol latest workbench.processes",
            "workbench vol -5m linux.lsof pid=1",
            "workbench vol before:alert-7 linux.malware.malfind --json",
            "workbench vol --list",
        ),
    )
    parser.add_argument("moment", metavar="MOMENT", nargs="?", help=WHEN)
    parser.add_argument("plugin", metavar="PLUGIN", nargs="?", help="linux.pslist.PsList, workbench.processes ...")
    parser.add_argument("arguments", metavar="NAME=VALUE", nargs="*", help="the plugin's own arguments")
    parser.add_argument("--list", action="store_true", help="list the plugins and what they take")
    parser.add_argument(
        "--symbols", metavar="ISF", help="a symbol table, or a folder of them (Windows), instead of the memory's own"
    )
    parser.add_argument("--timeout", type=float, default=600.0, metavar="S", help="give up after so long (default 600)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Ask, and print the answer; the exit code is 8 if it broke off."""
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case, output.progress() as progress:
        if arguments.list:
            show_frame(output, case.plugins())
            return 0
        if arguments.plugin is None:
            raise UsageError("a moment and a plugin are needed", cure="See `workbench vol --help`.")
        if arguments.symbols:
            case.use_symbols(arguments.symbols)
        moment = case.moment(arguments.moment, arguments.guest)
        options = dict(_option(each) for each in arguments.arguments)
        answer = moment.vol(arguments.plugin, timeout=arguments.timeout, progress=progress, **options)
    show_frame(output, answer)
    return 8 if answer.attrs["partial"] else 0


def _option(word: str) -> tuple[str, Any]:
    """Return the name and value of `name=value`.

    Raises
    ------
    UsageError
        If there is no "=".
    """
    name, equals, text = word.partition("=")
    if not equals or not name.replace("-", "_").isidentifier():
        raise UsageError(f"not NAME=VALUE: {word!r}", cure="See `workbench vol --list`.")
    return name.replace("-", "_"), _value(text)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return [_value(part) for part in text.split(",")] if "," in text else text
