"""`make bench`: measure, print a table, write JSON.

Exit code 0 whether or not a reach was met: a figure is told, not judged; 1 where something could not be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from workbench.bench.bisecting import bisecting
from workbench.bench.clones import clone_first_command, clone_memory, clone_small_and_large
from workbench.bench.disks import disks
from workbench.bench.downtime import downtime
from workbench.bench.exactly import replaying
from workbench.bench.forensics import forensics
from workbench.bench.history import resolving
from workbench.bench.host import host_facts
from workbench.bench.memory import memory
from workbench.bench.notebooks import notebooks
from workbench.bench.pause import pause_dirty, pause_quiet
from workbench.bench.pruning import pruning
from workbench.bench.result import Result
from workbench.bench.service import service
from workbench.bench.setting import Bench
from workbench.bench.slowdown import slowdown
from workbench.bench.status import status_in_memory
from workbench.bench.storage import storage
from workbench.bench.table import markdown, terminal_table
from workbench.demo.daemon import ensure_daemon
from workbench.errors import WorkbenchError

__all__ = ["FIGURES", "main"]

FIGURES: dict[str, Callable[[Bench], Sequence[Result]]] = {
    "pause": pause_quiet,
    "dirty": pause_dirty,
    "slowdown": slowdown,
    "rewind": downtime,
    "clone": clone_small_and_large,
    "clone-command": clone_first_command,
    "share": clone_memory,
    "storage": storage,
    "history": resolving,
    "prune": pruning,
    "memory": memory,
    "forensics": forensics,
    "disks": disks,
    "bisect": bisecting,
    "exact": replaying,
    "notebooks": notebooks,
    "service": service,
}
"""By the name that `--only` takes; in the order in which they are told."""


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure captures, rewinds and clones.")
    parser.add_argument("--connect", default="qemu:///session", metavar="URI")
    parser.add_argument("--quick", action="store_true", help="few samples: for a look, not for a judgement")
    parser.add_argument("--only", metavar="NAMES", help=f"some of: {', '.join(FIGURES)}")
    parser.add_argument("--json", metavar="FILE", default="build/bench.json", help="- for the output")
    parser.add_argument("--markdown", metavar="FILE", help="where the table of docs/figures.md goes")
    arguments = parser.parse_args(words)
    arguments.names = arguments.only.split(",") if arguments.only else list(FIGURES)
    unknown = [name for name in arguments.names if name not in FIGURES]
    if unknown:
        parser.error(f"no such figure: {', '.join(unknown)}; there are {', '.join(FIGURES)}")
    return arguments


def _measure(bench: Bench, names: Sequence[str], console: Console) -> tuple[list[Result], dict[str, str]]:
    """Return what was measured, and why the rest was not."""
    results: list[Result] = []
    failed: dict[str, str] = {}
    for name in names:
        began = time.monotonic()
        console.print(f"measuring: {name} ...", end=" ")
        try:
            results += FIGURES[name](bench)
            console.print(f"{time.monotonic() - began:.0f} s")
        except WorkbenchError as error:
            failed[name] = str(error)
            console.print(f"could not be measured: {error}", markup=False)
    return results, failed


def _write(arguments: argparse.Namespace, results: Sequence[Result], document: dict[str, Any]) -> None:
    text = json.dumps(document, indent=1)
    if arguments.json == "-":
        print(text)
    else:
        path = Path(arguments.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    if arguments.markdown:
        Path(arguments.markdown).write_text(markdown(results))


def main(words: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit code."""
    arguments = _arguments(words)
    console = Console(stderr=arguments.json == "-", width=None if sys.stdout.isatty() else 160, highlight=False)
    with status_in_memory(arguments.connect):
        return _run(arguments, console)


def _run(arguments: argparse.Namespace, console: Console) -> int:
    ensure_daemon(arguments.connect)
    host = host_facts(arguments.connect)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rewind-bench-") as directory:
        Path(directory).chmod(0o711)
        results, failed = _measure(Bench(Path(directory), arguments.connect, arguments.quick), arguments.names, console)
    console.print(terminal_table(results))
    figures = [result.to_json() for result in results]
    # Not all facts again: the daemon may have ended for want of guests, and that must not cost what was measured.
    took = round(time.monotonic() - began)
    facts = {**host, "load_after": os.getloadavg(), "seconds": took, "quick": arguments.quick}
    _write(arguments, results, {"host": facts, "failed": failed, "figures": figures})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
