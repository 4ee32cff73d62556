"""Physical memory as the guest had it: equal to the regions, whole and in pieces; hostile layouts refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from workbench.errors import FormatError, UnreadableError
from workbench.guest.memory import PhysicalRange
from workbench.memory.physical import PhysicalMemory, Place
from workbench.model import PAGE

from .conftest import Recorded


@pytest.fixture(scope="module")
def memory(recorded: Recorded) -> PhysicalMemory:
    return PhysicalMemory.of_capture(recorded.case.store.view(recorded.capture("clean")))


def test_what_is_read_in_pieces_is_what_the_region_holds(recorded: Recorded, memory: PhysicalMemory) -> None:
    region = recorded.case.store.view(recorded.capture("clean")).region("pc.ram")
    for address, length in ((0x100000, 1), (0x1FFFFF, 3), (0x200FF0, 3 * PAGE), (0x1000000, 64 * PAGE + 7)):
        assert memory.read(address, length) == region.read(address, length)


def test_runs_and_extents_are_all_that_is_not_zero(memory: PhysicalMemory) -> None:
    total = 0
    extents = memory.extents()
    for address, content in memory.runs(most=1 << 20):
        assert 0 < len(content) <= 1 << 20
        assert any(start <= address and address + len(content) <= start + length for start, length in extents)
        total += len(content)
    assert total == sum(length for _, length in extents)
    last_start, last_length = extents[-1]
    assert memory.holds(last_start, last_length)


def test_where_the_guest_has_no_memory_nothing_is_read(memory: PhysicalMemory) -> None:
    hole = 256 << 20
    assert not memory.holds(hole)
    assert memory.place(hole) is None
    with pytest.raises(UnreadableError, match="no memory"):
        memory.read(hole - 1, 2)
    assert memory.read_padded(hole - 1, 3)[1:] == bytes(2)
    with pytest.raises(UnreadableError, match="negative"):
        memory.read(0, -1)


def test_a_page_is_found_in_the_case_and_back(memory: PhysicalMemory) -> None:
    assert memory.place(0x123456) == Place("pc.ram", 0x123)
    assert memory.addresses("pc.ram", np.array([0x123, 1 << 40])).tolist() == [0x123000, -1]
    assert memory.addresses("no such region", np.array([1])).tolist() == [-1]


def range_at(start: int, length: int = PAGE, offset: int = 0) -> PhysicalRange:
    return PhysicalRange(start, length, "pc.ram", offset, False)


def test_memory_above_a_hole_is_where_the_guest_sees_it(recorded: Recorded) -> None:
    view = recorded.case.store.view(recorded.capture("clean"))
    split = PhysicalMemory([range_at(0, 1 << 21), range_at(1 << 32, 1 << 21, 1 << 21)], view)
    assert split.size == (1 << 32) + (1 << 21)
    assert split.read((1 << 32) + 5, 100) == view.region("pc.ram").read((1 << 21) + 5, 100)
    assert not split.holds(1 << 21)


@pytest.mark.parametrize(
    "ranges",
    [
        [range_at(0, 2 * PAGE), range_at(PAGE)],
        [range_at(0, 1 << 40)],
        [range_at(0, PAGE, -PAGE)],
        [range_at(0, 0)],
        [range_at(1 << 60)],
    ],
    ids=["overlap", "longer than the region", "before the region", "empty", "beyond the processor"],
)
def test_a_layout_that_cannot_be_is_refused(recorded: Recorded, ranges: list[PhysicalRange]) -> None:
    with pytest.raises(FormatError, match="cannot be"):
        PhysicalMemory(ranges, recorded.case.store.view(recorded.capture("clean")))


def test_a_block_that_the_capture_lacks_is_no_memory(recorded: Recorded) -> None:
    view = recorded.case.store.view(recorded.capture("clean"))
    memory = PhysicalMemory([range_at(0), dataclasses.replace(range_at(1 << 30), block="gone")], view)
    assert memory.size == PAGE
