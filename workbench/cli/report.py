"""`workbench report`: what happened between two moments, as a page that another analyst can make again."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from workbench.cli.output import Output
from workbench.cli.words import WHEN, examples
from workbench.errors import UnsupportedError, UsageError

__all__ = ["add", "add_case", "case_of"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "report",
        parents=[common],
        help="a report of what happened between two moments",
        description="Run a template notebook on a span of a case and write the report: one HTML file that asks\n"
        "nothing of the network, the same bytes each time. `workbench verify-report` runs it again and compares.",
        epilog=examples(
            "workbench report /var/lib/cases/web1 --from before:alert-7 --to latest -o report.html",
            "workbench report --from -10m --template my.ipynb -o report.html --pdf",
        ),
    )
    add_case(parser)
    parser.add_argument("--from", dest="since", metavar="MOMENT", required=True, help=WHEN)
    parser.add_argument("--to", dest="until", metavar="MOMENT", default="latest", help="default: latest")
    parser.add_argument(
        "--template", default="incident", metavar="NAME", help="ours by name, or an .ipynb (default: incident)"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="new; .html")
    parser.add_argument("--pdf", action="store_true", help="print it as well, beside it; needs Chromium")
    parser.add_argument("--interactive", action="store_true", help="widgets that work in the page; cannot be verified")
    parser.set_defaults(run=run)


def add_case(parser: argparse.ArgumentParser) -> None:
    """Let the case be the first word, as well as what --case or WORKBENCH_CASE says."""
    # SUPPRESS as a default: left out, the word does not undo --case. Only plain text lets argparse recognise it.
    parser.add_argument(
        "place", metavar="CASE", nargs="?", default=argparse.SUPPRESS, help="the case; else as --case says"
    )
    parser.add_argument("--case", metavar="DIR", default=os.environ.get("WORKBENCH_CASE", ""), help="the case")
    parser.add_argument("--guest", metavar="NAME", help="which guest of the case; needless where it has one")


def case_of(arguments: argparse.Namespace) -> Path:
    """Return the case that is named.

    Raises
    ------
    UsageError
        If none is.
    UnsupportedError
        If it is a service's.
    """
    named = getattr(arguments, "place", "") or arguments.case
    if not named:
        raise UsageError("no case is named", cure="Name it, or set WORKBENCH_CASE.")
    if "://" in str(named):
        raise UnsupportedError("reports are made and verified where the case is", cure="Do it on the service's host.")
    return Path(named)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Make the report."""
    from workbench.case import Case, print_pdf

    with Case(case_of(arguments), uri=arguments.connect) as case, output.progress() as progress:
        made = case.report(
            arguments.output,
            arguments.since,
            arguments.until,
            arguments.guest,
            template=arguments.template,
            interactive=arguments.interactive,
            progress=progress,
        )
    files = {"report": str(made)}
    if arguments.pdf:
        files["pdf"] = str(print_pdf(made, made.with_suffix(".pdf")))
    if output.as_json:
        output.document(files)
    else:
        output.say("\n".join(files.values()))
    return 0
