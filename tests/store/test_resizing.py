"""Regions that shrink, grow, go and come back: what is cut off never comes back, committed or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from casebuilder import DISK, GUEST, RAM, START_NS, read_all

from workbench.model import CaptureMode, CaptureRecord, RegionKind, RegionSpec
from workbench.store import CaseStore, Writer

REGIONS = [replace(RAM, length=20 * 4096), replace(DISK, length=20 * 65536)]


@pytest.fixture
def store(tmp_path: Path) -> CaseStore:
    store = CaseStore.create(tmp_path / "case")
    store.add_guest(GUEST, "demo")
    return store


@pytest.fixture(params=REGIONS, ids=["memory", "disk"])
def spec(request: pytest.FixtureRequest) -> RegionSpec:
    assert isinstance(request.param, RegionSpec)
    return request.param


def noise(spec: RegionSpec) -> np.ndarray:
    return np.random.default_rng(1).integers(1, 256, (spec.blocks, spec.block_size), dtype=np.uint8)


def sized(spec: RegionSpec, blocks: float) -> RegionSpec:
    return replace(spec, length=int(blocks * spec.block_size))


def take(
    writer: Writer, regions: Sequence[RegionSpec], number: int, content: np.ndarray | None = None
) -> CaptureRecord:
    with writer.begin(regions) as transaction:
        if content is not None:
            transaction.put(regions[0].name, np.arange(len(content)), content)
        return transaction.commit(time_ns=START_NS + number, mode=CaptureMode.MANUAL, reason="", facts={})


def expected(spec: RegionSpec, content: np.ndarray, kept: float) -> bytes:
    return content.tobytes()[: int(kept * spec.block_size)].ljust(spec.length, b"\0")


@pytest.mark.parametrize("cut", [0, 7, 7.25])
@pytest.mark.parametrize("before", [0, 1, 2, 5])
def test_what_is_cut_off_is_gone(store: CaseStore, spec: RegionSpec, cut: float, before: int) -> None:
    """At any depth, so that single and composed deltas are met."""
    content = noise(spec)
    with store.writer(GUEST) as writer:
        records = [take(writer, [spec], 0, content)]
        records += [take(writer, [spec], number + 1) for number in range(before)]
        shrunk = take(writer, [sized(spec, cut)], 20)
        grown = [take(writer, [spec], 21 + number) for number in range(3)]
        if spec.kind is RegionKind.MEMORY:
            assert writer.head(spec.name).tobytes() == expected(spec, content, cut)
    fresh = CaseStore.open(store.path)
    assert read_all(fresh, shrunk.id)[spec.name] == expected(sized(spec, cut), content, cut)
    for record in grown:
        assert read_all(fresh, record.id)[spec.name] == expected(spec, content, cut)
        for other in records:
            for pair in ((other.id, record.id), (record.id, other.id)):
                assert fresh.diff(*pair)[spec.name].tolist() == list(range(int(cut), 20))
    assert fresh.diff(grown[0].id, grown[2].id)[spec.name].tolist() == []
    with fresh.writer(GUEST) as writer:
        for record, kept in ((records[0], 20), (grown[-1], cut), (shrunk, cut), (records[-1], 20), (grown[0], cut)):
            writer.move_to(record.id)
            if spec.kind is RegionKind.MEMORY:
                own = record.regions[0].spec
                assert writer.head(spec.name).tobytes()[: own.length] == expected(own, content, kept)
                assert not writer.head(spec.name).reshape(-1)[own.length :].any()
    assert fresh.check() == []


@pytest.mark.parametrize("cut", [0, 7, 7.25])
def test_what_was_cut_off_without_a_commit_is_gone_too(store: CaseStore, spec: RegionSpec, cut: float) -> None:
    content = noise(spec)
    with store.writer(GUEST) as writer:
        take(writer, [spec], 0, content)
        writer.begin([sized(spec, cut)]).abort()
        if spec.kind is RegionKind.DISK:
            # A disk has no head that would know: the caller is told to compare.
            assert writer.must_compare == {spec.name}
            return
        assert writer.must_compare == set()
        record = take(writer, [spec], 1)
    assert read_all(store, record.id)[spec.name] == expected(spec, content, cut)


@pytest.mark.parametrize("between", [0, 1, 2])
def test_a_region_that_comes_back_is_zeros(store: CaseStore, spec: RegionSpec, between: int) -> None:
    content, other = noise(spec), replace(RAM, name="other")
    with store.writer(GUEST) as writer:
        first = take(writer, [spec, other], 0, content)
        gone = [take(writer, [other], 1 + number) for number in range(between + 1)]
        back = take(writer, [spec, other], 9)
        filled = take(writer, [spec, other], 10, content)
    fresh = CaseStore.open(store.path)
    assert set(read_all(fresh, gone[-1].id)) == {"other"}
    assert read_all(fresh, back.id)[spec.name] == bytes(spec.length)
    assert read_all(fresh, filled.id) == read_all(fresh, first.id)
    everything = list(range(20))
    for a, b, changed in (
        (first, gone[0], everything),
        (gone[-1], back, []),
        (first, back, everything),
        (back, first, everything),
        (first, filled, []),
    ):
        assert fresh.diff(a.id, b.id)[spec.name].tolist() == changed


def test_a_region_of_another_block_size_is_another(store: CaseStore) -> None:
    small, large = RegionSpec("x", RegionKind.DISK, 4 * 65536, 4096), RegionSpec("x", RegionKind.DISK, 4 * 65536, 65536)
    with store.writer(GUEST) as writer:
        first = take(writer, [small], 0, noise(small))
        second = take(writer, [large], 1)
        third = take(writer, [large], 2, noise(large))
        writer.move_to(first.id)
        writer.move_to(third.id)
    fresh = CaseStore.open(store.path)
    assert read_all(fresh, second.id)["x"] == bytes(large.length)
    assert read_all(fresh, third.id)["x"] == noise(large).tobytes()
    assert fresh.diff(first.id, third.id)["x"].tolist() == list(range(64))


def test_grown_regions_take_blocks_at_their_new_end(store: CaseStore, spec: RegionSpec) -> None:
    content = noise(sized(spec, 30))
    with store.writer(GUEST) as writer:
        take(writer, [spec], 0, content[:20])
        with writer.begin([sized(spec, 30)]) as transaction:
            transaction.put(spec.name, np.array([29]), content[29:])
            record = transaction.commit(time_ns=START_NS + 1, mode=CaptureMode.MANUAL, reason="", facts={})
    content[20:29] = 0
    assert read_all(store, record.id)[spec.name] == content.tobytes()


def test_content_of_a_failed_capture_is_no_base(store: CaseStore, spec: RegionSpec) -> None:
    """What was put and not committed must not be XORed against: no reader could find it."""
    content = noise(spec)
    with store.writer(GUEST) as writer:
        take(writer, [spec], 0, content)
        for number in range(1, 3):
            content[:, number] ^= 0xFF
            transaction = writer.begin([spec])
            transaction.put(spec.name, np.arange(20), content)
            transaction.abort()
        content[:, 5] ^= 0xFF
        record = take(writer, [spec], 1, content)
        content[:, 6] ^= 0xFF
        with writer.begin([spec]) as transaction:  # and so must what was put earlier in the same capture
            transaction.put(spec.name, np.arange(20), content)
            content[:, 7] ^= 0xFF
            transaction.put(spec.name, np.arange(20), content)
            again = transaction.commit(time_ns=START_NS + 2, mode=CaptureMode.MANUAL, reason="", facts={})
    assert read_all(store, again.id)[spec.name] == content.tobytes()
    content[:, 6:8] ^= 0xFF
    assert read_all(store, record.id)[spec.name] == content.tobytes()


def test_of_indices_given_twice_the_later_counts(store: CaseStore, spec: RegionSpec) -> None:
    content = noise(spec)
    with store.writer(GUEST) as writer, writer.begin([spec]) as transaction:
        transaction.put(spec.name, np.array([5, 3, 5, 3]), content[:4])
        transaction.put(spec.name, np.array([9]), content[9:10])
        transaction.put(spec.name, np.array([9]), 0 * content[9:10])
        record = transaction.commit(time_ns=START_NS, mode=CaptureMode.MANUAL, reason="", facts={})
    region = store.view(record.id).region(spec.name)
    assert region.nonzero().tolist() == [3, 5]
    assert (region.read_blocks(np.array([5, 3])) == content[2:4]).all()


def test_back_to_the_parents_content_is_no_change(store: CaseStore, spec: RegionSpec) -> None:
    content = noise(spec)
    with store.writer(GUEST) as writer:
        first = take(writer, [spec], 0, content)
        with writer.begin([spec]) as transaction:
            transaction.put(spec.name, np.arange(20), content[::-1])
            transaction.put(spec.name, np.arange(20), content)
            second = transaction.commit(time_ns=START_NS + 1, mode=CaptureMode.MANUAL, reason="", facts={})
    assert store.maps.delta(GUEST, second.id).regions[spec.name].index.tolist() == []
    assert second.regions == first.regions
    assert store.diff(first.id, second.id)[spec.name].tolist() == []
