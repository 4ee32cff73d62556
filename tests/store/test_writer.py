"""Writing: deduplication, XOR chains, facts, heads, moves; and the figures that must not slip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from casebuilder import DISK, GUEST, OTHER, RAM, START_NS, XML, Built, extend, read_all, touched

from workbench.errors import DamagedError, UsageError
from workbench.model import CaptureMode, CaptureRecord, Mark, RegionSpec
from workbench.store import CaseStore, Transaction, Writer
from workbench.store.format import MAX_CHAIN


@pytest.fixture
def store(tmp_path: Path) -> CaseStore:
    store = CaseStore.create(tmp_path / "case")
    store.add_guest(GUEST, "demo")
    return store


def commit(transaction: Transaction, number: int = 0, **facts: Any) -> CaptureRecord:
    return transaction.commit(time_ns=START_NS + number, mode=CaptureMode.MANUAL, reason="", facts=facts)


def put_one(writer: Writer, spec: RegionSpec, indices: list[int], blocks: np.ndarray, number: int = 0) -> CaptureRecord:
    with writer.begin([spec]) as transaction:
        transaction.put(spec.name, np.array(indices), blocks)
        return commit(transaction, number)


def noise(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size), dtype=np.uint8)


def packed_bytes(store: CaseStore) -> int:
    return sum(path.stat().st_size for path in store.path.glob("packs/*/*.pack"))


def chain_depths(store: CaseStore, record: CaptureRecord, spec: RegionSpec) -> np.ndarray:
    return store.packs.depths(store.maps.region(GUEST, record.id, spec).place)


# Deduplication and XOR.


def test_equal_content_is_stored_once(store: CaseStore) -> None:
    page = noise(1, 4096)
    with store.writer(GUEST) as writer:
        put_one(writer, RAM, list(range(100)), np.repeat(page, 100, axis=0))
        first = packed_bytes(store)
        assert first < 6000
        put_one(writer, RAM, [200, 201], np.repeat(page, 2, axis=0), 1)
        record = put_one(writer, replace(RAM, name="other"), [5], page, 2)
    assert packed_bytes(store) == first
    assert read_all(store, record.id)["other"][5 * 4096 :][:4096] == page.tobytes()


def test_equal_content_over_slices_of_one_capture(store: CaseStore) -> None:
    """The two pages lie in different slices of a put, and so are not compared with each other directly."""
    spec = replace(RAM, length=5000 * 4096)
    page = noise(1, 4096)
    blocks = np.zeros((5000, 4096), np.uint8)
    blocks[0] = blocks[4999] = page
    with store.writer(GUEST) as writer:
        record = put_one(writer, spec, list(range(5000)), blocks)
    assert packed_bytes(store) < 6000
    assert read_all(store, record.id)[RAM.name] == blocks.tobytes()


def test_zeros_and_what_is_equal_cost_nothing(store: CaseStore) -> None:
    with store.writer(GUEST) as writer:
        put_one(writer, RAM, [1, 2, 3], np.zeros((3, 4096), np.uint8))
        assert packed_bytes(store) == 0
        put_one(writer, RAM, [1, 2], noise(2, 4096), 1)
        before = packed_bytes(store)
        for number in range(2, 4):
            record = put_one(writer, RAM, [1, 2], noise(2, 4096), number)
            assert store.maps.delta(GUEST, record.id).base is not None
        put_one(writer, RAM, [1], np.zeros((1, 4096), np.uint8), 5)
    assert packed_bytes(store) == before


@pytest.mark.parametrize("spec", [RAM, DISK])
def test_chains_are_bounded(store: CaseStore, spec: RegionSpec) -> None:
    rng = np.random.default_rng(4)
    content = rng.integers(0, 256, (3, spec.block_size), dtype=np.uint8)
    depths, expected = [], []
    with store.writer(GUEST) as writer:
        for number in range(25):
            if number:
                content = touched(rng, content)
            record = put_one(writer, spec, [0, 3, 7], content, number)
            expected.append((record, content.copy()))
            depths.append(chain_depths(store, record, spec).tolist())
    assert [row[0] for row in depths] == [number % (MAX_CHAIN + 1) for number in range(25)]
    for record, blocks in expected:
        region = CaseStore.open(store.path).view(record.id).region(spec.name)
        assert (region.read_blocks(np.array([0, 3, 7])) == blocks).all()
        assert region.read(3 * spec.block_size, 50) == blocks[1, :50].tobytes()


def test_xor_only_where_it_pays(store: CaseStore) -> None:
    with store.writer(GUEST) as writer:
        put_one(writer, RAM, [0], noise(1, 4096, 1))
        unlike = put_one(writer, RAM, [0], noise(1, 4096, 2), 1)
        assert chain_depths(store, unlike, RAM).tolist() == [0]
        sparse = np.zeros((1, 4096), np.uint8)
        sparse[0, 7] = 1
        assert chain_depths(store, put_one(writer, RAM, [0], sparse, 2), RAM).tolist() == [0]


def test_a_small_change_of_a_page_costs_little(store: CaseStore) -> None:
    content = noise(200, 4096)
    with store.writer(GUEST) as writer:
        put_one(writer, RAM, list(range(200)), content)
        before = packed_bytes(store)
        content[:, 100:104] ^= 0xFF
        record = put_one(writer, RAM, list(range(200)), content, 1)
    assert packed_bytes(store) - before < 200 * 60
    stored = (store.path / f"guests/{GUEST}/deltas/{record.id}.delta").stat().st_size
    assert record.facts["stored_bytes"] == packed_bytes(store) - before + stored


def test_a_damaged_ancestor_does_not_stop_the_captures(built: Built) -> None:
    store = built.open()
    with store.writer(GUEST) as writer:
        writer.move_to(built.ids[-1])
        for pack in built.path.glob("packs/*/*.pack"):
            pack.write_bytes(b"RWpack\0\1 gone")
        store.packs.forget()
        record = put_one(writer, DISK, list(range(DISK.blocks)), noise(DISK.blocks, 65536), 10**12)
    expected = noise(DISK.blocks, 65536).tobytes()[: DISK.length]
    assert read_all(built.open(), record.id)[DISK.name] == expected


# Skip deltas.


def test_each_capture_resolves_in_few_deltas(store: CaseStore) -> None:
    records = []
    with store.writer(GUEST) as writer:
        for number in range(70):
            page = np.full((1, 4096), number + 1, np.uint8)
            records.append(put_one(writer, RAM, [number % 50], page, number))
            if number == 40:
                store.maps.forget()  # the next delta is composed from files
    store = CaseStore.open(store.path)
    for depth, record in enumerate(records):
        chain = store.maps.chain(GUEST, record.id)
        assert [delta.depth for _, delta in chain] == list(iter_depths(depth))
        for target in range(depth + 1):
            assert store.ancestor(record.id, target) == records[target].id
    with pytest.raises(UsageError, match="no ancestor at this depth"):
        store.ancestor(records[3].id, 4)


def iter_depths(depth: int) -> list[int]:
    """A depth with its lowest bit cleared, again and again."""
    depths = [depth]
    while depths[-1]:
        depths.append(depths[-1] & (depths[-1] - 1))
    return depths


# Facts.


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"a": float("nan")}, "JSON has no such number; where 'facts.a'"),
        ({"a": [1, float("inf")]}, r"JSON has no such number; where 'facts.a\[1\]'"),
        ({"a": {1: 2}}, "key is not text; where 'facts.a'"),
        ({"a": np.int64(3)}, "value is not JSON; where 'facts.a'; found 'int64'"),
        ({"a": b"x"}, "value is not JSON; where 'facts.a'; found 'bytes'"),
        ({"a": {"b": {1, 2}}}, "value is not JSON; where 'facts.a.b'; found 'set'"),
        ({"a": "\ud800"}, "text has no UTF-8; where 'facts.a'"),
        ({"\ud800": 1}, "text has no UTF-8; where 'facts'"),
    ],
)
def test_facts_that_are_not_json(store: CaseStore, facts: Mapping[str, Any], message: str) -> None:
    with store.writer(GUEST) as writer, writer.begin([RAM]) as transaction:
        transaction.put(RAM.name, np.array([1]), noise(1, 4096))
        with pytest.raises(UsageError, match=message):
            transaction.commit(time_ns=START_NS, mode=CaptureMode.MANUAL, reason="", facts=facts)
        record = commit(transaction)  # refused facts cost nothing
    assert read_all(store, record.id)[RAM.name][4096:8192] == noise(1, 4096).tobytes()


def test_facts_come_back(store: CaseStore) -> None:
    facts = {"int": 2**70, "float": 0.1, "none": None, "deep": {"list": [1, [True, "ü"]]}, "": ""}
    with store.writer(GUEST) as writer:
        record = commit(writer.begin([RAM]), **{key or "empty": value for key, value in facts.items()})
    found = CaseStore.open(store.path).record(record.id)
    assert found == record
    assert {key: value for key, value in found.facts.items() if key != "stored_bytes"} == {
        key or "empty": value for key, value in facts.items()
    }


@pytest.mark.parametrize("time_ns", [-1, 2**63])
def test_times_out_of_range(store: CaseStore, time_ns: int) -> None:
    with store.writer(GUEST) as writer, pytest.raises(UsageError, match="between 1970 and 2262"):
        writer.begin([RAM]).commit(time_ns=time_ns, mode=CaptureMode.MANUAL, reason="", facts={})


# Refusals.


@pytest.mark.parametrize(
    ("indices", "blocks", "message"),
    [
        ([300], noise(1, 4096), "region has no such block"),
        ([-1], noise(1, 4096), "region has no such block"),
        ([1, 2], noise(1, 4096), "blocks do not fit their region"),
        ([1], noise(1, 4095), "blocks do not fit their region"),
        ([1], noise(1, 4096).astype(np.int16), "blocks do not fit their region"),
        ([[1]], noise(1, 4096), "blocks do not fit their region"),
    ],
)
def test_puts_that_do_not_fit(store: CaseStore, indices: list[int], blocks: np.ndarray, message: str) -> None:
    with store.writer(GUEST) as writer, writer.begin([RAM]) as transaction:
        with pytest.raises(UsageError, match=message):
            transaction.put(RAM.name, np.array(indices), blocks)
        assert not writer.head(RAM.name).any()
        assert packed_bytes(store) == 0
        commit(transaction)


@pytest.mark.parametrize(
    "spec",
    [
        replace(RAM, block_size=100),
        replace(RAM, block_size=0),
        replace(RAM, block_size=1 << 20),
        replace(RAM, length=-1),
        replace(RAM, length=2**62),
        replace(RAM, name=""),
        replace(RAM, name="x" * 256),
    ],
)
def test_regions_that_cannot_be(store: CaseStore, spec: RegionSpec) -> None:
    with store.writer(GUEST) as writer:
        with pytest.raises(UsageError):
            writer.begin([spec])
        commit(writer.begin([RAM]))


def test_misuse_is_told(store: CaseStore) -> None:
    with store.writer(GUEST) as writer:
        with pytest.raises(UsageError, match="two regions have one name"):
            writer.begin([RAM, RAM])
        transaction = writer.begin([RAM, DISK])
        for name in ("none", DISK.name):
            with pytest.raises(UsageError, match="region has no head"):
                writer.head(name)
        with pytest.raises(UsageError, match="the capture has no such region"):
            transaction.put("none", np.array([0]), noise(1, 4096))
        with pytest.raises(UsageError, match="only a state region takes a stream"):
            transaction.put_stream(RAM.name, b"")
        with pytest.raises(UsageError, match="a transaction is open"):
            writer.move_to(None)
        commit(transaction)
        with pytest.raises(UsageError, match="the transaction has ended"):
            commit(transaction)
        with pytest.raises(UsageError, match="the transaction has ended"):
            transaction.put(RAM.name, np.array([0]), noise(1, 4096))
        transaction.abort()
        with pytest.raises(ValueError, match="read-only"):
            writer.head(RAM.name)[0, 0] = 1


def test_what_the_case_does_not_have(built: Built) -> None:
    store = built.open()
    with pytest.raises(UsageError, match="no such guest"):
        store.writer(OTHER)
    with pytest.raises(UsageError, match="no such capture"):
        store.record(built.ids[0][::-1])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"no such region.*It has: pc\.ram, disk:vda, state:xml\."):
        store.view(built.ids[0]).region("none")
    assert store.captures(OTHER) == []
    assert store.marks(OTHER) == []


# Guests and marks.


def test_two_guests_do_not_meet(store: CaseStore) -> None:
    store.add_guest(OTHER, "other")
    assert [guest.name for guest in store.guests()] == ["demo", "other"]
    assert store.add_guest(OTHER, "renamed").name == "other"
    with store.writer(GUEST) as one, store.writer(OTHER) as two:
        first, second = put_one(one, RAM, [1], noise(1, 4096)), put_one(two, RAM, [1], noise(1, 4096))
        assert first.id != second.id
        with pytest.raises(UsageError, match="capture is of another guest"):
            one.move_to(second.id)
    assert len(list(store.path.glob("packs/*/*.pack"))) == 2
    with store.writer(OTHER) as two:
        third = put_one(two, RAM, [1, 2], noise(2, 4096))
    assert [index for found in store.diff(first.id, second.id).values() for index in found] == []
    assert store.diff(first.id, third.id)[RAM.name].tolist() == [2]
    with pytest.raises(UsageError, match="mark's capture is of another guest"):
        store.add_mark(Mark("x", GUEST, 5, second.id))


def test_marks(built: Built) -> None:
    store = built.open()
    marks = [Mark("b", GUEST, 7, built.ids[1], "alert", "näher"), Mark("a", GUEST, 7), Mark("c", GUEST, 3)]
    for mark in [*marks, marks[0]]:
        store.add_mark(mark)
    assert built.open().marks(GUEST) == [marks[2], marks[1], marks[0]]
    store.remove_mark(marks[1])
    store.remove_mark(marks[1])
    assert built.open().marks(GUEST) == [marks[2], marks[0]]
    for bad in (Mark(" ", GUEST, 5), Mark("x", GUEST, -1), Mark("x", GUEST, 5, note="\ud800")):
        with pytest.raises(UsageError):
            store.add_mark(bad)
    with pytest.raises(UsageError, match="no such guest"):
        store.add_mark(Mark("x", OTHER, 5))


# Moving.


def test_a_move_that_fails_leaves_no_parent(built: Built) -> None:
    with built.open().writer(GUEST) as writer:
        writer.move_to(built.ids[1])
        (built.path / f"guests/{GUEST}/deltas/{built.ids[5]}.delta").unlink()
        with pytest.raises(DamagedError):
            writer.move_to(built.ids[5])
        assert writer.parent is None
        with pytest.raises(UsageError, match="the writer has no parent"):
            writer.begin([RAM])
        writer.move_to(built.ids[2])
        extend(built, writer, 1)
    assert built.open().record(built.ids[-1]).parent == built.ids[2]
    assert read_all(built.open(), built.ids[-1]) == built.content[built.ids[-1]]


def test_a_move_within_few_reads(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a known parent only what differs is read."""
    with built.open().writer(GUEST) as writer:
        writer.move_to(built.ids[4])
        rows: list[int] = []
        read = type(writer.store.packs).read
        monkeypatch.setattr(
            type(writer.store.packs), "read", lambda self, p, o, r=None: (rows.append(len(p)), read(self, p, o, r))
        )
        writer.move_to(built.ids[5])
        assert 0 < sum(rows) <= 12 + 3 + 3
        assert writer.head(RAM.name).tobytes() == built.content[built.ids[5]][RAM.name]
        assert writer.head(XML.name).tobytes().rstrip(b"\0") == built.content[built.ids[5]][XML.name]


