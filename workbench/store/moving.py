"""Copy stranded blocks of kept captures into new packs, and remember where they went.

A pack's footer names the packs that its blocks are XORed against, so these are closed before it: blocks of one chain
depth go into one pack, and packs are closed by depth. Refuses to copy what is not what its id says. Nothing here is
visible to a reader until the packs are published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from workbench.errors import DamagedError
from workbench.model import CaptureId, GuestId
from workbench.store.backend import Staged, Staging
from workbench.store.blocks import Blocks
from workbench.store.codec import block_ids, choose_xor
from workbench.store.format import MAX_CHAIN, PACK_SLOTS
from workbench.store.index import KeyIndex
from workbench.store.maps import Maps, RegionStep
from workbench.store.packing import PackWriter
from workbench.store.packs import Packs
from workbench.store.types import I64, U8, U64

__all__ = ["Mover"]

_SLICE_BYTES = 8 << 20
_PACK_BYTES = 64 << 20
_MARGIN = 1024  # slots that frames of several block sizes may keep and not need


class _Moves:
    """Where blocks went, and how deep their chains are there."""

    def __init__(self) -> None:
        self._to = KeyIndex()
        self._depth = KeyIndex()

    def add(self, old: U64, new: U64, depth: U8) -> None:
        self._to.add(old, new.astype(np.int64))
        self._depth.add(new, depth.astype(np.int64))

    def now(self, places: U64) -> U64:
        """Return where blocks are now."""
        found = self._to.find(places)
        return np.where(found >= 0, found.astype(np.uint64), places)

    def depths(self, places: U64) -> I64:
        """Return the chain depths of blocks at new places, -1 of others."""
        return self._depth.find(places)


class Mover:
    """Moves the blocks of captures, ancestors first.

    Parameters
    ----------
    maps, packs : Maps, Packs
        As the files are; their places are those of `blocks`.
    stage : callable
        Opens a staging area for new packs.

    Attributes
    ----------
    moved : int
        Blocks copied.
    written : int
        Bytes of the packs that were closed.
    """

    def __init__(self, guest: GuestId, maps: Maps, packs: Packs, blocks: Blocks, stage: Callable[[], Staging]) -> None:
        self._guest = guest
        self._maps = maps
        self._packs = packs
        self._blocks = blocks
        self._stage = stage
        self._moves = _Moves()
        self._staging: Staging | None = None
        self._writers: dict[int, PackWriter] = {}
        self.moved = 0
        self.written = 0

    def relocate(self, steps: Mapping[str, RegionStep], parent: CaptureId | None) -> dict[str, RegionStep]:
        """Return the steps of a capture with the places that its blocks have now, copying those that are stranded.

        Parameters
        ----------
        parent : CaptureId or None
            The nearest kept ancestor, whose content blocks are XORed against.

        Raises
        ------
        StoreFullError, StoreError
        """
        return {name: self._step(name, step, parent) for name, step in steps.items()}

    def now(self, places: U64) -> U64:
        """Return where blocks are now."""
        return self._moves.now(places)

    def _step(self, name: str, step: RegionStep, parent: CaptureId | None) -> RegionStep:
        place = self._moves.now(step.place)
        rows = np.flatnonzero(self._blocks.stranded(place))
        _, first = np.unique(place[rows], return_index=True)
        rows = np.sort(rows[first])
        bases = self._bases(name, step, parent, rows)
        size = max(1, _SLICE_BYTES // max(1, step.block_size))
        for begin in range(0, len(rows), size):
            part = slice(begin, begin + size)
            self._copy(place[rows[part]], bases[part], step.block_size)
        return replace(step, place=self._moves.now(place)) if len(rows) or (place != step.place).any() else step

    def _bases(self, name: str, step: RegionStep, parent: CaptureId | None, rows: I64) -> U64:
        """Return where the same blocks lie in the nearest kept ancestor, 0 where they can be no base."""
        region = None if parent is None else self._maps.delta(self._guest, parent).regions.get(name)
        if parent is None or region is None or region.block_size != step.block_size or not len(rows):
            return np.zeros(len(rows), np.uint64)
        return self._maps.lookup(self._guest, parent, name, step.index[rows].astype(np.int64))

    def _copy(self, old: U64, bases: U64, size: int) -> None:
        """Copy blocks; those that cannot be read stay, with the packs that they rest on."""
        try:
            content, ids = self._content(old, size)
        except DamagedError:
            if not self._blocks.spare(old):
                raise
            return
        new_bases = self._moves.now(bases)
        depth = self._depths(new_bases)
        usable = (new_bases != 0) & (depth < MAX_CHAIN) & ~self._blocks.stranded(new_bases)
        content, chosen = self._xored(content, np.where(usable, bases, np.uint64(0)))
        base = np.where(chosen, new_bases, np.uint64(0))
        own = np.where(chosen, depth + 1, 0).astype(np.uint8)
        new = self._add(content, ids, own, base)
        self._moves.add(old, new, own)
        self.moved += len(old)

    def _content(self, places: U64, size: int) -> tuple[U8, U8]:
        content = np.empty((len(places), size), np.uint8)
        self._packs.read(places, content)
        ids = block_ids(content)
        if (ids != self._packs.ids(places)).any():
            raise DamagedError("blocks are not what their ids say")
        return content, ids

    def _depths(self, places: U64) -> I64:
        """Return the chain depths of blocks; too deep where that cannot be read."""
        depths = self._moves.depths(places)
        rest = np.flatnonzero((depths < 0) & (places != 0))
        try:
            depths[rest] = self._packs.depths(places[rest])
        except DamagedError:
            depths[rest] = MAX_CHAIN
        return depths

    def _xored(self, content: U8, bases: U64) -> tuple[U8, np.typing.NDArray[np.bool_]]:
        chosen = np.zeros(len(content), np.bool_)
        rows = np.flatnonzero(bases)
        if len(rows):
            before = np.empty((len(rows), content.shape[1]), np.uint8)
            try:
                self._packs.read(bases[rows], before)
            except DamagedError:
                return content, chosen
            mixed, better = choose_xor(content[rows], before)
            content = content.copy()
            content[rows[better]] = mixed[better]
            chosen[rows[better]] = True
        return content, chosen

    # Packs.

    def _add(self, content: U8, ids: U8, depth: U8, base: U64) -> U64:
        """Add blocks to the pack of their depth; return their places."""
        new = np.empty(len(content), np.uint64)
        for each in np.unique(depth).tolist():
            rows = np.flatnonzero(depth == each)
            new[rows] = self._writer(each, len(rows)).add(content[rows], ids[rows], depth[rows], base[rows])
        return new

    def _writer(self, depth: int, blocks: int) -> PackWriter:
        """Return the writer of a depth, with room for blocks in its pack."""
        writer = self._writers.get(depth)
        if writer is not None and (writer.slots + blocks + _MARGIN > PACK_SLOTS or writer.stored_bytes > _PACK_BYTES):
            self.publish()
            writer = None
        if writer is None:
            self._staging = self._staging or self._stage()
            salt = bytes.fromhex(self._guest.replace("-", ""))
            writer = self._writers[depth] = PackWriter(self._staging, self._packs.table, salt)
        return writer

    def publish(self) -> None:
        """Make the packs so far durable and visible.

        Raises
        ------
        StoreFullError, StoreError
        """
        if self._staging is None:
            return
        files: list[tuple[Staged, str]] = []
        for _, writer in sorted(self._writers.items()):
            writer.finish()
            self.written += writer.stored_bytes
            files += writer.files
        staging = self._staging
        self._staging, self._writers = None, {}
        try:
            staging.publish([files])
        finally:
            staging.discard()

    def discard(self) -> None:
        """Drop what is not published; never raises."""
        staging, self._staging, self._writers = self._staging, None, {}
        if staging is not None:
            staging.discard()
