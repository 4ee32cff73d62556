"""What a page cache changes between two moments: contents that differ only in memory, and what a path hangs on there.

A page is known by its digest, which the store has: pages that both moments hold with one digest at one place of a
file are the same, and are not read. Refuses to call a page changed that one moment has in memory and the other on the
disk, with the same bytes.
"""

from __future__ import annotations

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from workbench.disk.pagecache import Held
from workbench.disk.parts import Part
from workbench.errors import DiskError, UnsupportedError
from workbench.store.types import I64

__all__ = ["fingerprint", "recached"]


def recached(before: Part, after: Part) -> I64:
    """Return the inodes of which a piece that either moment has in memory differs.

    Parameters
    ----------
    before, after : Part
        One file system at two moments.

    Returns
    -------
    (n,) int64
        Ascending; those that only one moment has, and those that cannot be read, are among them.

    Raises
    ------
    StoreError
    """
    other = np.setxor1d(_keys(before.held), _keys(after.held))
    places = np.unique(np.stack([other["inode"], other["offset"], other["length"]], axis=1), axis=0)
    cuts = np.flatnonzero(np.diff(places[:, 0], prepend=-1, append=-1))
    found = [
        int(places[first, 0])
        for first, last in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
        if _differ(before, after, places[first:last])
    ]
    return np.array(found, np.int64)


def _keys(held: Held | None) -> NDArray[np.void]:
    """Return each piece as one comparable value: where it is in which file, and its page's digest."""
    pieces = held.pieces if held is not None else np.zeros((0, 4), np.int64)
    kind = np.dtype([("inode", "<i8"), ("offset", "<i8"), ("length", "<i8"), ("id", "S32")])
    keys = np.zeros(len(pieces), kind)
    keys["inode"], keys["offset"], keys["length"] = pieces[:, 0], pieces[:, 1], pieces[:, 2]
    if held is not None and len(pieces):
        keys["id"] = np.ascontiguousarray(held.ids(pieces[:, 3])).view("S32")[:, 0]
    return keys


def _differ(before: Part, after: Part, places: I64) -> bool:
    """Tell whether one inode's content differs at any of some places."""
    inode = int(places[0, 0])
    try:
        with before.filesystem.open(inode) as one, after.filesystem.open(inode) as two:
            for offset, length in places[:, 1:].tolist():
                one.seek(offset)
                two.seek(offset)
                if one.read(length) != two.read(length):
                    return True
    except (DiskError, UnsupportedError):
        return True
    return False


def fingerprint(held: Held | None, part: Part, watched: I64, inode: int) -> bytes:
    """Return a digest of what memory has over some ranges of a disk and over one inode's content.

    The same digest over the same bytes of the disk is the same metadata and content.

    Parameters
    ----------
    held : Held or None
        Of the moment that is asked about.
    part : Part
        Only its shape is used.
    watched : (n, 2) int64
        Offsets on the disk and lengths, ascending, not overlapping.
    inode : int
        -1 for none.

    Raises
    ------
    StoreError
    """
    digest = blake3()
    if held is None:
        return digest.digest(16)
    starts, ends = watched[:, 0], watched.sum(axis=1)
    for offset, length, address in held.metadata.tolist():
        if offset < 0 or offset + length > part.volume.size:
            continue
        for at, disk, count in part.volume.places(offset, length):
            mine = slice(np.searchsorted(ends, disk, "right"), np.searchsorted(starts, disk + count, "left"))
            for begin, end in zip(starts[mine].tolist(), ends[mine].tolist(), strict=True):
                low, high = max(begin, disk), min(end, disk + count)
                digest.update(f"{low} {high} ".encode())
                digest.update(held.read(address + at - offset + low - disk, high - low))
    digest.update(_of_content(held, inode))
    return digest.digest(16)


def _of_content(held: Held, inode: int) -> bytes:
    file = held.files.get(inode)
    if file is None:
        return b""
    mine = held.pieces[held.pieces[:, 0] == inode]
    told = f"{file.size} {file.mode} {file.links} ".encode()
    return told + bytes(mine[:, :3].tobytes()) + bytes(held.ids(mine[:, 3]).tobytes())
