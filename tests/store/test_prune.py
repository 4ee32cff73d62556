"""Pruning: what is kept stays byte-equal, what is dropped is gone, and its bytes, whoever reads or writes meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from casebuilder import (
    DISK,
    GUEST,
    RAM,
    START_NS,
    XML,
    Built,
    assert_whole,
    build_case,
    build_hot_case,
    extend,
    read_all,
)

from workbench.errors import DamagedError, MissingError, StoreBusyError, UsageError
from workbench.model import CaptureId, CaptureMode, Mark, RegionKind, RegionSpec
from workbench.store import CaseStore, Pruned, plan_prune
from workbench.store.format import MAX_CHAIN
from workbench.store.maps import level
from workbench.store.tombstones import encode_tombstones, tombstones_name


def size_of(path: Path) -> int:
    """Bytes of packs, deltas and records."""
    kinds = ("packs/*/*.pack", "guests/*/deltas/*", "guests/*/captures/*")
    return sum(file.stat().st_size for kind in kinds for file in path.glob(kind))


def drop(built: Built, numbers: Iterable[int], patience_s: float = 0.0) -> Pruned:
    """Prune captures by their numbers, in a store of its own; `built` then tells what is left."""
    gone = [built.ids[number] for number in numbers]
    done = plan_prune(built.open(), GUEST, gone).execute(patience_s=patience_s)
    forget(built, gone)
    return done


def forget(built: Built, gone: Iterable[CaptureId]) -> None:
    lost = set(gone)
    built.records = [record for record in built.records if record.id not in lost]
    for capture in lost:
        del built.content[capture]


def chains(built: Built) -> list[list[int]]:
    store = built.open()
    return [[delta.depth for _, delta in store.maps.chain(GUEST, each)] for each in built.ids]


# What stays and what goes.


@pytest.mark.parametrize("gone", [[0], [1], [4], [0, 1, 2, 3, 4], [0, 2, 4], [1, 3], []])
def test_what_is_kept_is_byte_equal(built: Built, gone: list[int]) -> None:
    ids = [built.ids[number] for number in gone]
    done = drop(built, gone)
    assert done.complete
    assert done.dropped == len(gone)
    assert_whole(built)
    store = built.open()
    assert [ref.id for ref in store.captures(GUEST)] == built.ids
    assert set(store.pruned(GUEST)) == set(ids)
    for capture in ids:
        with pytest.raises(UsageError, match="was pruned"):
            store.view(capture)
        assert not list(built.path.glob(f"guests/*/*/*{capture}*"))


def test_bytes_are_reclaimed(tmp_path: Path) -> None:
    """Of 300 captures each tenth stays: what is left is at most twice what these alone would have cost."""
    built = build_case(tmp_path / "case", 300)
    before = size_of(built.path)
    gone = [number for number in range(299) if number % 10]
    plan = plan_prune(built.open(), GUEST, [built.ids[number] for number in gone])
    done = plan.execute()
    forget(built, [built.ids[number] for number in gone])
    after = size_of(built.path)
    assert_whole(built)
    assert done.freed == before - after
    assert abs(plan.frees - done.freed) < 0.25 * before
    alone = fresh_copy(built, tmp_path / "alone")
    assert after < 2 * alone  # a pack stays while half of it is needed
    assert after < before / 2


def test_hot_pages_are_reclaimed(tmp_path: Path) -> None:
    """Pages that change in every capture are the case that thinning is for: nearly all of their bytes come back."""
    built = build_hot_case(tmp_path / "case", 200)
    before = size_of(built.path)
    gone = [number for number in range(1, 199) if number % 20]
    done = drop(built, gone)
    assert_whole(built)
    assert done.freed == before - size_of(built.path)
    assert size_of(built.path) < 1.3 * fresh_copy(built, tmp_path / "alone")


def fresh_copy(built: Built, path: Path) -> int:
    """Bytes of a case that holds only the captures of `built`, written anew."""
    store = CaseStore.create(path)
    store.add_guest(GUEST, "demo")
    with store.writer(GUEST) as writer:
        writer.move_to(None)
        for record in built.records:
            content = built.content[record.id]
            with writer.begin([region.spec for region in record.regions]) as transaction:
                for region in record.regions:
                    data = content[region.spec.name]
                    if region.spec.kind is RegionKind.STATE:
                        transaction.put_stream(region.spec.name, data)
                    else:
                        blocks = np.zeros((region.spec.blocks, region.spec.block_size), np.uint8)
                        blocks.reshape(-1)[: len(data)] = np.frombuffer(data, np.uint8)
                        transaction.put(region.spec.name, np.arange(region.spec.blocks), blocks)
                transaction.commit(time_ns=record.time_ns, mode=record.mode, reason="", facts={})
    return size_of(path)


def test_chains_stay_short_whatever_is_dropped(tmp_path: Path) -> None:
    built = build_case(tmp_path / "case", 40)
    random = np.random.default_rng(4)
    for _ in range(6):
        known = len(built.ids)
        drop(built, random.choice(known - 1, min(5, known // 3), replace=False).tolist())
        with built.open().writer(GUEST) as writer:
            writer.move_to(built.ids[-1])
            extend(built, writer, 3, seed=int(random.integers(100)))
    assert_whole(built)
    for chain in chains(built):
        assert len(chain) <= max(chain[0].bit_length(), 1) + 2
        levels = [level(depth) for depth in chain[:-1]]
        assert levels == sorted(set(levels))


def test_what_is_left_rests_on_nothing_that_goes(tmp_path: Path) -> None:
    """Hot pages, XORed eight deep: after thinning no chain is too deep, and no dead pack is kept."""
    built = build_hot_case(tmp_path / "case", 60)
    drop(built, [number for number in range(59) if number % 6])
    store = built.open()
    for record in built.records:
        for region in record.regions:
            places = store.maps.region(GUEST, record.id, region.spec).place
            assert (store.packs.depths(places) <= MAX_CHAIN).all()
    again = plan_prune(built.open(), GUEST, [])
    assert (again.remove, again.rebase) == (0, 0)


def test_pruning_twice_changes_nothing(built: Built) -> None:
    drop(built, [1, 2])
    drop(built, [])
    before = {path: path.read_bytes() for path in built.path.rglob("*") if path.is_file() and path.name != "turn"}
    done = drop(built, [])
    assert (done.dropped, done.rebased, done.moved, done.packs, done.freed) == (0, 0, 0, 0, 0)
    after = {path: path.read_bytes() for path in built.path.rglob("*") if path.is_file() and path.name != "turn"}
    assert after == before


def test_branches_fork_from_what_was_dropped(built: Built) -> None:
    trunk = built.ids[2]
    with built.open().writer(GUEST) as writer:
        writer.move_to(trunk)
        extend(built, writer, 3, seed=7)
    drop(built, [1, 2, 3, 6])
    assert_whole(built)
    store = built.open()
    assert [store.record(each).branch for each in built.ids] == [0, 0, 0, 1, 1]
    assert store.parent(store.record(built.ids[3])) == store.record(built.ids[0])
    with pytest.raises(UsageError, match="ancestor at this depth was pruned"):
        store.ancestor(built.ids[-1], 2)
    assert store.ancestor(built.ids[-1], 0) == built.ids[0]
    with store.writer(GUEST) as writer:
        writer.move_to(built.ids[-1])
        extend(built, writer, 1)
        writer.move_to(built.ids[0])
        extend(built, writer, 1)
        assert built.records[-1].branch == 2  # though no record tells of a capture that followed the first
    assert_whole(built)


def test_regions_that_come_go_and_resize(tmp_path: Path) -> None:
    """A capture between two that stay is where a region was gone, or short: the blocks beyond stay zeros."""
    store = CaseStore.create(tmp_path / "case")
    store.add_guest(GUEST, "demo")
    built = Built(tmp_path / "case")
    lengths = [20, 5, 20, 0, 20, 12, 30, 30]
    with store.writer(GUEST) as writer:
        writer.move_to(None)
        content = np.zeros((30, 4096), np.uint8)
        for number, length in enumerate(lengths):
            spec = RegionSpec("pc.ram", RegionKind.MEMORY, length * 4096, 4096)
            content[length:] = 0
            content[number : min(number + 3, length)] = number + 1
            with writer.begin([spec] if length else []) as transaction:
                if length:
                    rows = np.arange(number, max(number, min(number + 3, length)))
                    transaction.put("pc.ram", rows, content[rows])
                record = transaction.commit(time_ns=START_NS + number, mode=CaptureMode.MANUAL, reason="", facts={})
            built.content[record.id] = {"pc.ram": content[:length].tobytes()} if length else {}
            built.records.append(record)
            assert read_all(store, record.id) == built.content[record.id]
    drop(built, [1, 3, 5])
    assert_whole(built)
    drop(built, [0, 1, 2])
    assert_whole(built)


def test_other_guests_are_left_alone(built: Built) -> None:
    other = "0e7f3a52-9b1c-4e6d-8f00-ba9876543210"
    store = built.open()
    store.add_guest(other, "other")
    with store.writer(other) as writer, writer.begin([RAM]) as transaction:
        transaction.put(RAM.name, np.array([1]), np.full((1, 4096), 5, np.uint8))
        record = transaction.commit(time_ns=START_NS, mode=CaptureMode.MANUAL, reason="", facts={})
    drop(built, [0, 1, 2])
    assert_whole(built)
    assert read_all(built.open(), record.id)[RAM.name][4096:8192] == bytes([5]) * 4096


# What is refused.


def test_the_newest_and_strangers_are_refused(built: Built) -> None:
    store = built.open()
    with pytest.raises(UsageError, match="newest capture"):
        plan_prune(store, GUEST, [built.ids[-1]])
    with pytest.raises(UsageError, match="no such capture"):
        plan_prune(store, GUEST, [CaptureId("0" * 64)])
    assert_whole(built)


def test_what_a_writer_goes_on_from_is_refused(built: Built) -> None:
    store = built.open()
    with store.writer(GUEST) as writer:
        writer.move_to(built.ids[2])
        with pytest.raises(UsageError, match="a writer goes on from"):
            plan_prune(built.open(), GUEST, [built.ids[2]])


def test_a_plan_that_is_too_old_is_refused(built: Built) -> None:
    store = built.open()
    first, second, third = (plan_prune(store, GUEST, [built.ids[number]]) for number in (1, 2, 3))
    first.execute()
    with pytest.raises(UsageError, match="pruned since"):
        second.execute()
    forget(built, [built.ids[1]])
    assert_whole(built)
    third = plan_prune(store, GUEST, [built.ids[2]])
    store.add_mark(Mark("kept", GUEST, START_NS, built.ids[2]))
    with pytest.raises(UsageError, match="was marked"):
        third.execute()
    assert_whole(built)


def test_two_prunes_at_once_are_refused(built: Built) -> None:
    store = built.open()
    plan = plan_prune(store, GUEST, [built.ids[1]])
    lock = store.backend.lock(f"guests/{GUEST}/prune.lock")
    with pytest.raises(StoreBusyError):
        plan.execute()
    lock.release()
    assert plan.execute().dropped == 1


def test_a_plan_can_be_printed(built: Built) -> None:
    plan = plan_prune(built.open(), GUEST, built.ids[:4])
    text = str(plan)
    assert "drop      4 captures of 6" in text
    assert f"re-base   {plan.rebase}" in text
    assert "frees     about" in text
    assert_whole(built)


# Damage.


def test_lost_is_not_pruned(built: Built) -> None:
    drop(built, [1, 3])
    lost = built.records[1]
    (built.path / CaseStore.record_name(lost)).unlink()
    damages = built.open().check()
    assert any("parent's record is missing" in damage.what for damage in damages) is False  # its child was pruned
    assert any(damage.captures for damage in damages) is False
    child = built.records[3]
    (built.path / CaseStore.record_name(built.records[2])).unlink()
    damages = built.open().check()
    assert [(damage.captures, "parent's record is missing" in damage.what) for damage in damages] == [
        ((child.id,), True)
    ]


def test_a_damaged_tombstone_is_named(built: Built) -> None:
    drop(built, [1])
    (stone,) = built.path.glob("guests/*/pruned/*.pruned")
    data = stone.read_bytes()
    stone.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    damages = built.open().check()
    assert any(damage.path.endswith(stone.name) and "tombstones are damaged" in damage.what for damage in damages)
    with pytest.raises(DamagedError, match="tombstones are damaged"):
        built.open().pruned(GUEST)


def test_tombstones_that_lead_round_are_damage(built: Built) -> None:
    drop(built, [1, 2])
    store = built.open()
    first, second = store.pruned(GUEST).values()
    (path,) = built.path.glob("guests/*/pruned/*.pruned")
    path.unlink()
    data = encode_tombstones(GUEST, [first, replace(second, parent=second.id), replace(first, parent=second.id)])
    (path.parent / tombstones_name(START_NS, data)).write_bytes(data)
    store = built.open()
    with pytest.raises(DamagedError, match="does not get nearer to its root"):
        store.parent(store.record(built.ids[1]))
    assert plan_prune(store, GUEST, []).kept == len(built.ids)


def test_a_kept_capture_that_cannot_be_read_stops_the_plan(built: Built) -> None:
    delta = built.path / f"guests/{GUEST}/deltas/{built.ids[2]}.delta"
    data = delta.read_bytes()
    delta.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedError, match="What this capture needs is not known"):
        plan_prune(built.open(), GUEST, [built.ids[1]])


def test_a_damaged_block_stays_with_its_pack(tmp_path: Path) -> None:
    """Part of a pack that would go cannot be read: the pack stays as it is, and all else is pruned."""
    built = build_case(tmp_path / "case", 12)
    (pack,) = [path for path in built.path.glob("packs/*/*.pack") if path.stat().st_size == largest(built.path)]
    data = bytearray(pack.read_bytes())
    data[len(data) // 3] ^= 1
    pack.write_bytes(data)
    before = {capture for damage in built.open().check() for capture in damage.captures}
    plan_prune(built.open(), GUEST, built.ids[:9]).execute()
    after = built.open().check()
    assert {capture for damage in after for capture in damage.captures} <= before
    kept = set(built.ids[9:])
    assert kept & before <= {capture for damage in after for capture in damage.captures}


def largest(path: Path) -> int:
    return max(file.stat().st_size for file in path.glob("packs/*/*.pack"))


# Readers.


def test_a_reader_of_what_was_moved_looks_again(tmp_path: Path) -> None:
    built = build_case(tmp_path / "case", 30)
    reader = built.open()
    views = {capture: reader.view(capture) for capture in built.ids}
    for view in views.values():
        for region in view.regions:
            region.nonzero()
    expected = reader.diff(built.ids[10], built.ids[20])
    gone = [built.ids[number] for number in range(29) if number % 10]
    drop(built, [number for number in range(29) if number % 10])
    reader.packs.forget()
    for capture in built.ids:
        for region in views[capture].regions:
            assert region.read(0, region.spec.length) == built.content[capture][region.spec.name]
            region.verify()
    found = reader.diff(built.ids[1], built.ids[2])
    assert {name: rows.tolist() for name, rows in found.items()} == {n: r.tolist() for n, r in expected.items()}
    with pytest.raises(MissingError, match="was pruned"):
        views[gone[5]].region(RAM.name).read(0, RAM.length)
    with pytest.raises(MissingError, match="was pruned"):
        reader.diff(gone[5], built.ids[0])


# Writers.


def busy(writing: Callable[[], None], *, until: threading.Event) -> threading.Thread:
    def run() -> None:
        while not until.is_set():
            writing()
            time.sleep(0.01)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("same", [True, False], ids=["the same store", "a store of its own"])
def test_captures_go_on_meanwhile(tmp_path: Path, same: bool) -> None:
    """A writer takes captures while prune after prune thins what it wrote: what is kept is whole, bytes are freed."""
    built = build_case(tmp_path / "case", 60)
    store, ended = built.open(), threading.Event()
    results = []
    with store.writer(GUEST) as writer:
        writer.move_to(built.ids[-1])
        seeds = iter(range(1000, 100_000))
        thread = busy(lambda: extend(built, writer, 1, seed=next(seeds)), until=ended)
        try:
            for _ in range(4):
                enough = len(built.records) + 15
                while len(built.records) < enough:
                    time.sleep(0.01)
                pruner = store if same else built.open()
                known = [ref.id for ref in pruner.captures(GUEST)]
                gone = [capture for number, capture in enumerate(known[:-5]) if number % 4]
                results.append((plan_prune(pruner, GUEST, gone).execute(patience_s=60), gone))
        finally:
            ended.set()
            thread.join()
        extend(built, writer, 3, seed=5)
    for done, gone in results:
        forget(built, gone)
        assert done.packs > 0
        assert done.freed > 0
    assert_whole(built)
    assert drop(built, []).complete
    assert_whole(built)


def test_an_idle_writer_is_not_waited_for(built: Built) -> None:
    with built.open().writer(GUEST) as writer:
        writer.move_to(built.ids[-1])
        done = drop(built, [0, 1, 2])
        assert not done.complete
        assert done.packs == 0
        assert_whole(built)
        extend(built, writer, 1)
        assert_whole(built)
        done = drop(built, [])
        assert not done.complete
        extend(built, writer, 2, seed=4)
        assert_whole(built)
    done = drop(built, [])
    assert done.complete
    assert done.freed > 0
    assert_whole(built)


def test_a_writer_that_moved_to_what_is_dropped_keeps_it(built: Built) -> None:
    plan = plan_prune(built.open(), GUEST, [built.ids[2], built.ids[3]])
    with built.open().writer(GUEST) as writer:
        writer.move_to(built.ids[2])
        assert plan.execute(patience_s=0).dropped == 1
        forget(built, [built.ids[3]])
        assert_whole(built)
        extend(built, writer, 2, seed=3)
        assert_whole(built)
    forget(built, [built.ids[2]])
    assert plan_prune(built.open(), GUEST, []).execute().dropped == 1
    assert_whole(built)


def test_a_writer_may_not_move_to_what_was_dropped(built: Built) -> None:
    store = built.open()
    with store.writer(GUEST) as writer:
        writer.move_to(built.ids[-1])
        gone = built.ids[1]
        drop(built, [1])
        with pytest.raises((UsageError, MissingError), match="was pruned"):
            writer.move_to(gone)


def test_pending_puts_survive_a_prune(built: Built) -> None:
    """What a failed transaction was given goes into the next one, though the blocks below it were moved in between."""
    with built.open().writer(GUEST) as writer:
        writer.move_to(built.ids[-1])
        page = np.full((1, 4096), 77, np.uint8)
        transaction = writer.begin([RAM, DISK, XML])
        transaction.put(RAM.name, np.array([3]), page)
        transaction.abort()
        before = dict(built.content[built.ids[-1]])
        drop(built, [0, 1, 2, 3, 4])
        with writer.begin([RAM, DISK, XML]) as transaction:
            record = transaction.commit(time_ns=START_NS + 10**12, mode=CaptureMode.MANUAL, reason="", facts={})
    ram = before[RAM.name][: 3 * 4096] + page.tobytes() + before[RAM.name][4 * 4096 :]
    built.content[record.id] = {**before, RAM.name: ram}
    assert_whole(built)
