"""`make bench`: measure, print a table, write JSON.

Exit code 0 whether or not a reach was met: a figure is told, not judged; 1 where something could not be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from workbench.bench.figure import Figure
from workbench.bench.plan import FIGURES, Bench
from workbench.errors import WorkbenchError
from workbench.guest.connection import Hypervisor

__all__ = ["main"]


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure captures, rewinds and clones.")
    parser.add_argument("--connect", default="qemu:///session", metavar="URI")
    parser.add_argument("--quick", action="store_true", help="few samples: for a look, not for a judgement")
    parser.add_argument("--only", metavar="NAMES", help=f"some of: {', '.join(FIGURES)}")
    parser.add_argument("--json", metavar="FILE", default="bench.json", help="where the samples go; - for the output")
    return parser.parse_args(words)


def _facts(uri: str) -> dict[str, Any]:
    with Hypervisor(uri) as hypervisor:
        versions = hypervisor.versions()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        **versions,
    }


def _table(figures: Sequence[Figure]) -> Table:
    table = Table(title="Figures (median, 95th percentile)", title_justify="left")
    for column in ("figure", "reach", "measured", "met", "peers", "note"):
        table.add_column(column, overflow="fold")
    for figure in figures:
        others = [
            f"{peer.name}: {statistics.median(peer.samples):,.0f} {figure.unit}"
            if len(peer.samples) and figure.unit != "s"
            else f"{peer.name}: {statistics.median(peer.samples):.2f} s"
            if peer.samples
            else f"{peer.name}: {peer.why}"
            for peer in figure.peers
        ]
        reach = f"{figure.reach:g}" + (f", p95 {figure.reach_p95:g}" if figure.reach_p95 else "")
        ours = f"{figure.median:.3g}, {figure.p95:.3g} {figure.unit}"
        table.add_row(figure.name, reach, ours, "yes" if figure.met else "NO", "\n".join(others), figure.note)
    return table


def main(words: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit code."""
    arguments = _arguments(words)
    names = arguments.only.split(",") if arguments.only else list(FIGURES)
    console = Console(stderr=arguments.json == "-", width=None if sys.stdout.isatty() else 160, highlight=False)
    figures: list[Figure] = []
    failed = [name for name in names if name not in FIGURES]
    with tempfile.TemporaryDirectory(prefix="rewind-bench-") as directory:
        Path(directory).chmod(0o711)
        samples, captures = (4, 300) if arguments.quick else (30, 10_000)
        bench = Bench(Path(directory), arguments.connect, samples, captures)
        for name in names:
            if name in failed:
                continue
            console.print(f"measuring: {name} ...")
            try:
                figures += FIGURES[name](bench)
            except WorkbenchError as error:
                failed.append(name)
                console.print(f"{name} could not be measured: {error}", markup=False)
        facts = _facts(arguments.connect)
    console.print(_table(figures))
    text = json.dumps({"host": facts, "failed": failed, "figures": [figure.to_json() for figure in figures]}, indent=1)
    if arguments.json == "-":
        print(text)
    else:
        Path(arguments.json).write_text(text + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
