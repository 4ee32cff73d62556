"""One capture on its way into the store: blocks are deduplicated, XORed, packed; then the map, then the record.

Refuses to lose content: whatever `put` was given is in the head (memory, state) or in the carry (disks) before the
first byte is written, so a transaction that fails costs nothing but itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from workbench.errors import StoreError, UsageError
from workbench.model import CaptureId, CaptureMode, CaptureRecord, RegionKind, RegionRecord, RegionSpec
from workbench.store.backend import Staged, Staging
from workbench.store.codec import block_ids, differ
from workbench.store.documents import check_region, encode_record
from workbench.store.format import encode_delta, encode_delta_body
from workbench.store.heads import Head, newest
from workbench.store.livemap import region_digest
from workbench.store.maps import Delta, RegionStep, base_among, delta_name, region_deltas, stacked
from workbench.store.placing import GrowingRegion, Placer
from workbench.store.types import I64, U8

if TYPE_CHECKING:
    from workbench.store.writer import Writer

__all__ = ["Transaction"]

_SLICE_BYTES = 8 << 20


class Transaction:
    """A capture being written; made by `Writer.begin`. Used as a context manager, it aborts unless it was committed."""

    def __init__(self, writer: Writer, regions: Sequence[RegionSpec], branch: int) -> None:
        self._writer = writer
        self._store = writer.store
        parent = None if writer.parent is None else self._store.record(writer.parent)
        self._depth = 0 if parent is None else parent.depth + 1
        self.branch = branch
        self._regions: dict[str, GrowingRegion] = {}
        self._staging: Staging | None = None
        self._placer = Placer(writer, self._regions, self._staged)
        self._failed: BaseException | None = None
        self._ended = False
        for spec in regions:
            self._shape(spec)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _shape(self, spec: RegionSpec) -> None:
        """Give a region its shape in this capture."""
        known = self._writer.maps.get(spec.name)
        if spec.kind is RegionKind.STATE and known is not None and known.spec.kind is RegionKind.STATE:
            # A state region keeps what it has until a stream replaces it, whatever length was announced.
            head = self._writer.heads.get(spec.name)
            if head is not None and head.spec.block_size == spec.block_size:
                spec = head.spec
        self._reshape(spec)

    def _reshape(self, spec: RegionSpec) -> None:
        region = self._regions[spec.name] = GrowingRegion(spec, self._writer.maps.get(spec.name))
        heads = self._writer.heads
        if spec.kind is RegionKind.DISK:
            heads.pop(spec.name, None)
        else:
            head = heads.get(spec.name)
            heads[spec.name] = (head or Head(replace(spec, length=0))).reshaped(spec, region.live.place)

    # Putting.

    def put(self, region: str, indices: I64, blocks: U8) -> None:
        """Give blocks their content in this capture; what is equal to the current content costs nothing.

        Parameters
        ----------
        region : str
        indices : (n,) int64
            In any order; of one given twice, in one call or in several, the later content counts.
        blocks : (n, block_size) uint8
            What lies past the region's length is taken for zeros.

        Raises
        ------
        UsageError
            If there is no such region or block, or the shapes do not fit; nothing was put.
        StoreFullError, StoreError
            The content is remembered nevertheless, and the transaction can only be aborted.
        """
        target = self._target(region)
        indices, blocks = self._sound(target.spec, indices, blocks)
        step = max(1, _SLICE_BYTES // target.spec.block_size)
        done = 0
        try:
            self._check_failed()
            for done in range(0, len(indices), step):
                part = slice(done, done + step)
                self._put_slice(target, indices[part], blocks[part])
        except BaseException as error:
            self._failed = self._failed or error
            self._remember(target, indices[done:], blocks[done:])
            raise

    def put_stream(self, region: str, data: bytes) -> None:
        """Give a state region its whole content, of any length.

        Raises
        ------
        UsageError
            If there is no such state region.
        StoreFullError, StoreError
            As for `put`.
        """
        spec = self._target(region).spec
        if spec.kind is not RegionKind.STATE:
            raise UsageError("only a state region takes a stream", region=region, cure="Put blocks instead.")
        if len(data) != spec.length:
            spec = replace(spec, length=len(data))
            check_region(spec)
            # Blocks put before are pending in the head, so the changes of the old shape may be dropped.
            self._reshape(spec)
        padded = np.zeros((spec.blocks, spec.block_size), np.uint8)
        padded.reshape(-1)[: len(data)] = np.frombuffer(data, np.uint8)
        self.put(region, np.arange(spec.blocks), padded)

    def _target(self, region: str) -> GrowingRegion:
        if self._ended:
            raise UsageError("the transaction has ended", cure="Begin another.")
        target = self._regions.get(region)
        if target is None:
            raise UsageError(
                "the capture has no such region", region=region, known=sorted(self._regions), cure="Name it in begin()."
            )
        return target

    def _check_failed(self) -> None:
        if self._failed is not None:
            raise StoreError(
                f"the transaction has failed before: {self._failed}",
                cure="Abort it; what was put goes into the next one.",
            )

    @staticmethod
    def _sound(spec: RegionSpec, indices: I64, blocks: U8) -> tuple[I64, U8]:
        indices = np.asarray(indices, np.int64)
        if indices.ndim != 1 or blocks.dtype != np.uint8 or blocks.shape != (len(indices), spec.block_size):
            raise UsageError(
                "blocks do not fit their region",
                region=spec.name,
                expected=(indices.size, spec.block_size),
                found=blocks.shape,
                cure="Give uint8 of that shape.",
            )
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < spec.blocks:
            raise UsageError(
                "region has no such block",
                region=spec.name,
                blocks=spec.blocks,
                found=int(indices.max()),
                cure="Put blocks below that.",
            )
        indices, blocks = newest(indices, np.ascontiguousarray(blocks))
        tail = spec.length % spec.block_size
        if tail and len(indices) and indices[-1] == spec.blocks - 1 and blocks[-1, tail:].any():
            blocks = blocks.copy()
            blocks[-1, tail:] = 0
        return indices, blocks

    def _remember(self, target: GrowingRegion, indices: I64, blocks: U8) -> None:
        if target.spec.kind is RegionKind.DISK:
            self._writer.carry.add(target.spec.name, indices, blocks)
        else:
            self._writer.heads[target.spec.name].set(indices, blocks)

    def _put_slice(self, target: GrowingRegion, indices: I64, blocks: U8) -> None:
        if target.spec.kind is RegionKind.DISK:
            self._remember(target, indices, blocks)
            ids = block_ids(blocks)
            rows = np.flatnonzero((ids != target.current_ids(indices)).any(axis=1))
            self._placer.place(
                target, indices[rows], blocks[rows], ids[rows], self._placer.stored_bases(target, indices[rows])
            )
            return
        head = self._writer.heads[target.spec.name]
        before = head.content[indices]
        rows = np.flatnonzero(differ(before, blocks))
        indices, blocks, before = indices[rows], blocks[rows], before[rows]
        # The head is the parent's content only where nothing newer was put.
        based = ~head.pending[indices]
        head.set(indices, blocks)
        self._placer.place(target, indices, blocks, block_ids(blocks), lambda rows: (before[rows], based[rows]))

    def _staged(self) -> Staging:
        if self._staging is None:
            self._staging = self._store.backend.stage(self._writer.guest)
        return self._staging

    # Ending.

    def shortened(self) -> set[str]:
        """Return the disks that are shorter here than in the parent, or gone: if they grow again, it is with zeros."""
        disks = {name: live.spec for name, live in self._writer.maps.items() if live.spec.kind is RegionKind.DISK}
        own = {name: region.spec.length for name, region in self._regions.items()}
        return {name for name, spec in disks.items() if own.get(name, 0) < spec.length}

    def abort(self) -> None:
        """Drop the transaction; what was put is remembered and goes into the next one. No error if it has ended."""
        if not self._ended:
            self._ended = True
            if self._staging is not None:
                self._staging.discard()
            self._writer.ended(self, None, None)

    def commit(self, *, time_ns: int, mode: CaptureMode, reason: str, facts: Mapping[str, Any]) -> CaptureRecord:
        """Make the capture durable and visible; the writer's parent is then this one.

        Parameters
        ----------
        time_ns : int
            Host clock, UTC, ns since the epoch.
        facts : mapping
            JSON. `stored_bytes` is added: bytes of new packs and of the delta (not of the record, which holds it).

        Raises
        ------
        UsageError
            If facts are not JSON or the transaction has ended. It stays open if facts or time were refused.
        StoreFullError, StoreError
            The transaction is aborted.
        """
        if self._ended:
            raise UsageError("the transaction has ended", cure="Begin another.")
        self._check_facts(time_ns, mode, reason, facts)
        try:
            self._check_failed()
            self._flush()
            return self._publish(time_ns, mode, reason, facts)
        except BaseException:
            self.abort()
            raise

    def _check_facts(self, time_ns: int, mode: CaptureMode, reason: str, facts: Mapping[str, Any]) -> None:
        """Refuse what cannot be recorded while nothing is lost by it."""
        self._record(time_ns, mode, reason, (), {**facts, "stored_bytes": 0})

    def _flush(self) -> None:
        """Store what earlier transactions failed to, and this one has not been given anew."""
        for name, target in self._regions.items():
            if target.spec.kind is RegionKind.DISK:
                self._flush_disk(target)
                continue
            head = self._writer.heads[name]
            indices = np.flatnonzero(head.pending)
            indices = indices[~target.changes.touched(indices)]
            self._flush_blocks(target, indices, head.content.__getitem__)

    def _flush_disk(self, target: GrowingRegion) -> None:
        tail = target.spec.length % target.spec.block_size
        carried = self._writer.carry.blocks(target.spec)
        if carried is not None:
            indices, blocks = carried
            if tail and len(indices) and indices[-1] == target.spec.blocks - 1:
                blocks[-1, tail:] = 0
            rows = np.flatnonzero(~target.changes.touched(indices))
            self._flush_blocks(target, indices[rows], lambda wanted: blocks[np.searchsorted(indices, wanted)])
        last = target.spec.blocks - 1
        if tail and target.live.place[last] and not target.changes.touched(np.array([last]))[0] and self._cut(target):
            block = np.zeros((1, target.spec.block_size), np.uint8)
            self._store.packs.read(target.live.place[last:], block)
            block[:, tail:] = 0
            self._flush_blocks(target, np.array([last]), lambda _: block)

    def _cut(self, target: GrowingRegion) -> bool:
        """Return whether the region is shorter than in the parent: its last block then may hold more than it should."""
        parent = self._writer.maps.get(target.spec.name)
        return parent is not None and target.spec.length < parent.spec.length

    def _flush_blocks(self, target: GrowingRegion, indices: I64, content: Callable[[I64], U8]) -> None:
        step = max(1, _SLICE_BYTES // target.spec.block_size)
        for begin in range(0, len(indices), step):
            part = indices[begin : begin + step]
            blocks = content(part)
            self._placer.place(target, part, blocks, block_ids(blocks), self._placer.stored_bases(target, part))

    def _publish(self, time_ns: int, mode: CaptureMode, reason: str, facts: Mapping[str, Any]) -> CaptureRecord:
        packs, packed = self._placer.finish()
        changed = {name: region.changed() for name, region in self._regions.items()}
        delta, body, plain = self._delta(changed)
        records, digests = self._digested(changed)
        stored = packed + len(encode_delta(bytes(32), None, 0, body, plain))
        record, data = self._record(time_ns, mode, reason, records, {**facts, "stored_bytes": stored})
        base = None if delta.base is None else bytes.fromhex(delta.base)
        files = [*packs]
        files.append(
            (
                self._file(encode_delta(bytes.fromhex(record.id), base, self._depth, body, plain)),
                delta_name(record.guest, record.id),
            )
        )
        commit = (self._file(data), self._store.record_name(record))
        self._staged().publish([files, [commit]])
        self._apply(record, delta, changed, digests)
        return record

    def _file(self, data: bytes) -> Staged:
        staged = self._staged().file()
        staged.write(data)
        return staged

    def _record(
        self, time_ns: int, mode: CaptureMode, reason: str, regions: tuple[RegionRecord, ...], facts: Mapping[str, Any]
    ) -> tuple[CaptureRecord, bytes]:
        return encode_record(
            guest=self._writer.guest,
            parent=self._writer.parent,
            depth=self._depth,
            branch=self.branch,
            time_ns=time_ns,
            mode=mode,
            reason=reason,
            regions=regions,
            facts=facts,
        )

    def _digested(self, changed: Mapping[str, I64]) -> tuple[tuple[RegionRecord, ...], dict[str, U8]]:
        digests = {
            name: region.live.digests_with(changed[name], region.changes) for name, region in self._regions.items()
        }
        records = tuple(
            RegionRecord(region.spec, region_digest(digests[name])) for name, region in self._regions.items()
        )
        return records, digests

    def _delta(self, changed: Mapping[str, I64]) -> tuple[Delta, bytes, int]:
        """Return the delta against the ancestor that the depth asks for, its compressed body and its plain length."""
        steps = {
            name: RegionStep(
                region.spec.block_size,
                region.spec.blocks,
                region.kept,
                changed[name].astype(np.uint32),
                region.changes.places(changed[name]),
            )
            for name, region in self._regions.items()
        }
        parent, deltas = self._writer.parent, self._writer.deltas
        base: CaptureId | None = None
        if parent is not None:
            chain = deltas.chain(self._writer.guest, parent)
            base = base_among(chain, self._depth)
            steps = stacked(deltas.since(chain, base), steps)
        rows = region_deltas(steps, self._store.packs.table)
        return Delta(base, self._depth, steps), *encode_delta_body(rows)

    def _apply(
        self, record: CaptureRecord, delta: Delta, changed: Mapping[str, I64], digests: Mapping[str, U8]
    ) -> None:
        """Move the writer onto the new capture. Nothing here may touch a file: the commit has happened."""
        for name, region in self._regions.items():
            region.live.lay(changed[name], region.changes, digests[name])
        self._store.learn(record, delta)
        self._writer.deltas.learn(record.id, delta)
        self._writer.index.absorb(self._placer.index)
        self._ended = True
        self._staging = None
        self._writer.ended(self, {name: region.live for name, region in self._regions.items()}, record.id)
