"""Pages of files that processes can execute, with where in which file system they should be: to be held against a disk.

A page of the page cache is named by its own address space and number; a private copy by the mapping that it is in.
Refuses to judge: `workbench.instant.code` compares, since this room never heard of disks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.memory.cached import inodes_of
from workbench.memory.owners import Table
from workbench.memory.owning.filesystems import read_super_blocks
from workbench.memory.owning.frames import I64
from workbench.memory.owning.owned import Owned, own
from workbench.memory.owning.processes import EXEC
from workbench.memory.owning.structpages import State
from workbench.memory.owning.structures import Moment
from workbench.memory.owning.usercode import distinct, page_index
from workbench.model import PAGE

if TYPE_CHECKING:
    from workbench.memory.questions import Scene

__all__ = ["code_of", "executed"]


def executed(scene: Scene) -> pd.DataFrame:
    """Return the pages of files on disks that processes can execute, each once.

    Returns
    -------
    DataFrame
        device, uuid, kind : string
            The file system.
        inode, generation, links, size, mode : Int64
            Of the file, as memory has it.
        offset : Int64
            Bytes in the file.
        copy : bool
            A process's private copy, not the page cache's.
        dirty : bool
            Newer than the disk, or not all there.
        pfn, address, owner ... detail
            As `workbench.owners` has them.

        `attrs["error"]` says what could not be read.

    Raises
    ------
    SymbolsError, StoreError
    """
    from workbench.memory.volatility.ownership import moment_of

    return code_of(moment_of(scene.sight, scene.view))


def code_of(moment: Moment) -> pd.DataFrame:
    """Return `executed` of a moment.

    Raises
    ------
    SymbolsError, StoreError
    """
    systems, error = read_super_blocks(moment)
    owned = own(moment)
    table = Table(moment, owned)
    leaves = _leaves(owned)
    row = np.searchsorted(owned.frame, owned.maps.pages.frame[leaves])
    copy = owned.struct.state[row] == State.ANONYMOUS
    mapping = np.where(copy, owned.maps.areas.mapping[owned.maps.area[leaves]], owned.struct.mapping[row])
    told, which = inodes_of(moment, mapping, [each for each in systems if each.blocks])
    index = np.where(copy, page_index(owned, leaves), owned.struct.index[row])
    frame = told.assign(
        offset=pd.array(index * PAGE, "Int64"),
        copy=copy,
        dirty=~copy & (owned.struct.dirty[row] | ~owned.struct.settled[row]),
    )
    owners = table.of_leaves(leaves).astype({"pfn": "Int64", "address": "UInt64"})
    found = pd.concat([frame, owners], axis=1)[which >= 0].reset_index(drop=True)
    found.attrs["error"] = "; ".join(dict.fromkeys(filter(None, (error, table.error))))
    return found


def _leaves(owned: Owned) -> I64:
    """Return one mapping for each frame that a process can execute as a file's page."""
    pages, areas, maps = owned.maps.pages, owned.maps.areas, owned.maps
    known = np.flatnonzero(maps.area >= 0)
    area = maps.area[known]
    state = owned.struct.state[np.searchsorted(owned.frame, pages.frame[known])]
    runs = (areas.flags[area] & EXEC != 0) & (areas.file[area] != 0)
    return distinct(owned, known[runs & np.isin(state, (State.FILE, State.ANONYMOUS))])
