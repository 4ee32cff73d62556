"""Disks whose bytes lie: a clear error, or part of it marked as such; never a hang, in a process that may die."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from . import images
from .images import BIG, TEXT, run

ROUNDS = 25


def _ntfs(file: Path, place: Path) -> Path:
    run("mkntfs", "-Q", "-F", "-L", "data", images.sparse(file, 16 << 20))
    for name, data in (("a.txt", TEXT), ("big", BIG[: 1 << 18])):
        (place / "content").write_bytes(data)
        run("ntfscp", file, place / "content", name)
    return file


KINDS: dict[str, Callable[[Path, Path], Path]] = {
    "ext4": lambda file, place: images.ext(file, images.tree(place / "tree"), "ext4", "-b", "1024", size=16 << 20),
    "ext2": lambda file, place: images.ext(file, images.tree(place / "tree"), "ext2", "-b", "1024", size=16 << 20),
    "fat12": lambda file, place: images.fat(file, 12, 4 << 20),
    "fat16": lambda file, place: images.fat(file, 16, 16 << 20),
    "ntfs": _ntfs,
    "exfat": lambda file, place: images.exfat(file, {"a.txt": TEXT, "big": BIG[: 1 << 18]}),
    "xfs": images.xfs,
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_flipped_bytes_end_in_an_answer(kind: str, tmp_path: Path) -> None:
    rounds = ROUNDS if kind != "xfs" else 6  # its disk cannot be small
    images.view_of(tmp_path / "case", vda=KINDS[kind](tmp_path / "disk", tmp_path))
    words = [sys.executable, "-m", "tests.disk.fuzzed", str(tmp_path / "case"), "7", str(rounds)]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=800, check=False, cwd=Path(__file__).parents[2]
    )
    ends = [line.split() for line in done.stdout.splitlines() if line.startswith("end")]
    tail = done.stdout.splitlines()[-1:], done.stderr[-1500:]
    assert done.returncode == 0, (done.returncode, tail)
    assert len(ends) == rounds
    assert set(Counter(line[2] for line in ends)) <= {"whole", "partial", "refused", "nothing"}
    assert max(float(line[3]) for line in ends) < 10
