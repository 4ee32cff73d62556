"""Tell a kernel that runs from a whole copy that an earlier boot left behind, by lists that lead out of its image.

A reset clears no memory, so the image of an earlier boot may lie there untouched, its page tables with it. But what
its tasks were allocated from has been given out anew. So: does any list of `init_task` lead to an object outside of the
image that points back? Structure and offsets need not be known for that.

Refuses to be a proof: it decides which of several kernels is taken, and never that there is none.
"""

from __future__ import annotations

import numpy as np

from workbench.errors import UnreadableError
from workbench.memory.symbols.c_kallsyms import KERNEL_MAP
from workbench.memory.symbols.walk import Memory, present, translate

__all__ = ["lists_lead_back"]

_TASK = 16 << 10
"""Bytes of `init_task` that are looked at; a task_struct has 4 to 12 KiB."""
_HALF = 0xFF00_0000_0000_0000
"""Where the kernel's half begins, with 5 levels of page tables."""
_MOST = 1024


def lists_lead_back(memory: Memory, root: int, levels: int, virtual: int, physical: int) -> bool:
    """Tell whether a `list_head` in the object at an address has a neighbour, outside of the image, that points back.

    Raises
    ------
    StoreError
    """
    end = present(memory, physical, 0, _TASK)[1]
    words = np.frombuffer(memory.read(physical, (end - physical) // 8 * 8), "<u8")
    outward = np.flatnonzero((words >= _HALF) & (words < KERNEL_MAP) & (words % 8 == 0))[:_MOST]
    for place, neighbour in zip(outward.tolist(), words[outward].tolist(), strict=True):
        at = translate(memory, root, levels, neighbour + 8)
        try:
            if at is not None and int.from_bytes(memory.read(at, 8), "little") == virtual + 8 * place:
                return True
        except UnreadableError:
            continue
    return False
