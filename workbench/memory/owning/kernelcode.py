"""Pages of the kernel that nobody may write, and that differ from an earlier moment of the same boot.

Refuses to compare what is not the same thing: a module counts only where it was at the same address before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.memory.owning.frames import I64, U8, U64
from workbench.memory.owning.image import Span, span_frames
from workbench.memory.owning.owned import Image
from workbench.memory.owning.structures import Moment
from workbench.model import PAGE

__all__ = ["TEXT", "Alteration", "alterations", "text_spans"]

TEXT = ("kernel text", "module text")
_CONSTANT = (*TEXT, "kernel rodata", "module rodata")


@dataclass(frozen=True, slots=True)
class Alteration:
    """A page that differs.

    Attributes
    ----------
    frame : int
    virtual : int
        Of the page.
    span : Span
        What it is part of.
    before, after : (4096,) uint8
    offsets : (n,) int64
        Where they differ, inside of the span.
    """

    frame: int
    virtual: int
    span: Span
    before: U8
    after: U8
    offsets: I64


def text_spans(image: Image) -> list[tuple[int, int]]:
    """Return begin and end of everything that is kernel or module text."""
    spans = [*image.spans, *(span for module in image.modules for span in module.spans)]
    return [(span.start, span.end) for span in spans if span.owner in TEXT]


def alterations(now: Moment, earlier: Moment, image: Image, image_before: Image, changed: I64) -> list[Alteration]:
    """Return pages of kernel and module text and constants that differ from the earlier moment.

    Parameters
    ----------
    now, earlier : Moment
        Of one boot.
    image, image_before : Image
        Of each.
    changed : (n,) int64
        Frames whose content changed.

    Raises
    ------
    StoreError
    """
    found = []
    for span in image.spans:
        if span.owner in _CONSTANT:
            frames = np.intersect1d(span_frames(now, span), changed)
            virtual = frames.astype(np.uint64) * np.uint64(PAGE) + np.uint64(-now.delta % (1 << 64))
            found += _differing(now, earlier, span, virtual, frames, frames)
    known = {(module.address, module.name) for module in image_before.modules}
    for module in image.modules:
        if (module.address, module.name) in known:
            for span in module.spans:
                if span.owner in _CONSTANT:
                    found += _module_part(now, earlier, image, image_before, span, changed)
    return found


def _module_part(
    now: Moment, earlier: Moment, image: Image, image_before: Image, span: Span, changed: I64
) -> list[Alteration]:
    """Compare a part of a module by virtual address: its frames may have been exchanged."""
    virtual = np.arange(span.start & ~(PAGE - 1), span.end, PAGE).astype(np.uint64)
    after, before = (_frames_at(each, virtual) for each in (image, image_before))
    wanted = (after >= 0) & (before >= 0) & ((after != before) | np.isin(after, changed))
    return _differing(now, earlier, span, virtual[wanted], after[wanted], before[wanted])


def _frames_at(image: Image, virtual: U64) -> I64:
    """Return the frame that each page of the kernel's virtual memory is in, -1 for none."""
    order = np.argsort(image.pages.virtual, kind="stable")
    known = image.pages.virtual[order]
    if not len(known):
        return np.full(len(virtual), -1, np.int64)
    at = np.minimum(np.searchsorted(known, virtual), len(known) - 1)
    return np.where(known[at] == virtual, image.pages.frame[order[at]], -1)


def _differing(
    now: Moment, earlier: Moment, span: Span, virtual: U64, frames: I64, frames_before: I64
) -> list[Alteration]:
    found = []
    for begin in range(0, len(frames), 1024):
        part = slice(begin, begin + 1024)
        after, _ = now.frames.take(frames[part])
        before, there = earlier.frames.take(frames_before[part])
        for row in np.flatnonzero(there & (after != before).any(axis=1)).tolist():
            address = int(virtual[part][row])
            offsets = np.flatnonzero(after[row] != before[row])
            offsets = offsets[(offsets >= span.start - address) & (offsets < span.end - address)]
            if len(offsets):
                frame = int(frames[part][row])
                found.append(Alteration(frame, address, span, before[row], after[row], offsets))
    return found
