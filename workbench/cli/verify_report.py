"""`workbench verify-report`: run a report again and say what differs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench.cli.output import Output
from workbench.cli.report import add_case, case_of
from workbench.cli.table import Column
from workbench.cli.words import examples

__all__ = ["add"]

_DIFFERS = 1


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "verify-report",
        parents=[common],
        help="run a report again and say what differs",
        description="Run the template of a report again on its case, with everything asked anew, and compare: each\n"
        "exhibit, and the page byte for byte. The exit code is 1 if anything differs. Nothing that stands in a report\n"
        "is run.",
        epilog=examples("workbench verify-report report.html --case /var/lib/cases/web1"),
    )
    parser.add_argument("report", type=Path, metavar="REPORT", help="what `workbench report` wrote")
    add_case(parser)
    parser.add_argument("--template", type=Path, metavar="FILE", help="where it was made of an .ipynb of its own")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Verify the report; the exit code is 1 where it is not what the case gives."""
    from workbench.case import Case

    with Case(case_of(arguments), uri=arguments.connect) as case, output.progress() as progress:
        found = case.verify_report(arguments.report, template=arguments.template, progress=progress)
    rows = found.frame.to_dict("records")
    if output.as_json:
        output.document({"same": found.same, "page": found.page, "notes": found.notes, "outputs": rows})
        return 0 if found.same else _DIFFERS
    cells = [[row["exhibit"] or "", row["title"] or row["cell"], row["state"]] for row in rows]
    output.table([Column("exhibit", right=True), Column("title", wraps=True), Column("state")], cells)
    output.say(f"the page, byte for byte: {found.page}")
    for note in found.notes:
        output.note(note)
    output.say("The report is what the case gives." if found.same else "THE REPORT IS NOT WHAT THE CASE GIVES.")
    return 0 if found.same else _DIFFERS
