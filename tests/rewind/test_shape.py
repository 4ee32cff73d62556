"""What counts as another shape, on captures made by hand: sizes and devices do, memory merely out of view does not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from workbench.model import CLUSTER, PAGE, CaptureMode, GuestId, RegionKind, RegionSpec
from workbench.rewind.content import Content, difference
from workbench.rewind.shape import same_shape
from workbench.store import CaptureView, CaseStore, Writer

GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
USUAL = {"pc.ram": 64, "vga.vram": 16, "pc.bios": 4}


@pytest.fixture
def store(tmp_path: Path) -> CaseStore:
    made = CaseStore.create(tmp_path / "case")
    made.add_guest(GUEST, "web")
    return made


@pytest.fixture
def writer(store: CaseStore) -> Iterator[Writer]:
    with store.writer(GUEST) as opened:
        opened.move_to(None)
        yield opened


def captured(
    store: CaseStore,
    writer: Writer,
    time: int,
    memory: Mapping[str, int],
    *,
    hidden: tuple[str, ...] = (),
    disk: int = 4,
) -> CaptureView:
    """A capture with memory blocks of so many pages, and blocks that QEMU had but did not show."""
    specs = [RegionSpec(name, RegionKind.MEMORY, pages * PAGE, PAGE) for name, pages in memory.items()]
    specs += [RegionSpec("disk:vda", RegionKind.DISK, disk * CLUSTER, CLUSTER)] if disk else []
    transaction = writer.begin([*specs, RegionSpec("state:layout", RegionKind.STATE, 0, PAGE)])
    for spec in specs:
        transaction.put(spec.name, np.array([time % 3]), np.full((1, spec.block_size), time, np.uint8))
    told = {
        "blocks": [[name, pages * PAGE, 4096] for name, pages in memory.items()],
        "ranges": [],
        "unlocated": list(hidden),
        "signature": "",
    }
    transaction.put_stream("state:layout", json.dumps({"memory": told}).encode())
    record = transaction.commit(time_ns=time, mode=CaptureMode.MANUAL, reason="", facts={})
    return store.view(record.id)


def test_the_same_blocks_are_the_same_shape(store: CaseStore, writer: Writer) -> None:
    then, now = (captured(store, writer, time, USUAL) for time in (1, 2))
    assert same_shape(now, then) == []


@pytest.mark.parametrize("name", ["vga.vram", "pc.bios"])
def test_a_block_that_was_only_out_of_view_is_no_change(store: CaseStore, writer: Writer, name: str) -> None:
    fewer = {key: pages for key, pages in USUAL.items() if key != name}
    then = captured(store, writer, 1, USUAL)
    now = captured(store, writer, 2, fewer, hidden=(name,))
    assert same_shape(now, then) == []
    assert same_shape(then, now) == []


def test_a_block_that_qemu_did_not_have_is_a_change(store: CaseStore, writer: Writer) -> None:
    fewer = {key: pages for key, pages in USUAL.items() if key != "vga.vram"}
    then, now = captured(store, writer, 1, USUAL), captured(store, writer, 2, fewer)
    assert same_shape(now, then) == ["vga.vram: absent now, 65536 then"]
    assert same_shape(then, now) == ["vga.vram: 65536 now, absent then"]


def test_sizes_and_disks_are_part_of_the_shape(store: CaseStore, writer: Writer) -> None:
    then = captured(store, writer, 1, USUAL)
    more = captured(store, writer, 2, {**USUAL, "pc.ram": 128}, disk=0)
    assert same_shape(more, then) == ["disk:vda: absent now, 262144 then", "pc.ram: 524288 now, 262144 then"]


def test_the_difference_is_what_must_be_written_and_no_more(store: CaseStore, writer: Writer) -> None:
    first, second = captured(store, writer, 1, USUAL), captured(store, writer, 2, USUAL)
    found = difference(store, second.record.id, first.record.id, RegionKind.MEMORY)
    assert {name: indices.tolist() for name, indices in found.items()} == {name: [2] for name in USUAL}
    content = Content(first)
    content.cover(found, RegionKind.MEMORY)
    assert not content.regions["pc.ram"].content.any()
    content.cover({"pc.ram": np.array([1, 2, 9])}, RegionKind.MEMORY)
    assert content.regions["pc.ram"].indices.tolist() == [1, 2, 9]
    content.keep_only({"pc.ram": np.array([1, 2])}, RegionKind.MEMORY)
    assert set(content.regions) == {"pc.ram"}
    assert content.regions["pc.ram"].content[:, 0].tolist() == [1, 0]
    assert content.blocks("pc.ram", np.array([1, 5]))[:, 0].tolist() == [1, 0]
