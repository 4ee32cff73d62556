"""btrfs: found and named, not read.

There is no reader in Python that is well kept, permissively licensed and works without a kernel's mount: dissect.btrfs
is under the AGPL, and libyal's libfsbtrfs has no release. Refuses, with what can be done instead.
"""

from __future__ import annotations

from typing import NoReturn

from workbench.disk.image import Slice
from workbench.errors import UnsupportedError

__all__ = ["open_btrfs"]


def open_btrfs(volume: Slice) -> NoReturn:  # noqa: ARG001  (as every opener is called)
    """Refuse.

    Raises
    ------
    UnsupportedError
        Always.
    """
    raise UnsupportedError(
        "btrfs cannot be read here: no library for it can be used",
        cure="Export the disk, or serve it over NBD, and read it with `btrfs restore` or a kernel's read-only mount.",
    )
