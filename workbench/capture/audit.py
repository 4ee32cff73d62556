"""The audit compares the tracked copy with the guest's memory, page for page.

Runs inside the pause and reads all of memory there, so it lengthens the pause by the time that takes: for tests, and
for whoever wants proof on a new host. Refuses to mend: a missed page is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from workbench.capture.staging import Pages, changed_pages
from workbench.errors import AuditError
from workbench.guest.memory import MemoryMap
from workbench.guest.reader import MemoryReader

__all__ = ["audit"]


def audit(
    reader: MemoryReader,
    memory: MemoryMap,
    head: Callable[[str], NDArray[np.uint8]],
    taken: Sequence[Pages],
) -> None:
    """Compare the paused guest's memory with the head plus the pages just taken.

    Raises
    ------
    AuditError
        If one page differs; it names the block, the first page and how many.
    """
    for block in memory.blocks:
        mine = [pages for pages in taken if pages.block == block.name]
        indices = np.concatenate([pages.indices for pages in mine]) if mine else np.zeros(0, np.int64)
        missed = [_missed(pages, indices, mine) for pages in changed_pages(reader, block, head(block.name))]
        wrong = np.concatenate(missed) if missed else np.zeros(0, np.int64)
        if len(wrong):
            raise AuditError(
                f"{len(wrong)} pages of {block.name} changed and were not tracked",
                block=block.name,
                first_page=int(wrong[0]),
                count=len(wrong),
                cure="Use another tracker (`--tracker compare`) and report this host's `workbench doctor`",
            )


def _missed(pages: Pages, indices: NDArray[np.int64], mine: Sequence[Pages]) -> NDArray[np.int64]:
    """Return the pages that differ from the head and were either not taken or taken with other content."""
    known = np.isin(pages.indices, indices)
    content = {int(index): row for each in mine for index, row in zip(each.indices, each.content, strict=True)}
    same = [
        not taken or np.array_equal(content[int(index)], row)
        for index, row, taken in zip(pages.indices, pages.content, known, strict=True)
    ]
    missed: NDArray[np.int64] = pages.indices[~known | ~np.array(same, bool)]
    return missed
