"""`workbench timeline`: every capture of a guest."""

from __future__ import annotations

import argparse
import math
from typing import Any

from workbench.cli.output import Output
from workbench.cli.table import Column
from workbench.cli.text import ABSENT, inert, number, short, thousands, when
from workbench.cli.words import examples
from workbench.errors import UsageError

__all__ = ["add"]

_TIME, _CAPTURE, _BRANCH = Column("time (UTC)"), Column("capture"), Column("br", right=True)
_MODE, _PAUSE, _PAGES = Column("mode"), Column("pause ms", right=True), Column("pages", right=True)
_CLUSTERS, _STORED, _WHY = Column("clusters", right=True), Column("kB", right=True), Column("marks; reason", wraps=True)
_WIDE = (_TIME, _CAPTURE, _BRANCH, _MODE, _PAUSE, _PAGES, _CLUSTERS, _STORED, _WHY)
_NARROW = (_TIME, _CAPTURE, _BRANCH, _PAUSE, _STORED, _WHY)
_LONGEST = 80


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "timeline",
        parents=[common],
        help="what was captured, and when",
        description="List the captures of a guest, oldest first, with their marks; `br` is the branch of history: a\n"
        "rewind opens the next. A narrow terminal gets the columns that matter most.",
        epilog=examples("workbench timeline --last 20", "workbench timeline --branch 1 --json"),
    )
    parser.add_argument("--last", type=int, metavar="N", help="only the newest N")
    parser.add_argument("--branch", type=int, metavar="B", help="only one branch of history")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the timeline."""
    from workbench.remote import open_case

    if arguments.last is not None and arguments.last < 1:
        raise UsageError("--last must be at least 1", found=arguments.last, cure="Leave it out to see everything.")
    with open_case(arguments.case, uri=arguments.connect) as case:
        frame = case.timeline(arguments.guest)
    branch_of = dict(zip(frame["id"], frame["branch"], strict=True))
    if arguments.branch is not None:
        frame = frame[frame["branch"] == arguments.branch]
    if arguments.last is not None:
        frame = frame.tail(arguments.last)
    rows = frame.to_dict("records")
    if output.as_json:
        output.document(rows)
    elif not rows:
        output.say("No captures.")
    else:
        columns = _NARROW if output.narrow else _WIDE
        cells = [_cells(row, branch_of) for row in rows]
        output.table(columns, [[each[column.name] for column in columns] for each in cells])
    return 0


def _cells(row: Any, branch_of: dict[str, int]) -> dict[str, str]:
    """Return a row by the names of the columns."""
    pause = row["pause_ms"]
    return {
        _TIME.name: when(row["time"].value),
        _CAPTURE.name: short(row["id"]),
        _BRANCH.name: str(row["branch"]),
        _MODE.name: row["mode"],
        _PAUSE.name: ABSENT if math.isnan(pause) else f"{pause:.1f}",
        _PAGES.name: number(row["dirty_pages"]),
        _CLUSTERS.name: number(row["dirty_clusters"]),
        _STORED.name: thousands(row["stored_bytes"]),
        _WHY.name: _why(row, branch_of),
    }


def _why(row: Any, branch_of: dict[str, int]) -> str:
    """Return marks, reason, and where a branch begins."""
    told = [inert(text, _LONGEST) for text in (row["marks"], row["reason"]) if text]
    if branch_of.get(row["parent"], row["branch"]) != row["branch"]:
        told.append(f"branches from {short(row['parent'])}")
    return "; ".join(told)