def test_forks(built: Built) -> None:
    with built.open().writer(GUEST) as writer:
        writer.move_to(built.ids[2])
        with writer.begin([RAM, DISK, XML], branch=1) as transaction:
            fork = commit(transaction, 10**12)
        assert (fork.parent, fork.depth, fork.branch) == (built.ids[2], 3, 1)
        with writer.begin([RAM, DISK, XML]) as transaction:
            assert commit(transaction, 10**12 + 1).branch == 1
    assert read_all(built.open(), fork.id) == built.content[built.ids[2]]
    assert read_all(built.open(), built.ids[5]) == built.content[built.ids[5]]
    changed = built.open().diff(fork.id, built.ids[5])
    for name, spec in ((RAM.name, RAM), (DISK.name, DISK)):
        left, right = (built.content[built.ids[each]][name] for each in (2, 5))
        size = spec.block_size
        expected = [i for i in range(spec.blocks) if left[i * size :][:size] != right[i * size :][:size]]
        assert changed[name].tolist() == expected


# Branches.


def test_a_second_successor_opens_the_next_branch_and_a_first_one_does_not(store: CaseStore) -> None:
    with store.writer(GUEST) as writer:
        records = [put_one(writer, RAM, [number], noise(1, 4096, number), number) for number in range(3)]
        assert [record.branch for record in records] == [0, 0, 0]
        writer.move_to(records[0].id)
        fork = put_one(writer, RAM, [9], noise(1, 4096, 9), 10)
        follower = put_one(writer, RAM, [9], noise(1, 4096, 10), 11)
        assert (fork.parent, fork.branch, follower.branch) == (records[0].id, 1, 1)
        writer.move_to(records[2].id)
        assert put_one(writer, RAM, [9], noise(1, 4096, 11), 12).branch == 0
        writer.move_to(records[1].id)
        assert put_one(writer, RAM, [9], noise(1, 4096, 12), 13).branch == 2
    with store.writer(GUEST) as writer:
        writer.move_to(None)
        assert put_one(writer, RAM, [9], noise(1, 4096, 13), 14).branch == 3


def test_equal_content_is_no_difference(store: CaseStore) -> None:
    """The first content comes back and is stored anew: another place, and yet the same block."""
    content = noise(3, 4096)
    with store.writer(GUEST) as writer:
        first = put_one(writer, RAM, [0, 1, 2], content)
        put_one(writer, RAM, [0, 1, 2], noise(3, 4096, 1), 1)
        content[2] ^= 1
        last = put_one(writer, RAM, [0, 1, 2], content, 2)
    places = [store.maps.region(GUEST, record.id, RAM).place for record in (first, last)]
    assert (places[0] != places[1]).all()
    assert store.diff(first.id, last.id)[RAM.name].tolist() == [2]
