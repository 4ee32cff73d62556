"""Figures of disk analysis: changed files, a large file read, one file's history; images made by mke2fs, no guest.

The peer of changed files is what one does without a journal: two raw exports, each walked and hashed in full with
pytsk3. What is kept by capture is kept here too; what it takes without is told beside it. Refuses to hide either.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from workbench.bench.result import Result, measured
from workbench.bench.setting import Bench
from workbench.bench.tools import run
from workbench.case import Case
from workbench.model import CLUSTER, CaptureMode, GuestId, RegionKind, RegionSpec
from workbench.store import CaseStore

__all__ = ["disks"]

_GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ac")
_DISK = "disk:vda"
_CHANGED = 50
_WALK = """
import hashlib, sys, time
import pytsk3
def digests(path):
    system, found, left, seen = pytsk3.FS_Info(pytsk3.Img_Info(path)), {}, ["/"], set()
    while left:
        here = left.pop()
        for entry in system.open_dir(here):
            name = entry.info.name.name
            if name in (b".", b"..") or entry.info.meta is None or entry.info.meta.addr in seen:
                continue
            full = here.rstrip("/") + "/" + name.decode("utf-8", "surrogateescape")
            if entry.info.meta.type == pytsk3.TSK_FS_META_TYPE_DIR:
                seen.add(entry.info.meta.addr)
                left.append(full)
            elif entry.info.meta.type == pytsk3.TSK_FS_META_TYPE_REG:
                size, at, digest = entry.info.meta.size, 0, hashlib.sha256()
                while at < size:
                    data = entry.read_random(at, min(1 << 20, size - at))
                    digest.update(data)
                    at += len(data)
                found[full] = digest.hexdigest()
    return found
