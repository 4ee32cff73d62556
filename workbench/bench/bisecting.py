"""A figure of bisection: when did a file come, over 1,000 captures of a guest that wrote it by itself.

Each sample asks for another file, with a new worker and nothing kept but the kernel's symbols. Refuses to count a
bisection that found another capture than the first after the guest had written the file.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from typing import Literal

from workbench.bench.result import Result
from workbench.bench.setting import Bench
from workbench.case import Case, file_exists
from workbench.demo import DemoGuest
from workbench.errors import AnalysisError

__all__ = ["bisecting"]


def _record(bench: Bench, guest: DemoGuest, captures: int, files: int) -> tuple[Case, list[str]]:
    """Take captures as fast as they come; return the first after each file was written."""
    firsts: list[str] = []
    at = {(number + 1) * captures // (files + 1) + 17 * number % 11 for number in range(files)}
    with bench.recording(guest) as (case, recording):
        recording.capture("the first")
        for number in range(1, captures):
            if number in at:
                guest.run(f"echo planted >/root/planted-{len(firsts)}; sync")
            moment = recording.capture("")
            if number in at:
                firsts.append(moment.id)
    return case, firsts


def _sample(case: Case, path: str, first: str, source: Literal["disk"] | None) -> tuple[float, int]:
    shutil.rmtree(case.path / "cache", ignore_errors=True)
    with Case(case.path) as opened:
        moments = opened.timeline()["id"]
        began = time.monotonic()
        found = opened.bisect(file_exists(path, source=source), (moments.iloc[0], moments.iloc[-1]))
        took = time.monotonic() - began
    if found.first.id != first:
        raise AnalysisError("bisection found another capture", path=path, expected=first, found=found.first.id)
    return took, len(found.asked)


def bisecting(bench: Bench) -> Sequence[Result]:
    """Measure it as the guest would have read the file, and on the disk alone."""
    captures, files = bench.count(1000, 40), bench.count(7, 2)
    results = []
    with bench.guest("bisect") as guest:
        began = time.monotonic()
        case, firsts = _record(bench, guest, captures, files)
        note = f"{captures:,} captures of 512 MiB took {time.monotonic() - began:.0f} s"
    ways: tuple[tuple[str, Literal["disk"] | None], ...] = (("", None), (", disk alone", "disk"))
    for words, source in ways:
        told = [_sample(case, f"/root/planted-{number}", first, source) for number, first in enumerate(firsts)]
        asked = statistics.median(count for _, count in told)
        samples = tuple(took for took, _ in told)
        name, how = f"bisect {captures:,} captures, a file{words}", "a new worker each time, symbols kept"
        results.append(Result(name, "s", 3, samples, how, note=f"{asked:.0f} questions; {note}"))
    return results
