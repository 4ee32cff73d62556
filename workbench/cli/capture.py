"""`workbench capture`: one capture of a running guest, with a reason."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.case import Case
from workbench.cli import recording
from workbench.cli.output import Output

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser("capture", parents=[common], help="take one capture of a running guest")
    recording.add_words(parser)
    parser.add_argument("--reason", default="", help="why it is taken")
    parser.add_argument("--mark", metavar="NAME", help="name it in the timeline")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Take the capture."""
    with (
        Case.open_or_create(arguments.case, uri=arguments.connect) as case,
        output.progress() as progress,
        case.record(arguments.name, progress=progress, **recording.options(arguments)) as running,
    ):
        moment = running.capture(arguments.reason, mark=arguments.mark)
    if output.as_json:
        output.document(recording.brief(moment.record))
    else:
        output.say(recording.line(moment.record))
    return 0
