"""An exported disk is the captured one, byte for byte, for tools that are not ours; or it is not there at all."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from workbench.disk import publishing
from workbench.disk.export import _Layout, export_disk
from workbench.errors import DamagedError, StoreFullError, UnsupportedError, UsageError
from workbench.guest import c_qcow2 as c
from workbench.model import CLUSTER
from workbench.progress import ProgressEvent

from .planted import DISK, Planted, plant

SPAN = c.L2_SPAN // CLUSTER  # clusters of one L2 table


def qemu_img(*words: str | Path) -> str:
    return subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, text=True).stdout


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow past `size`: a full volume for whoever writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    return plant(tmp_path / "case", 64 << 20, [0, 1, 2, 17, 500, 1023])


SHAPES = {
    "one sector": (512, [0]),
    "empty": (8 << 20, []),
    "all of it": (2 << 20, list(range(32))),
    "short last cluster": (5 * CLUSTER + 512, [1, 5]),
    "several tables": (5 * c.L2_SPAN, [0, SPAN - 1, SPAN, SPAN + 1, 3 * SPAN + 4, 5 * SPAN - 1]),
    "hole in front": (3 * c.L2_SPAN + CLUSTER, [3 * SPAN]),
}


@pytest.mark.parametrize(("length", "clusters"), SHAPES.values(), ids=SHAPES.keys())
def test_qcow2_is_sound_and_equals_the_raw_export(tmp_path: Path, length: int, clusters: list[int]) -> None:
    planted = plant(tmp_path / "case", length, clusters)
    raw = export_disk(planted.view(), DISK, tmp_path / "disk.raw", "raw")
    qcow2 = export_disk(planted.view(), DISK, tmp_path / "disk.qcow2")
    report = json.loads(qemu_img("check", "--output=json", "-f", "qcow2", qcow2))
    assert report["check-errors"] == 0
    assert not {"leaks", "corruptions"} & set(report)
    assert report.get("allocated-clusters", 0) == len(clusters)
    assert json.loads(qemu_img("info", "--output=json", qcow2))["virtual-size"] == length
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "qcow2", raw, qcow2).lower()


def test_raw_is_the_planted_content_with_holes(planted: Planted, tmp_path: Path) -> None:
    raw = export_disk(planted.view(), DISK, tmp_path / "disk.raw", "raw")
    assert raw.read_bytes() == planted.read(0, planted.length)
    assert raw.stat().st_blocks * 512 <= (len(planted.clusters) + 2) * CLUSTER


def test_qcow2_takes_the_space_of_its_content(planted: Planted, tmp_path: Path) -> None:
    qcow2 = export_disk(planted.view(), DISK, tmp_path / "disk.qcow2")
    assert qcow2.stat().st_size <= (len(planted.clusters) + 5) * CLUSTER


@pytest.mark.parametrize("data", [0, 1, 32763, 32764, 32768, 1 << 20, (1 << 28) - 40000, 1 << 28, 1 << 32])
def test_refcounts_count_themselves(data: int) -> None:
    layout = _Layout.of(3, 5, data)
    assert layout.blocks * c.REFCOUNT_ENTRIES >= layout.used == 1 + layout.table + layout.blocks + 3 + 5 + data
    assert layout.table * c.ENTRIES >= layout.blocks
    assert (layout.blocks - 1) * c.REFCOUNT_ENTRIES <= layout.used  # and not one more than needed


def test_only_the_owner_may_read_it(planted: Planted, tmp_path: Path) -> None:
    assert export_disk(planted.view(), DISK, tmp_path / "disk.qcow2").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_progress_reaches_its_total(planted: Planted, tmp_path: Path, form: str) -> None:
    told: list[ProgressEvent] = []
    export_disk(planted.view(), DISK, tmp_path / "disk", form, told.append)  # type: ignore[arg-type]
    assert told[-1].done == told[-1].total == len(planted.clusters) * CLUSTER


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_what_exists_is_not_overwritten(planted: Planted, tmp_path: Path, form: str) -> None:
    target = tmp_path / "there"
    target.write_text("mine")
    with pytest.raises(UsageError, match="file exists"):
        export_disk(planted.view(), DISK, target, form)  # type: ignore[arg-type]
    assert target.read_text() == "mine"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="file exists"):
        export_disk(planted.view(), DISK, dangling, form)  # type: ignore[arg-type]


def test_a_name_taken_meanwhile_is_kept(planted: Planted, tmp_path: Path) -> None:
    target = tmp_path / "disk.raw"
    with pytest.raises(UsageError, match="file exists"):
        export_disk(planted.view(), DISK, target, "raw", lambda event: target.write_text("mine") and None)
    assert target.read_text() == "mine"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["case", "disk.raw"]


def test_a_volume_without_links(planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: str, target: Path) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(publishing.os, "link", no_links)
    raw = export_disk(planted.view(), DISK, tmp_path / "disk.raw", "raw")
    assert raw.read_bytes() == planted.read(0, planted.length)
    with pytest.raises(UsageError, match="file exists"):
        export_disk(planted.view(), DISK, raw, "raw")


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_full_volume_is_said_and_leaves_nothing(planted: Planted, tmp_path: Path, form: str) -> None:
    with largest_file(4 * CLUSTER), pytest.raises(StoreFullError, match="no space"):
        export_disk(planted.view(), DISK, tmp_path / "disk", form)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["case"]


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_damaged_case_ends_it_and_leaves_nothing(planted: Planted, tmp_path: Path, form: str) -> None:
    planted.damage()
    with pytest.raises(DamagedError):
        export_disk(planted.view(), DISK, tmp_path / "disk", form)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["case"]


def test_what_cannot_be_asked(planted: Planted, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such format"):
        export_disk(planted.view(), DISK, tmp_path / "disk", "vhd")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not a disk"):
        export_disk(planted.view(), "pc.ram", tmp_path / "disk")
    with pytest.raises(UsageError, match="no such region"):
        export_disk(planted.view(), "disk:vdb", tmp_path / "disk")
    odd = plant(tmp_path / "odd", 1000, [0])
    with pytest.raises(UnsupportedError, match="whole sectors"):
        export_disk(odd.view(), DISK, tmp_path / "disk")
    assert export_disk(odd.view(), DISK, tmp_path / "disk", "raw").read_bytes() == odd.read(0, 1000)
