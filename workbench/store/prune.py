"""Drop captures of a guest and reclaim their bytes: a plan to be printed, then the deed. Never holds up a writer.

Refuses to drop the newest capture and the one that a writer goes on from. What fails or is killed half way leaves every
kept capture readable, and the next prune ends it. Order, terms and faults: docs/design.md, section 3.7.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import UsageError
from workbench.model import CaptureId, CaptureRecord, CaptureRef, GuestId
from workbench.progress import Progress, silent
from workbench.store.listing import capture_name
from workbench.store.maps import delta_name
from workbench.store.packs import pack_name
from workbench.store.survey import Survey, prune_owner
from workbench.store.tombstones import Tombstone, encode_tombstones, tombstones_name

if TYPE_CHECKING:
    from workbench.store.case import CaseStore

__all__ = ["COUNTS", "PrunePlan", "PruneSummary", "Pruned", "plan_prune"]

COUNTS = ("kept", "rebase", "remove", "rewrite", "moving", "frees")
"""What a summary counts."""

_ROUNDS = 6
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune did.

    Attributes
    ----------
    dropped : int
        Captures.
    rebased : int
        Kept captures whose delta stands on another one now.
    moved : int
        Blocks copied into new packs.
    packs : int
        Packs removed.
    freed : int
        Bytes of all files removed, less those of new packs and longer deltas.
    complete : bool
        False where a writer may still name something of what goes: that is left to the next prune.
    """

    dropped: int
    rebased: int
    moved: int
    packs: int
    freed: int
    complete: bool


@dataclass(frozen=True, eq=False)
class PruneSummary:
    """What a prune would do, to be printed.

    Attributes
    ----------
    guest : GuestId
    drop : tuple of CaptureRef
        The captures to go, by time; those of a prune that was killed among them.
    kept : int
        Captures that stay.
    rebase : int
        Kept captures whose delta stands on one that goes.
    remove, rewrite : int
        Packs that nothing kept needs; packs of which what is needed is copied first.
    moving : int
        Blocks to be copied.
    frees : int
        About how many bytes.
    """

    guest: GuestId
    drop: tuple[CaptureRef, ...]
    kept: int
    rebase: int
    remove: int
    rewrite: int
    moving: int
    frees: int

    def counts(self) -> dict[str, int]:
        """Return the numbers by their names, without `drop`."""
        return {name: int(getattr(self, name)) for name in COUNTS}

    def __str__(self) -> str:
        told = {
            "drop": f"{len(self.drop):,} captures of {self.kept + len(self.drop):,}",
            "re-base": f"{self.rebase:,} kept captures whose delta stands on one of these",
            "remove": f"{self.remove:,} packs that nothing kept needs",
            "rewrite": f"{self.rewrite:,} packs of which less than half is needed: {self.moving:,} blocks are copied",
            "frees": f"about {self.frees / 1e6:,.1f} MB",
        }
        return "\n".join([f"Prune of guest {self.guest}", *(f"  {what:9} {text}" for what, text in told.items())])


@dataclass(frozen=True, eq=False)
class PrunePlan(PruneSummary):
    """What a prune would do; print it, then `execute`."""

    _store: CaseStore
    _survey: Survey
    _turn: str
    _marked: frozenset[CaptureId]

    def execute(self, progress: Progress = silent, *, patience_s: float = 10.0) -> Pruned:
        """Do it. Captures may be read and taken meanwhile.

        Parameters
        ----------
        patience_s : float
            How long to wait, s, for an open writer to take its next capture.

        Raises
        ------
        UsageError
            If the case was pruned, or a capture to be dropped was marked, since the plan was made. Nothing was done.
        StoreBusyError
            If another prune of this guest is under way.
        StoreFullError, StoreError
            Every kept capture is readable; the next prune goes on.
        """
        lock = self._store.backend.lock(f"guests/{self.guest}/prune.lock")
        try:
            self._still_holds()
            self._store.backend.sweep(prune_owner(self.guest))
            return _Deed(self, self._store, self._survey, progress).run(patience_s)
        finally:
            lock.release()
            self._store.forget()

    def _still_holds(self) -> None:
        if self._store.turn(self.guest) != self._turn:
            raise UsageError("the guest was pruned since this was planned", guest=self.guest, cure="Plan again.")
        marked = _marked(self._store, self.guest) - self._marked
        if marked & {ref.id for ref in self.drop}:
            raise UsageError("a capture to be dropped was marked meanwhile", guest=self.guest, cure="Plan again.")


def plan_prune(store: CaseStore, guest: GuestId, drop: Collection[CaptureId], progress: Progress = silent) -> PrunePlan:
    """Say what dropping captures would do. Nothing is written.

    Parameters
    ----------
    drop : collection of CaptureId
        Captures of this guest; what an interrupted prune was to drop is added.

    Raises
    ------
    UsageError
        If one is not of this guest, or is the newest, or one that a writer goes on from.
    DamagedError, FormatError, StoreError
        If a kept capture cannot be read: what it needs is not known.
    """
    turn, marked = store.turn(guest), _marked(store, guest)
    records = {ref.id: store.record(ref.id) for ref in store.captures(guest)}
    held = _held(store, guest, records)
    _refuse(set(drop), records, held, guest)
    going = (set(drop) | (set(store.pruned(guest)) & set(records))) - held
    survey = Survey(store, guest, [records[each] for each in going])
    survey.look((record for each, record in records.items() if each not in going), progress)
    moving, copied = survey.blocks.moving()
    remove, rewrite = survey.blocks.emptied()
    refs = sorted(CaptureRef(records[each].time_ns, each) for each in going)
    files = [*map(pack_name, survey.thin_packs()), *(name for ref in refs for name in _names(guest, ref))]
    frees = sum(map(survey.size, files)) - copied
    kept = len(records) - len(going)
    return PrunePlan(
        guest, tuple(refs), kept, len(survey.rebased), remove, rewrite, moving, frees, store, survey, turn, marked
    )


