"""`workbench bench`: measure this host beside the peers, in a process of its own (`bench` sits above this room)."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

from workbench.cli.output import Output

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser("bench", parents=[common], help="measure captures, rewinds and clones beside their peers")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the measurements."""
    words = [sys.executable, "-m", "workbench.bench", "--connect", arguments.connect]
    words += ["--quick"] if arguments.quick else []
    words += ["--json", "-"] if output.as_json else []
    return subprocess.run(words, check=False).returncode
