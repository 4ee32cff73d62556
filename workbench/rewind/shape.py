"""Whether a guest of now can hold a moment of then: memory blocks and disks, by name and size.

QEMU shows a RAM block's address only while the guest's physical memory shows the block. So a block that one capture
lacks is one of two things: a device that is not there (another shape), or one whose memory was not mapped at that
instant (`vga.vram` while firmware has not placed its BAR, `pc.rom` behind RAM). The latter is no change of shape: QEMU
has the block, at its fixed size, and loading the device state of then maps it again, after which it is written. A
capture that lacks an unmapped block says nothing of its content; the guest of then could not see it either.

Refuses to judge captures whose layout cannot be read: what is not known to be alike is told as different.
"""

from __future__ import annotations

import json

from workbench.capture.session import LAYOUT
from workbench.errors import GuestError
from workbench.guest.memory import MemoryMap
from workbench.model import RegionKind
from workbench.store import CaptureView

__all__ = ["captured_memory", "same_shape"]


def captured_memory(view: CaptureView) -> MemoryMap:
    """Return where the memory of a captured guest was; an empty map where the capture does not say."""
    try:
        return MemoryMap.from_json(json.loads(view.region(LAYOUT).open().read())["memory"])
    except (GuestError, ValueError, KeyError, TypeError):
        return MemoryMap((), ())


def same_shape(now: CaptureView, then: CaptureView) -> list[str]:
    """Return in words how the memory and disks of two captures differ in shape; empty where they are alike.

    Raises
    ------
    StoreError
        If their layouts cannot be read.
    """
    shapes = [_sizes(view) for view in (now, then)]
    unmapped = [set(captured_memory(view).unlocated) for view in (now, then)]
    found = []
    for name in sorted(set(shapes[0]) | set(shapes[1])):
        sizes = [shape.get(name) for shape in shapes]
        hidden = any(size is None and name in names for size, names in zip(sizes, unmapped, strict=True))
        if sizes[0] != sizes[1] and not hidden:
            words = ["absent" if size is None else str(size) for size in sizes]
            found.append(f"{name}: {words[0]} now, {words[1]} then")
    return found


def _sizes(view: CaptureView) -> dict[str, int]:
    return {r.spec.name: r.spec.length for r in view.record.regions if r.spec.kind is not RegionKind.STATE}
