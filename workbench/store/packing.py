"""Write blocks into packs: frames filled block by block, compressed by other threads, written in order.

Refuses to hold more than a few frames: memory is bounded however much is written. Nothing here is visible to a
reader until the transaction publishes the files.
"""

from __future__ import annotations

import secrets
from collections import deque
from concurrent.futures import Future

import numpy as np

from workbench.store.backend import Staged, Staging
from workbench.store.codec import compress, compressors
from workbench.store.format import (
    FRAME_BYTES,
    ID_BYTES,
    PACK_ID_BYTES,
    PACK_MAGIC,
    PACK_SLOTS,
    Footer,
    FrameColumns,
    SlotColumns,
    encode_footer,
    encode_trailer,
)
from workbench.store.packs import SLOT_BITS, PackTable, pack_name
from workbench.store.types import U8, U64

__all__ = ["PackWriter"]

_PACK_BYTES = 128 << 20
_WINDOW = 6  # frames compressed ahead of the file


class _OpenFrame:
    """A frame being filled. Slots are kept for all the blocks it has room for, so that places are known at once."""

    def __init__(self, first: int, block_size: int) -> None:
        self.first = first
        self.count = 0
        self.content = np.empty((FRAME_BYTES // block_size, block_size), np.uint8)


class _OpenPack:
    """One pack being written to a staged file."""

    def __init__(self, staged: Staged, number: int) -> None:
        self.staged = staged
        self.number = number
        self.slots = 0
        self.ids = np.zeros((PACK_SLOTS, ID_BYTES), np.uint8)
        self.depth = np.zeros(PACK_SLOTS, np.uint8)
        self.base = np.zeros(PACK_SLOTS, np.uint64)
        self.frames: list[tuple[int, int, int, int, int, bytes]] = []
        self._waiting: deque[tuple[_OpenFrame, Future[tuple[bytes, bytes]]]] = deque()
        staged.write(PACK_MAGIC)

    def close_frame(self, frame: _OpenFrame) -> None:
        """Have a frame compressed, and write whatever is ready."""
        self._waiting.append((frame, compressors().submit(compress, frame.content[: frame.count])))
        self.drain(_WINDOW)

    def drain(self, leave: int) -> None:
        """Write compressed frames, in order, until at most `leave` are waiting."""
        while len(self._waiting) > leave:
            frame, future = self._waiting.popleft()
            data, digest = future.result()
            row = (self.staged.size, len(data), frame.content.shape[1], frame.first, frame.count, digest)
            self.staged.write(data)
            self.frames.append(row)

    def footer(self, guest: bytes, table: PackTable) -> Footer:
        rows = sorted(self.frames, key=lambda row: row[3])
        length, size, first, count = (np.array([row[field] for row in rows], np.uint32) for field in range(1, 5))
        offset = np.array([row[0] for row in rows], np.uint64)
        digest = np.frombuffer(b"".join(row[5] for row in rows), np.uint8).reshape(-1, ID_BYTES)
        frames = FrameColumns(offset, length, size, first, count, digest)
        packs, column, slot = table.table(self.base[: self.slots])
        slots = SlotColumns(self.ids[: self.slots], self.depth[: self.slots], column, slot)
        # An entry that no slot names: a pack's name never comes back, so a prune can delete by name.
        return Footer(guest, frames, slots, (*packs, secrets.token_bytes(PACK_ID_BYTES)))


class PackWriter:
    """The packs of one transaction.

    Parameters
    ----------
    staging : Staging
    table : PackTable
        Gives numbers to the packs, so that places are known before their ids are.
    guest : bytes
        16 bytes that salt the packs' ids.
    """

    def __init__(self, staging: Staging, table: PackTable, guest: bytes) -> None:
        self._staging = staging
        self._table = table
        self._guest = guest
        self._open: _OpenPack | None = None
        self._filling: dict[int, _OpenFrame] = {}
        self.files: list[tuple[Staged, str]] = []
        """Sealed packs and the names that they are to get."""

    def add(self, blocks: U8, ids: U8, depth: U8, base: U64) -> U64:
        """Append blocks (already XORed where `base` is not 0) and return their places, (n,).

        Raises
        ------
        StoreFullError, StoreError
        """
        places = np.empty(len(blocks), np.uint64)
        done = 0
        while done < len(blocks):
            pack, frame = self._room(blocks.shape[1])
            taken = min(len(frame.content) - frame.count, len(blocks) - done)
            part, slot = slice(done, done + taken), frame.first + frame.count
            frame.content[frame.count : frame.count + taken] = blocks[part]
            pack.ids[slot : slot + taken] = ids[part]
            pack.depth[slot : slot + taken] = depth[part]
            pack.base[slot : slot + taken] = base[part]
            places[part] = (np.uint64(pack.number) << SLOT_BITS) | np.arange(slot, slot + taken, dtype=np.uint64)
            frame.count += taken
            done += taken
            if frame.count == len(frame.content):
                del self._filling[blocks.shape[1]]
                pack.close_frame(frame)
        return places

    def _room(self, block_size: int) -> tuple[_OpenPack, _OpenFrame]:
        """Return a frame with room for a block of `block_size`, and its pack; a full pack is finished first."""
        frame = self._filling.get(block_size)
        if frame is not None and self._open is not None:
            return self._open, frame
        capacity = FRAME_BYTES // block_size
        pack = self._open
        if pack is not None and (pack.slots + capacity > PACK_SLOTS or pack.staged.size > _PACK_BYTES):
            self.finish()
            pack = None
        if pack is None:
            pack = self._open = _OpenPack(self._staging.file(), self._table.reserve())
        frame = self._filling[block_size] = _OpenFrame(pack.slots, block_size)
        pack.slots += capacity
        return pack, frame

    def finish(self) -> None:
        """Write the open pack's last frames and footer. Its flush is left to the publication.

        Raises
        ------
        StoreFullError, StoreError
        """
        pack, self._open = self._open, None
        filling, self._filling = self._filling, {}
        if pack is None:
            return
        for frame in filling.values():
            pack.close_frame(frame)
        pack.drain(0)
        # Frames stand in the file in the order they were filled, but their slots were given out when they were opened:
        # the footer sorts by slot, so offsets may go back and forth.
        offset = pack.staged.size
        footer = encode_footer(pack.footer(self._guest, self._table))
        trailer, identity = encode_trailer(offset, footer)
        pack.staged.write(footer + trailer)
        self._table.bind(pack.number, identity)
        self.files.append((pack.staged, pack_name(identity)))

    @property
    def slots(self) -> int:
        """Slots given out of the open pack."""
        return self._open.slots if self._open else 0

    @property
    def stored_bytes(self) -> int:
        """Bytes of all files so far."""
        return sum(staged.size for staged, _ in self.files) + (self._open.staged.size if self._open else 0)
