"""What the page cache holds of file systems on disks: contents of files by inode, and metadata newer than the disk.

A page whose content is all there is told whole; of one that is there in part (blocks smaller than a page), the blocks.
Metadata is told only where a journal or the block layer holds it as newer than the disk: what was read once through
the device may be older than a file's own pages.

Refuses to join it with a disk (`workbench.instant` does), and file systems without a block device: `page_cache()`
lists their files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.memory.owning.buffers import Buffers, read_buffers
from workbench.memory.owning.filesystems import SuperBlock, read_super_blocks
from workbench.memory.owning.frames import I64, U64
from workbench.memory.owning.structpages import State, StructPages, read_struct_pages
from workbench.memory.owning.structures import Moment
from workbench.memory.owning.virtual import field
from workbench.model import PAGE

if TYPE_CHECKING:
    from workbench.memory.questions import Scene

__all__ = ["cached", "cached_of", "inodes_of"]

_LARGEST = (1 << 63) - 1
_NONE = SuperBlock(0, "", "", "", 0)


def cached(scene: Scene) -> pd.DataFrame:
    """Return what the page cache holds of file systems on disks.

    Returns
    -------
    DataFrame
        By file system, inode and offset:

        device, uuid, kind : string
            Of the file system: the kernel's name of the device ("vda1"), and what it was told at mounting.
        inode : Int64
            -1 for metadata of the file system itself.
        generation, links, size : Int64
            Of the inode in memory; size in bytes, 0 for metadata.
        mode : Int64
            With the kind of file (`st_mode`).
        offset, length : Int64
            Bytes in the file; for metadata, in the device.
        address : UInt64
            Physical, where they lie in memory.
        dirty : bool
            Newer than the disk.

        `attrs["error"]` says what could not be read.

    Raises
    ------
    SymbolsError, StoreError
    """
    from workbench.memory.volatility.ownership import moment_of

    return cached_of(moment_of(scene.sight, scene.view))


def cached_of(moment: Moment) -> pd.DataFrame:
    """Return `cached` of a moment.

    Raises
    ------
    SymbolsError, StoreError
    """
    systems, error = read_super_blocks(moment)
    disks = [each for each in systems if each.blocks]
    numbers = moment.frames.numbers
    struct = read_struct_pages(moment, numbers)
    rows = np.flatnonzero(struct.state == State.FILE)
    pieces = _pieces(moment, struct, rows, numbers)
    parts = [_of_files(moment, struct, disks, *pieces), *(_of_device(struct, each, *pieces) for each in disks)]
    frame = pd.concat(parts, ignore_index=True)
    frame = frame.sort_values(["device", "inode", "offset"], kind="stable", ignore_index=True)
    frame.attrs["error"] = error
    return frame


def _pieces(moment: Moment, struct: StructPages, rows: I64, numbers: I64) -> tuple[I64, Buffers, NDArray[Any]]:
    """Return the row of each piece that is there, the pieces, and their physical addresses: pages and blocks."""
    buffers = read_buffers(moment, numbers[rows], struct.private[rows])
    whole = rows[struct.current[rows]]
    none = np.zeros(len(whole), np.int64)
    pages = Buffers(none, none, np.full(len(whole), PAGE), struct.dirty[whole])
    found = Buffers(*(np.concatenate([getattr(pages, n), getattr(buffers, n)]) for n in Buffers.__slots__))
    row = np.concatenate([whole, rows[buffers.page]])
    found.page = np.concatenate([np.full(len(whole), -1), buffers.page])  # -1: a page, not one of its blocks
    return row, found, numbers[row] * PAGE + found.offset


def _of_files(
    moment: Moment, struct: StructPages, disks: list[SuperBlock], row: I64, found: Buffers, address: I64
) -> pd.DataFrame:
    """Return contents: pages that are there as a whole, and blocks of the others."""
    chosen = np.flatnonzero((found.page < 0) | ~struct.current[row])
    newer = np.zeros(len(struct.state), bool)
    newer[row[found.newer]] = True  # a block that is newer makes its page so
    told, which = inodes_of(moment, struct.mapping[row[chosen]], disks)
    kept = which >= 0
    chosen = chosen[kept]
    return _placed(
        told[kept],
        struct.index[row[chosen]] * PAGE + found.offset[chosen],
        found.length[chosen],
        address[chosen],
        found.newer[chosen] | newer[row[chosen]] & (found.page[chosen] < 0),
    )


def inodes_of(moment: Moment, mapping: U64, disks: list[SuperBlock]) -> tuple[pd.DataFrame, I64]:
    """Return what is told of the inodes of address spaces, a row each, and which of `disks` each is of, -1 for none.

    Returns
    -------
    DataFrame
        device, uuid, kind (string), inode, generation, links, size, mode (Int64).
    (n,) int64

    Raises
    ------
    SymbolsError, StoreError
    """
    each, back = np.unique(mapping, return_inverse=True)
    inodes = _Inodes(moment, each)
    which = inodes.system({disk.address: at for at, disk in enumerate(disks)})[back]
    systems = [disks[at] if at >= 0 else _NONE for at in which.tolist()]
    return _told(systems, {name: values[back] for name, values in inodes.columns().items()}), which


def _of_device(struct: StructPages, system: SuperBlock, row: I64, found: Buffers, address: I64) -> pd.DataFrame:
    """Return the metadata of a file system that is newer than its disk."""
    chosen = np.flatnonzero((struct.mapping[row] == np.uint64(system.blocks)) & (found.page >= 0) & found.newer)
    none = np.zeros(len(chosen), np.int64)
    columns = {"inode": none - 1, "generation": none, "links": none, "size": none, "mode": none}
    offset = struct.index[row[chosen]] * PAGE + found.offset[chosen]
    told = _told([system] * len(chosen), columns)
    return _placed(told, offset, found.length[chosen], address[chosen], none == 0)


class _Inodes:
    """Inodes of address spaces."""

    def __init__(self, moment: Moment, mapping: U64) -> None:
        structures, virtual = moment.structures, moment.virtual
        host = virtual.words(mapping + np.uint64(structures.offset("address_space", "host")))
        self._rows, self._whole = virtual.gather(host, min(PAGE, structures.size("inode")))
        self._structures = structures

    def _member(self, name: str, form: str = "<u8") -> U64:
        return field(self._rows, self._structures.offset("inode", name), form)

    def system(self, known: dict[int, int]) -> I64:
        """Return which file system each is of, -1 for none."""
        blocks = np.where(self._whole, self._member("i_sb"), np.uint64(0))
        return np.array([known.get(each, -1) for each in blocks.tolist()], np.int64)

    def columns(self) -> dict[str, I64]:
        """Return what is told of each."""
        size = np.minimum(self._member("i_size"), np.uint64(_LARGEST)).astype(np.int64)
        return {
            "inode": np.minimum(self._member("i_ino"), np.uint64(_LARGEST)).astype(np.int64),
            "generation": self._member("i_generation", "<u4").astype(np.int64),
            "links": self._member("i_nlink", "<u4").astype(np.int64),
            "size": size,
            "mode": self._member("i_mode", "<u2").astype(np.int64),
        }


def _told(systems: list[SuperBlock], columns: dict[str, I64]) -> pd.DataFrame:
    texts = {name: pd.array([getattr(each, name) for each in systems], "string") for name in ("device", "uuid", "kind")}
    return pd.DataFrame({**texts, **{name: pd.array(values, "Int64") for name, values in columns.items()}})


def _placed(told: pd.DataFrame, offset: I64, length: I64, address: I64, dirty: NDArray[Any]) -> pd.DataFrame:
    return told.reset_index(drop=True).assign(
        offset=pd.array(offset, "Int64"),
        length=pd.array(length, "Int64"),
        address=pd.array(address.astype(np.uint64), "UInt64"),
        dirty=np.asarray(dirty, bool),
    )
