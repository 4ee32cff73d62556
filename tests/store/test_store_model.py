"""The store against a plain dict: puts, commits, aborts, failures, moves, forks, regions that come, go and resize."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from casebuilder import GUEST, START_NS, read_all
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from workbench.errors import StoreError, StoreFullError, UsageError
from workbench.model import CaptureId, CaptureMode, RegionKind, RegionSpec
from workbench.store import CaseStore, Transaction, Writer, plan_prune
from workbench.store.local import _LocalStaging
from workbench.store.packing import PackWriter

NAMES = {
    "pc.ram": (RegionKind.MEMORY, 4096),
    "vga.vram": (RegionKind.MEMORY, 4096),
    "disk:vda": (RegionKind.DISK, 65536),
    "disk:vdb": (RegionKind.DISK, 512),
    "state:devices": (RegionKind.STATE, 4096),
}
lengths = st.integers(0, 12 * 4096)
rows = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), min_size=1, max_size=4)
ENDS = ["commit", "commit", "commit", "abort", "full", "refused"]
puts = st.tuples(st.sampled_from(sorted(NAMES)), rows)


def spec_of(name: str, length: int) -> RegionSpec:
    kind, size = NAMES[name]
    return RegionSpec(name, kind, length * (16 if size == 65536 else 1), size)


class StoreMachine(RuleBasedStateMachine):
    """`now` is what the next commit must hold; `committed` what each capture must."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.store = CaseStore.create(self.directory / "case")
        self.store.add_guest(GUEST, "model")
        self.writer: Writer = self.store.writer(GUEST)
        self.fresh = 0
        self.regions: dict[str, RegionSpec] = {}
        self.now: dict[str, bytearray] = {}
        self.committed: dict[CaptureId, tuple[dict[str, RegionSpec], dict[str, bytes]]] = {}
        self.parents: dict[CaptureId, CaptureId | None] = {}
        self.clock = START_NS

    def teardown(self) -> None:
        self.writer.close()
        shutil.rmtree(self.directory)

    # The shape of the guest.

    @initialize(ram=lengths, disk=lengths)
    def first_regions(self, ram: int, disk: int) -> None:
        for name, length in (("pc.ram", ram), ("disk:vda", disk)):
            self.regions[name] = spec_of(name, length)
            self.now[name] = bytearray()

    @rule(name=st.sampled_from(sorted(NAMES)), length=lengths)
    def add_or_resize(self, name: str, length: int) -> None:
        spec = spec_of(name, length)
        if spec.kind is RegionKind.STATE and name in self.regions:
            return  # its length follows its stream
        self.regions[name] = spec

    @precondition(lambda self: len(self.regions) > 1)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.regions)))
        # A region must be absent from a commit to be gone; removed and added again in between it is merely there.
        del self.regions[name]
        self.now.pop(name, None)
        self.commit(self.begin())

    # Transactions.

    @rule(
        rows=st.lists(puts, max_size=12),
        end=st.sampled_from(ENDS),
    )
    def capture(self, rows: list[tuple[str, list[tuple[int, int]]]], end: str) -> None:
        """A whole transaction: puts in any order, and then one of the ways it may end."""
        transaction = self.begin()
        failing = mock.patch.object(PackWriter, "add", side_effect=StoreFullError("full"))
        for number, (name, content) in enumerate(rows):
            with failing if end == "full" and number >= len(rows) // 2 else nullcontext():
                self.put(transaction, name, content)
        self.heads_hold_the_newest()
        if end == "commit":
            self.commit(transaction)
        elif end == "refused":
            with mock.patch.object(_LocalStaging, "_publish_group", side_effect=StoreFullError("full")):
                try:
                    self.commit(transaction)
                except StoreFullError:
                    pass
                else:
                    raise AssertionError("committed on a full disk")
        else:
            transaction.abort()

    def begin(self) -> Transaction:
        compare = set(self.writer.must_compare)
        transaction = self.writer.begin(list(self.regions.values()))
        for name, spec in self.regions.items():
            content = (self.now.get(name, bytearray()) + bytes(spec.length))[: spec.length]
            self.now[name] = content
            if name in compare and spec.blocks:
                padded = np.zeros((spec.blocks, spec.block_size), np.uint8)
                padded.reshape(-1)[: spec.length] = np.frombuffer(content, np.uint8)
                transaction.put(name, np.arange(spec.blocks), padded)
        return transaction

    def put(self, transaction: Transaction, name: str, rows: list[tuple[int, int]]) -> None:
        spec = self.regions.get(name)
        if spec is None:
            return
        if spec.kind is RegionKind.STATE and rows[0][0] % 2:
            data = b"".join(self.block(seed, 4096).tobytes() for _, seed in rows)[: rows[0][0] * 1000]
            self.regions[name] = replace(spec, length=len(data))
            self.now[name] = bytearray(data)
            with suppress(StoreError):
                transaction.put_stream(name, data)
        elif spec.blocks:
            indices = np.array([index % spec.blocks for index, _ in rows])
            blocks = np.stack([self.block(seed, spec.block_size) for _, seed in rows])
            for index, content in zip(indices.tolist(), blocks, strict=True):
                start = index * spec.block_size
                end = min(spec.length, start + spec.block_size)
                self.now[name][start:end] = content.tobytes()[: end - start]
            with suppress(StoreError):
                transaction.put(name, indices, blocks)

    def block(self, seed: int, size: int) -> np.ndarray:
        """Contents of three kinds: zeros, one of a few that meet again, and ones that differ from these in little."""
        content = np.zeros(size, np.uint8)
        if seed:
            content[:] = np.random.default_rng(seed % 2).integers(0, 256, size, dtype=np.uint8)
            content[seed] ^= 0xFF
        if seed > 4:
            self.fresh += 1
            content[8:16] = np.frombuffer(self.fresh.to_bytes(8, "big"), np.uint8)
        return content

    def commit(self, transaction: Transaction) -> None:
        self.clock += 1
        parent = self.writer.parent
        try:
            record = transaction.commit(time_ns=self.clock, mode=CaptureMode.MANUAL, reason="", facts={})
        except StoreFullError:
            assert self.writer.parent == parent
            raise
        assert record.parent == parent
        assert {region.spec.name: region.spec for region in record.regions} == self.regions
        self.parents[record.id] = parent
        self.committed[record.id] = (dict(self.regions), {name: bytes(data) for name, data in self.now.items()})

    # Going elsewhere.

    @precondition(lambda self: self.committed)
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        capture = data.draw(st.sampled_from(list(self.committed)))
        self.writer.move_to(capture)
        self.follow(capture)

    def follow(self, capture: CaptureId) -> None:
        regions, content = self.committed[capture]
        self.regions = dict(regions)
        self.now = {name: bytearray(data) for name, data in content.items()}

    @rule()
    def move_to_nothing(self) -> None:
        self.writer.move_to(None)
        self.now = {name: bytearray(len(data)) for name, data in self.now.items()}

    @precondition(lambda self: self.committed)
    @rule(data=st.data())
    def reopen(self, data: st.DataObject) -> None:
        self.writer.close()
        self.store = CaseStore.open(self.directory / "case")
        self.writer = self.store.writer(GUEST)
        self.move(data)

    # Pruning, with the writer open: it is idle meanwhile, so what it may name is left to a later prune.

    @precondition(lambda self: self.committed)
    @rule(data=st.data(), own=st.booleans())
    def prune(self, data: st.DataObject, own: bool) -> None:
        store = self.store if own else CaseStore.open(self.directory / "case")
        newest = store.captures(GUEST)[-1].id
        free = sorted(set(self.committed) - {newest, self.writer.parent})
        drop = data.draw(st.sets(st.sampled_from(free), max_size=8)) if free else set()
        parent = self.writer.parent
        done = plan_prune(store, GUEST, drop).execute(patience_s=0)
        assert not done.complete
        self.committed = {each: content for each, content in self.committed.items() if each not in drop}
        assert self.writer.parent == parent
        if data.draw(st.booleans()):
            self.writer.catch_up()

    @precondition(lambda self: self.committed)
    @rule(data=st.data())
    def prune_alone(self, data: st.DataObject) -> None:
        """With no writer open everything is swept: nothing is left that no capture needs."""
        self.writer.close()
        newest = self.store.captures(GUEST)[-1].id
        free = sorted(set(self.committed) - {newest})
        drop = data.draw(st.sets(st.sampled_from(free), max_size=8)) if free else set()
        assert plan_prune(self.store, GUEST, drop).execute(patience_s=0).complete
        self.committed = {each: content for each, content in self.committed.items() if each not in drop}
        deltas = {path.name.removesuffix(".delta") for path in self.directory.glob("case/guests/*/deltas/*")}
        assert deltas == set(self.committed)
        again = plan_prune(self.store, GUEST, [])
        assert (again.remove, again.rewrite, again.rebase) == (0, 0, 0)
        self.writer = self.store.writer(GUEST)
        self.move(data)

    # What must hold.

    @precondition(lambda self: self.committed)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        capture = data.draw(st.sampled_from(list(self.committed)))
        store = CaseStore.open(self.directory / "case")
        assert read_all(store, capture) == self.committed[capture][1]

    @precondition(lambda self: self.committed)
    @rule(data=st.data())
    def compare(self, data: st.DataObject) -> None:
        first, second = (data.draw(st.sampled_from(list(self.committed))) for _ in range(2))
        store = data.draw(st.sampled_from([self.store, CaseStore.open(self.directory / "case")]))
        found = {name: indices.tolist() for name, indices in store.diff(first, second).items()}
        assert found == self.expected_diff(first, second)

    def expected_diff(self, first: CaptureId, second: CaptureId) -> dict[str, list[int]]:
        (_, a), (_, b) = self.committed[first], self.committed[second]
        expected = {}
        for name in a | b:
            size = NAMES[name][1]
            left, right = a.get(name, b""), b.get(name, b"")
            blocks = -(-max(len(left), len(right)) // size)
            left, right = left.ljust(blocks * size, b"\0"), right.ljust(blocks * size, b"\0")
            expected[name] = [
                index for index in range(blocks) if left[index * size :][:size] != right[index * size :][:size]
            ]
        return expected

    @precondition(lambda self: self.committed)
    @rule(data=st.data())
    def ancestors(self, data: st.DataObject) -> None:
        here: CaptureId | None = data.draw(st.sampled_from(list(self.committed)))
        start = here
        depth = self.store.record(start).depth
        while here is not None:
            if here in self.committed:
                assert self.store.ancestor(start, depth) == here
            else:
                with pytest.raises(UsageError, match="was pruned"):
                    self.store.ancestor(start, depth)
            here, depth = self.parents[here], depth - 1

    @rule()
    def check(self) -> None:
        assert self.store.check() == []

    def heads_hold_the_newest(self) -> None:
        for name, content in self.now.items():
            if NAMES[name][0] is not RegionKind.DISK:
                head = self.writer.head(name)
                assert head.tobytes()[: len(content)] == bytes(content)
                assert not any(head.tobytes()[len(content) :])

    @invariant()
    def listing_is_complete(self) -> None:
        assert {ref.id for ref in self.store.captures(GUEST)} == set(self.committed)


StoreMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestStoreModel = StoreMachine.TestCase


def test_a_second_transaction_is_refused(tmp_path: Path) -> None:
    store = CaseStore.create(tmp_path / "case")
    store.add_guest(GUEST, "model")
    with store.writer(GUEST) as writer:
        writer.begin([])
        with pytest.raises(UsageError, match="a transaction is open"):
            writer.begin([])
