"""`workbench mark`, `hold` and `release`: name a moment, keep it whatever the retention says, and let it go again."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from workbench.cli.output import Output
from workbench.cli.text import inert, short
from workbench.cli.words import WHEN, examples

if TYPE_CHECKING:
    from workbench.model import Mark

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    mark = verbs.add_parser(
        "mark",
        parents=[common],
        help="name a moment",
        description="Name a moment: the name is a moment from then on, and its capture is never pruned.",
        epilog=examples("workbench mark clean latest --note 'before the update'"),
    )
    mark.add_argument("name", metavar="NAME")
    mark.add_argument("moment", metavar="MOMENT", nargs="?", default="latest", help=WHEN)
    mark.add_argument("--note", default="", help="what there is to say of it")
    mark.set_defaults(run=_mark)
    hold = verbs.add_parser(
        "hold",
        parents=[common],
        help="keep a moment whatever the retention says",
        epilog=examples("workbench hold before:alert-7 --note 'case 4711'"),
    )
    hold.add_argument("moment", metavar="MOMENT", nargs="?", default="latest", help=WHEN)
    hold.add_argument("--note", default="", help="why")
    hold.set_defaults(run=_hold)
    release = verbs.add_parser(
        "release",
        parents=[common],
        help="end the holds of a moment",
        epilog=examples("workbench release before:alert-7"),
    )
    release.add_argument("moment", metavar="MOMENT", help=WHEN)
    release.set_defaults(run=_release)


def _mark(arguments: argparse.Namespace, output: Output) -> int:
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case:
        made = case.mark(arguments.name, arguments.moment, note=arguments.note, guest=arguments.guest)
    return _tell([made], "marked", output)


def _hold(arguments: argparse.Namespace, output: Output) -> int:
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case:
        made = case.hold(arguments.moment, arguments.note, arguments.guest)
    return _tell([made], "held", output)


def _release(arguments: argparse.Namespace, output: Output) -> int:
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case:
        ended = case.release(arguments.moment, arguments.guest)
    return _tell(ended, "released", output)


def _tell(marks: list[Mark], what: str, output: Output) -> int:
    if output.as_json:
        output.document([asdict(each) for each in marks])
        return 0
    for each in marks:
        output.say(f"{inert(each.name)}: {short(each.capture or '')} {what}")
    return 0
