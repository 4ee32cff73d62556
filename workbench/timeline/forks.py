"""Clones that were captured, as branches of the guest that they are clones of.

A captured clone is a guest of its own in the store: another process may write the original's history at the same time.
A mark of kind "fork" at the moment that it began at says whose captures continue there; so a timeline shows them as a
branch. A mark is data of a case that a stranger may have written: what it names and the case does not have is left out.

Refuses to look further than one fork of a guest's own moments: a clone's clone is a branch of the clone.
"""

from __future__ import annotations

import dataclasses
import re

from workbench.model import CaptureRecord, GuestId, Mark
from workbench.store import CaseStore

__all__ = ["FORK", "fork_mark", "forked_guests", "forks_of"]

FORK = "fork"
_NOTE = re.compile(r"guest=([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


def fork_mark(origin: CaptureRecord, clone: GuestId, name: str) -> Mark:
    """Return the mark that says that a clone's captures continue a moment."""
    return Mark(name, origin.guest, origin.time_ns, origin.id, FORK, f"guest={clone}")


def forked_guests(store: CaseStore) -> set[GuestId]:
    """Return the guests of a case that are clones of others."""
    return {clone for guest in store.guest_ids() for clone, _mark in _forks(store, guest)}


def forks_of(store: CaseStore, guest: GuestId, highest: int) -> list[CaptureRecord]:
    """Return the captures of a guest's clones, by time, as branches numbered after `highest`.

    Branch, depth and the parent of a line's first capture are those in the guest's tree, not in the store.

    Raises
    ------
    DamagedError, FormatError, StoreError
    """
    found = []
    for clone, mark in _forks(store, guest):
        origin = store.record(mark.capture) if mark.capture is not None else None
        if origin is None:
            continue
        records = [store.record(ref.id) for ref in store.captures(clone)]
        first = highest + 1
        for record in records:
            highest = max(highest, first + record.branch)
            found.append(
                dataclasses.replace(
                    record,
                    branch=first + record.branch,
                    depth=origin.depth + 1 + record.depth,
                    parent=origin.id if record.parent is None else record.parent,
                )
            )
    return sorted(found, key=lambda record: (record.time_ns, record.id))


def _forks(store: CaseStore, guest: GuestId) -> list[tuple[GuestId, Mark]]:
    """Return the clones that a guest's marks name and the case has, each once."""
    known, own = set(store.guest_ids()), {ref.id for ref in store.captures(guest)}
    found: dict[GuestId, Mark] = {}
    for mark in store.marks(guest):
        named = _NOTE.fullmatch(mark.note) if mark.kind == FORK and mark.capture in own else None
        if named and (clone := GuestId(named[1])) in known and clone != guest:
            found.setdefault(clone, mark)
    return list(found.items())
