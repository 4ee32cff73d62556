"""Open the file system of a volume with whatever library reads its kind.

Refuses to open what has no reader here, with the reason.
"""

from __future__ import annotations

from workbench.disk.btrfs import can_read
from workbench.disk.filesystem import FileSystem, State
from workbench.disk.image import Slice
from workbench.disk.signatures import identify
from workbench.disk.tsk import KINDS, open_tsk
from workbench.errors import UnsupportedError

__all__ = ["can_open", "open_filesystem"]


def can_open(kind: str) -> bool:
    """Tell whether there is a reader for this kind."""
    return kind in KINDS or kind == "xfs" or (kind == "btrfs" and can_read())


def open_filesystem(volume: Slice, *, state: State | None = None) -> FileSystem:
    """Open the file system of a volume.

    Parameters
    ----------
    volume : Slice
    state : State, optional
        By default what the file system says of itself.

    Raises
    ------
    UnsupportedError
        If nothing here reads its kind.
    DiskError
        If it cannot be read.
    StoreError
    """
    signature = identify(volume)
    if signature.kind in KINDS:
        return open_tsk(volume, state=state)
    if signature.kind == "xfs":
        from workbench.disk.xfs import open_xfs

        return open_xfs(volume, state=state)
    if signature.kind == "btrfs":
        from workbench.disk.btrfs import open_btrfs

        return open_btrfs(volume, state=state)
    cure = "Export the disk and open it with a tool that knows it."
    raise UnsupportedError(f"no file system that can be read here: {signature.note or signature.kind}", cure=cure)
