"""`workbench bisect`: find when something came about, with a few questions."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from workbench.cli.output import Output
from workbench.cli.table import Column
from workbench.cli.text import inert
from workbench.cli.words import WHEN, examples
from workbench.errors import UsageError

if TYPE_CHECKING:
    from workbench.case import Bisection, Predicate

__all__ = ["add"]

_COLUMNS = (
    Column("capture"),
    Column("time"),
    Column("answer"),
    Column("seconds", right=True),
    Column("why", wraps=True),
)
_SHORT = 12


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "bisect",
        parents=[common],
        help="find when something came about",
        description="Find the capture from which on a file exists, a process runs or a plugin reports something,\n"
        "with about ten questions for a thousand captures. It must not be so at A and be so at B, which\n"
        "descends from A. If it came and went several times between them, one of those times is found.",
        epilog=examples(
            "workbench bisect --file /var/spool/cron/crontabs/root --from -2h --to latest",
            "workbench bisect --process sshd --gone --from clean",
            "workbench bisect --plugin linux.lsmod --where Name=rootkit --from clean --refine",
        ),
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--file", metavar="PATH", help="something is at this path of the guest")
    what.add_argument("--process", metavar="NAME", help="a process of this name, or of the program at this path, runs")
    what.add_argument("--plugin", metavar="PLUGIN", help="the plugin's table has a row (that fits --where)")
    parser.add_argument("--where", metavar="COLUMN=VALUE", action="append", help="what the row has; may be repeated")
    parser.add_argument("--disk", action="store_true", help="with --file: look at the disk alone, which is quicker")
    parser.add_argument("--gone", action="store_true", help="find when it ended to be so")
    parser.add_argument("--from", dest="since", metavar="A", required=True, help=f"not so yet: {WHEN}")
    parser.add_argument("--to", dest="until", metavar="B", default="latest", help="so already (default: latest)")
    parser.add_argument(
        "--refine", action="store_true", help="then run clones on from the earlier capture, and look into those"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Bisect, and print what was found."""
    from workbench.remote import open_case

    predicate = _predicate(arguments)
    with open_case(arguments.case, uri=arguments.connect) as case, output.progress() as progress:
        ends = (arguments.since, arguments.until)
        found = case.bisect(predicate, ends, arguments.guest, refine=arguments.refine, progress=progress)
    if output.as_json:
        output.document(_document(found))
        return 0
    output.say(
        f"{inert(found.question)}: first at {found.first.id[:_SHORT]} ({found.first.time}), not yet at "
        f"{found.last_before.id[:_SHORT]}, {found.span:.3f} s before."
    )
    rows = [(each[0][:_SHORT], *map(str, each[1:3]), f"{each[3]:.2f}", inert(each[4])) for each in _rows(found)]
    output.table(_COLUMNS, rows)
    _say_more(found, output)
    return 0


def _predicate(arguments: argparse.Namespace) -> Predicate:
    from workbench.case import file_exists, plugin_reports, process_runs

    if arguments.where and not arguments.plugin:
        raise UsageError("--where is for --plugin", cure="See `workbench bisect --help`.")
    if arguments.disk and not arguments.file:
        raise UsageError("--disk is for --file", cure="See `workbench bisect --help`.")
    if arguments.file:
        found = file_exists(arguments.file, source="disk" if arguments.disk else None)
    elif arguments.process:
        found = process_runs(arguments.process)
    else:
        found = plugin_reports(arguments.plugin, dict(_pair(each) for each in arguments.where or ()) or None)
    return ~found if arguments.gone else found


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise UsageError(f"not COLUMN=VALUE: {word!r}", cure="See `workbench bisect --help`.")
    return name, value


def _rows(found: Bisection) -> list[tuple[Any, ...]]:
    return list(found.evaluations.itertuples(index=False, name=None))


def _say_more(found: Bisection, output: Output) -> None:
    if found.unknown:
        output.say(f"{len(found.unknown)} captures between the two could not be told.")
    if found.refused:
        output.say(f"Not refined: {inert(found.refused, 1000)}")
    elif found.refinement is not None:
        output.say(f"Refined: {found.refinement}.")


def _document(found: Bisection) -> dict[str, Any]:
    refined = found.refinement
    return {
        "question": found.question,
        "first": found.first.id,
        "last_before": found.last_before.id,
        "span_s": found.span,
        "unknown": found.unknown,
        "captures": found.captures,
        "evaluations": found.evaluations.to_dict("records"),
        "refused": found.refused,
        "refinement": None
        if refined is None
        else {
            "held": refined.held,
            "span_s": refined.span,
            "after_s": refined.after,
            "first": refined.first.id if refined.held else None,
            "last_before": refined.last_before.id if refined.held else None,
            "driven_s": refined.driven,
            "evaluations": refined.evaluations.to_dict("records"),
        },
    }
