"""Figure 6: what a capture adds to the case, at a 2 s interval under a shell's load.

The peers store raw dumps of the very instants of our last captures, memory and disk, made from the case. Refuses to
leave out overhead: the case's whole directory is weighed, not only what a capture says of itself.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from workbench.bench import archives, virsh
from workbench.bench.result import Peer, Result, measured
from workbench.bench.setting import Bench
from workbench.bench.tools import allocated_bytes, total_bytes
from workbench.case import Case, Moment, Recording
from workbench.demo import DemoGuest

__all__ = ["storage"]

_INTERVAL = 2.0


def _grow(guest: DemoGuest, case: Case, recording: Recording, count: int) -> tuple[list[float], str]:
    """Return, in kB, by how much each of `count` captures made the case grow, and what there is to say of it."""
    guest.load("shell")
    for _ in range(2):
        recording.capture("warm-up")
        time.sleep(_INTERVAL)
    sizes, pages = [total_bytes(case.path)], []
    taken = allocated_bytes(case.path)
    for _ in range(count):
        pages.append(int(recording.capture("bench").facts["dirty_pages"]))
        sizes.append(total_bytes(case.path))
        time.sleep(_INTERVAL)
    on_volume = (allocated_bytes(case.path) - taken) / count / 1e3
    growth = [(later - earlier) / 1e3 for earlier, later in itertools.pairwise(sizes)]
    return growth, f"{on_volume:.0f} kB on the volume, in whole blocks; {sum(pages) / count:.0f} pages written"


def _dump(moment: Moment, path: Path) -> Path:
    """Write memory and disk of a moment into one raw file."""
    with path.open("wb") as file:
        for region in ("pc.ram", "disk:vda"):
            with moment.open(region) as content:
                while chunk := content.read(8 << 20):
                    file.write(chunk)
    return path


def _peers(guest: DemoGuest, case: Case, place: Path, count: int) -> tuple[Peer, ...]:
    moments = list(case.moments())[-1 - count :]
    dumps = [_dump(moment, place / f"dump-{number}.raw") for number, moment in enumerate(moments)]
    how = "growth by each dump after the first: pc.ram and disk, raw, the same instants"
    ways: Sequence[tuple[str, str, Callable[[], list[float]]]] = (
        ("qcow2 internal snapshot", f"growth of the image, {_INTERVAL:g} s apart", partial(_snapshots, guest, count)),
        ("zstd -3 of the dump", "each dump by itself", partial(archives.zstd_sizes, dumps)),
        ("restic", how, partial(archives.restic_growth, dumps, place)),
        ("borg, zstd 3", how, partial(archives.borg_growth, dumps, place)),
    )
    return tuple(measured(name, told, way) for name, told, way in ways)


def _snapshots(guest: DemoGuest, count: int) -> list[float]:
    return virsh.image_growth(guest, count, _INTERVAL)


def storage(bench: Bench) -> list[Result]:
    """Measure the growth of the case per capture."""
    with bench.guest("storage") as guest:
        with bench.recording(guest) as (case, recording):
            samples, note = _grow(guest, case, recording, bench.count(25, 4))
        peers = _peers(guest, case, bench.place, bench.count(2, 1))
    how = "growth of the case's directory, by the sizes of its files"
    return [Result("stored per capture, every 2 s", "kB", 100, tuple(samples), how, peers, note)]