def _names(guest: GuestId, ref: CaptureRef) -> tuple[str, str]:
    return f"guests/{guest}/captures/{capture_name(ref)}", delta_name(guest, ref.id)


def _marked(store: CaseStore, guest: GuestId) -> frozenset[CaptureId]:
    return frozenset(mark.capture for mark in store.marks(guest) if mark.capture is not None)


def _noted(store: CaseStore, guest: GuestId) -> tuple[bool, str, str]:
    """Return whether a writer is open, the turn that it follows, and its parent."""
    told = store.backend.holder(f"guests/{guest}/lock")
    words = [] if told is None else told.split()
    return told is not None, *((words[1], words[2]) if len(words) == 3 else ("", ""))


def _held(store: CaseStore, guest: GuestId, records: Collection[CaptureId]) -> set[CaptureId]:
    """Return the captures that must stay: the newest, and what a writer goes on from."""
    newest = [ref.id for ref in store.captures(guest)][-1:]
    return {*newest, CaptureId(_noted(store, guest)[2])} & set(records)


def _refuse(drop: set[CaptureId], records: Collection[CaptureId], held: set[CaptureId], guest: GuestId) -> None:
    strangers = sorted(drop - set(records))
    if strangers:
        raise UsageError(
            "the guest has no such capture", guest=guest, captures=strangers[:5], cure="See the captures of the guest."
        )
    if drop & held:
        raise UsageError(
            "the newest capture, and one that a writer goes on from, cannot be dropped",
            guest=guest,
            captures=sorted(drop & held),
            cure="Leave it out.",
        )


class _Deed:
    """A plan being executed, under the lock of the guest's prunes."""

    def __init__(self, plan: PrunePlan, store: CaseStore, survey: Survey, progress: Progress) -> None:
        self._plan = plan
        self._guest = plan.guest
        self._store = store
        self._survey = survey
        self._progress = progress
        self._rebased = len(survey.rebased)
        self._packs = 0
        self._freed = 0

    def run(self, patience_s: float) -> Pruned:
        """Do the steps of section 3.7 in their order."""
        self._bury()
        dropped = self._drop_records()
        left = self._settle(patience_s)
        if left is not None:
            self._sweep(self._survey.spare(left))
        freed = self._freed - self._survey.mover.written - self._survey.grown
        return Pruned(dropped, self._rebased, self._survey.mover.moved, self._packs, freed, left == [])

    def _bury(self) -> None:
        known = self._store.pruned(self._guest)
        stones = [Tombstone.of(self._store.record(ref.id)) for ref in self._plan.drop if ref.id not in known]
        if stones:
            data = encode_tombstones(self._guest, stones)
            self._store.backend.put(f"guests/{self._guest}/pruned/{tombstones_name(time.time_ns(), data)}", data)

    def _drop_records(self) -> int:
        """Remove the records; a writer may have moved to one meanwhile: that is left to the next prune."""
        parent = _noted(self._store, self._guest)[2]
        names = [_names(self._guest, ref)[0] for ref in self._plan.drop if ref.id != parent]
        self._delete(names)
        self._store.forget()
        return len(names)

    def _left(self) -> list[CaptureRecord]:
        """Return captures that were not looked at yet: those committed since, or spared."""
        return [
            self._store.record(ref.id) for ref in self._store.captures(self._guest) if not self._survey.handled(ref.id)
        ]

    def _settle(self, patience_s: float) -> list[CaptureRecord] | None:
        """Move blocks until no writer can name a place where they were, but those that some captures name.

        Returns
        -------
        list of CaptureRecord, or None
            These captures: those that a quick writer committed last. None where a writer has not followed.
        """
        refs = self._store.captures(self._guest)
        left = [self._store.record(ref.id) for ref in refs]
        for _ in range(_ROUNDS):
            self._survey.process(left, self._progress)
            if not self._followed(self._new_turn(), patience_s):
                return None
            left = self._left()
            if not left:
                break
        return left

    def _new_turn(self) -> str:
        turn = secrets.token_hex(16)
        staging = self._store.backend.stage(prune_owner(self._guest))
        try:
            file = staging.file()
            file.write(turn.encode())
            staging.replace([(file, f"guests/{self._guest}/turn")])
        finally:
            staging.discard()
        return turn

    def _followed(self, turn: str, patience_s: float) -> bool:
        """Wait until the writer, if there is one, says that it has followed a turn."""
        until = time.monotonic() + patience_s
        while True:
            writing, followed, _ = _noted(self._store, self._guest)
            if not writing or followed == turn:
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK_S)

    def _sweep(self, needed: Collection[CaptureId]) -> None:
        there = {ref.id for ref in self._store.captures(self._guest)}
        deltas = {name.removesuffix(".delta") for name in self._store.backend.list(f"guests/{self._guest}/deltas")}
        gone = [each for each in self._store.pruned(self._guest) if each in deltas and each not in {*there, *needed}]
        self._delete([delta_name(self._guest, each) for each in gone])
        packs = self._survey.thin_packs()
        self._delete([pack_name(pack) for pack in packs])
        self._packs = len(packs)

    def _delete(self, names: list[str]) -> None:
        self._freed += sum(map(self._survey.size, names))
        self._store.backend.delete_many(names)