began = time.monotonic()
one, two = digests(sys.argv[1]), digests(sys.argv[2])
changed = [path for path in two if one.get(path) != two[path]]
print(time.monotonic() - began, len(changed))
"""


def _tree(place: Path, count: int, mean: int = 2048) -> Path:
    """Make a folder of `count` files of `mean` bytes on average, 100 to a directory."""
    random = np.random.default_rng(2)
    content = random.bytes(4 * mean)
    for number in range(count):
        folder = place / f"d{number // 100}"
        if number % 100 == 0:
            folder.mkdir(parents=True)
        start = int(random.integers(0, 2 * mean))
        (folder / f"f{number}").write_bytes(content[start : start + int(random.integers(1, 2 * mean))])
    return place


def _image(tree: Path, target: Path, mib: int) -> Path:
    run("/usr/sbin/mke2fs", "-q", "-t", "ext4", "-N", str(max(8192, mib * 200)), "-d", tree, target, f"{mib}M")
    return target


def _edit(image: Path, lines: list[str]) -> None:
    """Change an image as a guest would."""
    subprocess.run(
        ["/usr/sbin/debugfs", "-w", "-f", "-", str(image)],
        input="\n".join(lines),
        text=True,
        check=True,
        capture_output=True,
    )


def _put(store: CaseStore, images: Callable[[], list[Path]]) -> None:
    """Capture each state of a disk; only clusters that differ are put."""
    before: np.ndarray | None = None
    with store.writer(_GUEST) as writer:
        for number, image in enumerate(images()):
            content = np.fromfile(image, np.uint8).reshape(-1, CLUSTER)
            changed = np.arange(len(content)) if before is None else np.flatnonzero((content != before).any(axis=1))
            with writer.begin([RegionSpec(_DISK, RegionKind.DISK, content.size, CLUSTER)]) as transaction:
                transaction.put(_DISK, changed.astype(np.int64), content[changed])
                when = (1_700_000_000 + number) * 10**9
                transaction.commit(time_ns=when, mode=CaptureMode.CONTINUOUS, reason="", facts={})
            before = content


def _case(place: Path) -> CaseStore:
    store = CaseStore.create(place)
    store.add_guest(_GUEST, "disks")
    return store


def _changed_files(bench: Bench, count: int, mean: int, reach: float) -> Result:
    mib = 64 + (count * (mean + 4096) * 5 // 4 >> 20)
    place = bench.place / f"disk-{count}"
    place.mkdir()
    first, second = place / "first.raw", place / "second.raw"
    _image(_tree(place / "tree", count, mean), first, mib)
    second.write_bytes(first.read_bytes())
    (place / "new").write_bytes(b"another content\n" * 100)
    steps = [f"rm d{n}/f{n * 100}\nwrite {place / 'new'} d{n}/f{n * 100}" for n in range(min(_CHANGED, count // 100))]
    _edit(second, steps)
    _put(_case(place / "case"), lambda: [first, second])
    samples, first_time = [], []
    for _ in range(bench.count(3, 1)):
        run("rm", "-rf", place / "case" / "cache")
        with Case(place / "case") as case:
            before, after = case.moments()
            before.walk()
            began = time.monotonic()
            found = case.diff(before, after).files()
            first_time.append(time.monotonic() - began)
            began = time.monotonic()
            case.diff(after, before).files()  # another question of the same walks
            samples.append(time.monotonic() - began)
    peer = measured("full walks with pytsk3", "two raw exports", lambda: [_walk(first, second) for _ in samples])
    times = f"; {peer.median / statistics.median(samples):.0f} times as fast" if peer.median else ""
    how = "walks and maps of extents of both moments are kept"
    name = f"changed files, {count:,} files, {len(steps)} written"
    note = f"{len(found)} rows; files of {mean >> 10} KiB on average{times}; "
    note += f"{statistics.median(first_time):.2f} s where the later walk and both maps must be made"
    return Result(name, "s", reach, tuple(samples), how, (peer,), note)


def _walk(first: Path, second: Path) -> float:
    return float(run(sys.executable, "-c", _WALK, first, second).split()[0])


def _reading(bench: Bench) -> Result:
    place = bench.place / "disk-large"
    (place / "tree").mkdir(parents=True)
    size = bench.count(512, 64) << 20
    (place / "tree" / "large").write_bytes(np.random.default_rng(3).bytes(size))
    image = _image(place / "tree", place / "image.raw", (size >> 20) * 5 // 4 + 32)
    _put(_case(place / "case"), lambda: [image])
    samples = []
    with Case(place / "case") as case:
        case.moment().stat("/vda/large")  # a worker is there
        for _ in range(bench.count(3, 1)):
            began, read = time.monotonic(), 0
            with case.moment().open("/vda/large") as file:
                while data := file.read(4 << 20):
                    read += len(data)
            samples.append(1000 * (time.monotonic() - began) / (read / 1e6))
    note = f"{1000 / statistics.median(samples):.0f} MB/s of random content, {size >> 20} MiB"
    return Result("reading a large file, per MB", "ms", 5, tuple(samples), "in order, 4 MiB at a time", note=note)


def _history(bench: Bench) -> Result:
    place = bench.place / "disk-history"
    count = bench.count(100, 10)
    image = _image(_tree(place / "tree", 1000), place / "image.raw", 32)

    def states() -> list[Path]:
        made = []
        for number in range(count):
            (place / "new").write_text(f"version {number // 10}\n" * 50)
            target = "d1/f100" if number % 10 == 0 else "d2/f200"
            _edit(image, [f"rm {target}", f"write {place / 'new'} {target}"])
            made.append(place / f"{number}.raw")
            made[-1].write_bytes(image.read_bytes())
        return made

    _put(_case(place / "case"), states)
    samples = []
    for _ in range(bench.count(3, 1)):
        run("rm", "-rf", place / "case" / "cache")
        with Case(place / "case") as case:
            began = time.monotonic()
            found = case.history("/vda/d1/f100")
            samples.append(time.monotonic() - began)
    note = f"{len(found)} versions; nothing kept before"
    return Result(f"history of one file, {count} captures", "s", 2, tuple(samples), "one call, new worker", note=note)


def disks(bench: Bench) -> list[Result]:
    """Measure the analysis of disks."""
    return [
        _changed_files(bench, 5_000, 32_768, 0.5),
        _changed_files(bench, bench.count(100_000, 10_000), 8_192, 5),
        _reading(bench),
        _history(bench),
    ]
