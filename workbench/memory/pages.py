"""Changed pages and whose they are: what differs in memory between an earlier capture and this moment.

Refuses to say whose a page was in the earlier capture: ask `workbench.owners` there for the frames in question.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.memory.owners import Table
from workbench.memory.owning.frames import I64
from workbench.memory.owning.owned import own
from workbench.model import PAGE, CaptureId, RegionKind

if TYPE_CHECKING:
    from workbench.memory.questions import Scene

__all__ = ["Changed", "changed_pages", "pages"]

OUTSIDE = "outside"
"""Owner of a page that the guest's processors cannot see: video memory, a part of a ROM."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Pages of memory regions that differ between two captures, columns of equal length.

    Attributes
    ----------
    region : (n,) object
        Names.
    page : (n,) int64
        In the region.
    frame : (n,) int64
        Page frame number in this moment, -1 for what is not in the guest's view.
    """

    region: np.ndarray[tuple[int], np.dtype[np.object_]]
    page: I64
    frame: I64


def changed_pages(scene: Scene, against: str) -> Changed:
    """Return the pages of memory that differ in content between `against` and the scene's capture.

    Raises
    ------
    UsageError
        If the case has no such capture, or it is of another guest.
    StoreError
    """
    earlier = CaptureId(against)
    sides = (scene.store.record(earlier), scene.view.record)
    kinds = {region.spec.name: region.spec for side in sides for region in side.regions}
    names, numbers, frames = [], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for name, index in scene.store.diff(earlier, scene.view.record.id).items():
        if kinds[name].kind is RegionKind.MEMORY and kinds[name].block_size == PAGE:
            address = scene.sight.memory.addresses(name, index)
            names += [name] * len(index)
            numbers.append(index)
            frames.append(np.where(address >= 0, address // PAGE, -1))
    return Changed(np.array(names, object), np.concatenate(numbers), np.concatenate(frames))


def pages(scene: Scene, against: str) -> pd.DataFrame:
    """Return every page of memory that changed since an earlier capture, with its owner now.

    Parameters
    ----------
    against : str
        Id of the earlier capture.

    Returns
    -------
    DataFrame
        By address, pages out of the guest's view last:

        region : string
        page : int64
            In the region.
        pfn : Int64
            Page frame number; absent out of the guest's view.
        address : UInt64
            Physical, bytes.
        owner ... detail
            As `workbench.owners` has them; owner "outside" for pages out of the guest's view.

    Raises
    ------
    UsageError
        If the case has no such capture, or it is of another guest.
    SymbolsError, StoreError
    """
    from workbench.memory.volatility.ownership import moment_of

    changed = changed_pages(scene, against)
    moment = moment_of(scene.sight, scene.view)
    scene.progress(10.0, "Reading page tables")
    table = Table(moment, own(moment, changed.frame[changed.frame >= 0]))
    scene.progress(60.0, "Naming owners")
    where = pd.DataFrame(
        {
            "region": pd.array(changed.region, dtype="string"),
            "page": changed.page,
            "pfn": pd.Series(changed.frame, dtype="Int64").where(changed.frame >= 0),
        }
    )
    owners = table.frame().astype({"pfn": "Int64", "address": "UInt64"})
    found = where.merge(owners, on="pfn", how="left").sort_values(["pfn", "region", "page"], ignore_index=True)
    found["owner"] = found["owner"].fillna(OUTSIDE)
    found.attrs["error"] = table.error
    return found
