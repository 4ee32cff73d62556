"""`make demo`: boot a guest, record a break-in, look at the past in a clone, take the guest back, show the figures.

Exits 0 only if everything was seen to be as it should; leaves nothing running. Refuses nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workbench.case import Case
from workbench.cli.text import inert
from workbench.demo import story
from workbench.demo.domain import DemoSpec
from workbench.demo.guest import DemoGuest
from workbench.demo.traces import MemoryReport, look_at_disk, look_into_memory
from workbench.errors import UsageError, WorkbenchError

__all__ = ["main"]


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description="Record a break-in, look back, go back.")
    parser.add_argument(
        "--connect", default="qemu:///session", metavar="URI", help="libvirt address (default %(default)s)"
    )
    parser.add_argument(
        "--case", type=Path, metavar="DIR", help="keep the case here, and a report beside it (default: a temporary one)"
    )
    parser.add_argument("--interval", type=float, default=2.0, metavar="S", help="seconds between captures (default 2)")
    parser.add_argument("--memory", type=int, default=512, metavar="MIB", help="memory of the guest (default 512)")
    return parser.parse_args(words)


@contextlib.contextmanager
def _case_directory(wanted: Path | None) -> Iterator[Path]:
    """Yield where the case goes; a temporary place is removed at the end."""
    if wanted is not None:
        yield wanted
        return
    with tempfile.TemporaryDirectory(prefix="rewind-demo-case-") as directory:
        Path(directory).chmod(0o711)  # QEMU may run as another user and must reach a clone's files
        yield Path(directory) / "case"


def _timeline(case: Case) -> Table:
    table = Table(title="Timeline", title_justify="left")
    for name in ("time (UTC)", "capture", "why"):
        table.add_column(name, no_wrap=True)
    for name in ("pause ms", "pages", "clusters", "stored kB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in case.timeline().to_dict("records"):
        cells = [
            f"{row['time']:%H:%M:%S.%f}"[:-3],
            row["short"],
            row["marks"] or str(row["mode"]),
            f"{row['pause_ms']:.1f}",
        ]
        table.add_row(*cells, str(row["dirty_pages"]), str(row["dirty_clusters"]), f"{row['stored_bytes'] / 1e3:.0f}")
    return table


def _traces(report: story.CloneReport, after: dict[str, bool] | None = None) -> Table:
    table = Table(title="Traces of the intruder", title_justify="left")
    for name in ("trace", "guest", "clone of the past", *(["guest, rewound"] if after else [])):
        table.add_column(name)
    for trace, there in report.in_guest.items():
        cells = [there, report.in_clone[trace], *([after[trace]] if after else [])]
        table.add_row(trace, *("yes" if cell else "no" for cell in cells))
    return table


def _intruder(report: MemoryReport) -> Table:
    table = Table(title="The intruder, from the memory of the captures", title_justify="left", show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("found")
    process, page = report.process, report.page
    rows = [
        ("process", f"{process['name']}, pid {process['pid']}, runs {process['executable']}"),
        ("started", f"{process['started']:%H:%M:%S} UTC, by the guest's clock"),
        ("first captured", f"{report.first_seen:%H:%M:%S} UTC, {report.first_mark}"),
        ("its mark", f"{page['address']:#x}, in a page of {page['process']} ({page['where']}), rule {page['rule']}"),
        ("backdoor", report.listens),
    ]
    for cells in rows:
        table.add_row(*(Text(inert(cell)) for cell in cells))
    return table


def _report_of(place: Path) -> Path:
    """Return where the report of a case that is kept goes, before anything is done."""
    target = place.with_name(f"{place.name}.report.html")
    if target.exists():
        raise UsageError("a report is there already", path=str(target), cure="Move it, or name another case.")
    return target


def _tell(console: Console, arguments: argparse.Namespace, place: Path) -> None:
    page = _report_of(place) if arguments.case else None
    spec = DemoSpec(name=f"rewind-demo-{os.getpid()}", memory_mib=arguments.memory)
    console.print("Booting the demo guest ...")
    with DemoGuest.boot(spec, arguments.connect) as guest, Case.create(place, uri=arguments.connect) as case:
        console.print(f"{guest.name} answers. Recording it every {arguments.interval:g} s while it is broken into:")
        with case.record(guest.name) as recording:
            story.record_intrusion(guest, recording, arguments.interval, lambda line: console.print(f"  {line}"))
            console.print(_timeline(case))
            console.print(f"Starting a clone at {story.BEFORE!r}, beside the guest ...")
            report = story.look_back(case, guest)
            console.print(_traces(report))
            console.print("Looking into the memory of every capture, with no symbol package ...")
            planted = {str(each["what"]): each for each in guest.truth()}
            console.print(_intruder(look_into_memory(case, planted)))
            console.print("What changed on its disk, and the log that was wiped, as it was:")
            for line in look_at_disk(case):
                console.print(Text(f"  {inert(line)}"))
            rewound, after = story.go_back(case, recording, guest, lambda plan: console.print(plan, highlight=False))
            console.print(_traces(report, after))
        figures = Table(title="Figures", title_justify="left")
        figures.add_column("figure")
        figures.add_column("measured", justify="right")
        for cells in story.figures(case, report, rewound):
            figures.add_row(*cells)
        console.print(figures)
        damages = case.check()
        if damages:
            raise WorkbenchError("the case is damaged", damages=[damage.what for damage in damages])
        if page is not None:
            console.print(f"A report: {case.report(page, story.BEFORE)}", soft_wrap=True, markup=False)
        console.print("The case was checked, byte for byte: whole. Nothing is left running.")


def main(words: Sequence[str] | None = None) -> int:
    """Run the demonstration; return the exit code."""
    arguments = _arguments(words)
    console = Console(width=None if sys.stdout.isatty() else 100)
    try:
        with _case_directory(arguments.case) as place:
            _tell(console, arguments, place)
    except WorkbenchError as error:
        Console(stderr=True).print(f"The demonstration failed: {error}", markup=False)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
