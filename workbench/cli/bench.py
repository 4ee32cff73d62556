"""`workbench bench`: measure this host beside the peers, in a process of its own (`bench` sits above this room)."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from typing import Any

from workbench.cli.output import Output
from workbench.cli.words import examples

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "bench",
        parents=[common],
        help="measure captures, rewinds and clones beside their peers",
        description="Measure on demo guests of its own. With --json the samples go to standard output.",
        epilog=examples("workbench bench --quick"),
    )
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.add_argument("--only", metavar="NAMES", help="some figures, joined by commas")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the measurements; an interrupt is handed on once, so that the guests of the bench are put away."""
    words = [sys.executable, "-m", "workbench.bench", "--connect", arguments.connect]
    words += ["--quick"] if arguments.quick else []
    words += ["--only", arguments.only] if arguments.only else []
    words += ["--json", "-"] if output.as_json else []
    # A process group of its own: Ctrl-C would else reach it twice, from the terminal and from us.
    child = subprocess.Popen(words, process_group=0)
    try:
        code = child.wait()
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        child.wait()
        raise
    return code if code >= 0 else 128 - code
