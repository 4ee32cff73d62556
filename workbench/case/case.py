"""`Case`: the journal of one or more guests, opened.

Moments of it are read, compared, cloned and rewound to; a recording writes it. Refuses to print, and to do anything
destructive that was not planned first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

import pandas as pd

from workbench.capture.quiesce import Quiesce
from workbench.capture.session import CaptureSession
from workbench.case.clone import Clone
from workbench.case.diff import Diff
from workbench.case.keeping import KeepingOfCase
from workbench.case.moment import Moment
from workbench.case.recording import Recording
from workbench.disk.doors import DiskOfCase
from workbench.errors import UsageError
from workbench.evidence.doors import ReportsOfCase
from workbench.experiment.doors import ExperimentsOfCase
from workbench.guest.connection import DEFAULT_URI, Hypervisor
from workbench.memory.doors import MemoryOfCase
from workbench.model import CaptureId, CaptureRef, GuestRecord, Mark
from workbench.progress import Progress, silent
from workbench.replay.doors import BisectOfCase
from workbench.replay.exact.doors import ExactOfCase
from workbench.rewind.clone import CloneRecord, find_clone, list_clones, remove_clone, start_clone
from workbench.rewind.doors import SegmentsOfCase
from workbench.rewind.identity import Clock, Identity
from workbench.rewind.in_place import Rewound
from workbench.rewind.network import Network
from workbench.rewind.plan import RewindPlan, plan_rewind, plan_undo
from workbench.store import CaseStore
from workbench.timeline import Timeline
from workbench.timeline.current import current_capture
from workbench.timeline.forks import forked_guests
from workbench.timeline.links import linked
from workbench.trial.doors import TrialsOfCase

__all__ = ["Case"]

_WHOLE = re.compile(r"[0-9a-f]{64}")


class Case(
    MemoryOfCase,
    DiskOfCase,
    ReportsOfCase,
    ExperimentsOfCase,
    BisectOfCase,
    ExactOfCase,
    SegmentsOfCase,
    TrialsOfCase,
    KeepingOfCase,
):
    """A case on disk.

    Parameters
    ----------
    path : Path or str
    uri : str
        Where its guests run, for captures, clones and rewinds; reading needs no hypervisor.

    Raises
    ------
    FormatError, StoreError
        If this is no case that this version can read.
    """

    def __init__(self, path: Path | str, *, uri: str = DEFAULT_URI) -> None:
        self._begin(CaseStore.open(Path(path)), uri)

    def _begin(self, store: CaseStore, uri: str) -> None:
        self.store = store
        self.path = store.path
        self.uri = uri
        self._hypervisor: Hypervisor | None = None

    @classmethod
    def create(cls, path: Path | str, *, uri: str = DEFAULT_URI) -> Case:
        """Make a new, empty case and open it."""
        CaseStore.create(Path(path))
        return cls(path, uri=uri)

    @classmethod
    def open_or_create(cls, path: Path | str, *, uri: str = DEFAULT_URI) -> Case:
        """Open a case, or make it where there is nothing yet."""
        place = Path(path)
        empty = not place.exists() or (place.is_dir() and not any(place.iterdir()))
        return cls.create(path, uri=uri) if empty else cls(path, uri=uri)

    @property
    def hypervisor(self) -> Hypervisor:
        """The connection to the guests, opened at first use."""
        if self._hypervisor is None:
            self._hypervisor = Hypervisor(self.uri)
        return self._hypervisor

    def close(self) -> None:
        """Close the connection to the hypervisor and end the worker, where there are any."""
        if self._spare_analyst is not None:
            self._spare_analyst.close()
        if self._hypervisor is not None:
            self._hypervisor.close()
            self._hypervisor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        counts = ", ".join(f"{guest.name!r}: {len(self.store.captures(guest.id))} captures" for guest in self.guests())
        return f"<Case {self.location!r} {counts or 'empty'}>"

    @property
    def location(self) -> str:
        """Where it is, for people: its path, or the address of the service that has it."""
        return str(self.path)

    # Looking.

    def guests(self) -> list[GuestRecord]:
        """Return the guests of this case."""
        return self.store.guests()

    def guest(self, name: str | None = None) -> GuestRecord:
        """Return the guest with this name or UUID; without a name, the only one, clones that were captured apart.

        Raises
        ------
        UsageError
            If there is none, or the name is left out and there are several.
        """
        known = self.guests()
        fitting = [guest for guest in known if name is None or name in (guest.name, guest.id)]
        if name is None and len(fitting) > 1:
            clones = forked_guests(self.store)
            fitting = [guest for guest in fitting if guest.id not in clones]
        if len(fitting) == 1:
            return fitting[0]
        names = ", ".join(guest.name for guest in known) or "none"
        what = f"no guest {name!r} in this case" if name else "say which guest"
        raise UsageError(what, guests=names, cure="Give one of them with --guest")

    def timeline(self, guest: str | None = None, *, since: str | None = None) -> pd.DataFrame:
        """Return every capture of a guest, oldest first, or those after a moment; columns as `Timeline.frame` says."""
        return Timeline(self.store, self.guest(guest).id).frame(since)

    def moment(self, when: str = "latest", guest: str | None = None) -> Moment:
        """Return the moment that `when` names.

        A time, `-30s`, `2 captures ago`, an id or its beginning, a mark, `before:MARK`, `latest`, or a `Moment.link`,
        which says the guest too.

        Raises
        ------
        MomentNotFoundError, AmbiguousMomentError
            Saying what exists.
        """
        link = linked(when, self.store.id)
        if link is None and guest is None and _WHOLE.fullmatch(when):  # of whatever guest: a clone's, for instance
            with suppress(UsageError):
                link = self.store.find(CaptureId(when))[1].id
        record = self.guest(guest) if link is None else self.store.guest(self.store.find(link)[0])
        found = Timeline(self.store, record.id).resolve(when)
        return Moment(self, record, self.store.record(found.id))

    def moments(self, guest: str | None = None) -> Iterator[Moment]:
        """Yield every moment of a guest, oldest first."""
        record = self.guest(guest)
        for ref in self.store.captures(record.id):
            yield Moment(self, record, self.store.record(ref.id))

    def _span(self, since: str | None, until: str | None, guest: str | None) -> list[CaptureRef]:
        refs = self.store.captures(self.guest(guest).id)
        first, last = (None if each is None else self.moment(each, guest).record.time_ns for each in (since, until))
        return [
            ref for ref in refs if (first is None or ref.time_ns >= first) and (last is None or ref.time_ns <= last)
        ]

    def _parents(self, span: Sequence[CaptureRef]) -> dict[str, str]:
        inside = {ref.id for ref in span}
        parents = {ref.id: self.store.record(ref.id).parent for ref in span}
        return {capture: parent for capture, parent in parents.items() if parent is not None and parent in inside}

    def _mark_hits(self, hits: pd.DataFrame, guest: str | None) -> None:
        known = {(each.name, each.capture) for each in self.marks(guest)}
        for row in hits.drop_duplicates("rule").itertuples(index=False):
            name, moment = f"yara-{row.rule}", self.moment(str(row.capture), guest)
            if (name, moment.id) not in known:
                self.mark(name, moment, kind="yara", note=f"rule {row.rule}, {row.owner}", guest=guest)

    def diff(self, a: str | Moment, b: str | Moment, guest: str | None = None) -> Diff:
        """Return what differs between two moments, from `a` to `b`."""
        first, second = (each if isinstance(each, Moment) else self.moment(each, guest) for each in (a, b))
        return Diff(first, second)

    def marks(self, guest: str | None = None) -> list[Mark]:
        """Return the marks of a guest, by time."""
        return self.store.marks(self.guest(guest).id)

    def mark(
        self,
        name: str,
        moment: str | Moment = "latest",
        *,
        note: str = "",
        kind: str = "note",
        guest: str | None = None,
    ) -> Mark:
        """Name a moment."""
        found = moment if isinstance(moment, Moment) else self.moment(moment, guest)
        mark = Mark(name, found.record.guest, found.record.time_ns, found.id, kind, note)
        self.store.add_mark(mark)
        return mark

    # Recording.

    def record(
        self,
        guest: str,
        *,
        tracker: str | None = None,
        audit: bool = False,
        allow_own_volume: bool = False,
        quiesce: Quiesce | None = None,
        progress: Progress = silent,
    ) -> Recording:
        """Attach to a running guest and return the recording; use it as a context manager.

        Parameters
        ----------
        tracker : str, optional
            Insist on a way to know dirty pages ("userfaultfd", "soft-dirty", "compare").
        audit : bool
            Prove in every pause that no page was missed.
        allow_own_volume : bool
            Accept a case that lies in the guest's own volumes.
        quiesce : Quiesce, optional
            Have the guest's agent freeze its file systems for every capture: application-consistent where that works,
            crash-consistent and why where it does not.

        Raises
        ------
        GuestNotFoundError, GuestBusyError, StoreBusyError, UsageError
            Nothing was done.
        """
        found = self.hypervisor.guest(guest)
        session = CaptureSession(
            found,
            self.store,
            parent=current_capture(self.store, found.id),
            tracker=tracker,
            audit=audit,
            allow_own_volume=allow_own_volume,
            quiesce=quiesce,
            progress=progress,
        )
        return Recording(self, session)

    # Going back.

    def plan_rewind(
        self, when: str | Moment, mode: Literal["test", "production"] = "test", guest: str | None = None
    ) -> RewindPlan:
        """Return the plan of a rewind; print it, then `case.rewind(plan)`."""
        moment = when if isinstance(when, Moment) else self.moment(when, guest)
        return plan_rewind(self.store, moment.id, mode)

    def plan_undo(self, guest: str | None = None) -> RewindPlan:
        """Return the plan that undoes the guest's last rewind."""
        return plan_undo(self.store, self.guest(guest).name)

    def rewind(
        self, plan: RewindPlan, *, confirm: str | None = None, network: bool = False, progress: Progress = silent
    ) -> Rewound | Clone:
        """Execute a plan: a clone in test mode, the guest itself in production (`confirm` is then its name).

        Raises
        ------
        ConfirmationError, RewindError, GuestError
        """
        done = plan.execute(self.hypervisor, self.store, confirm=confirm, network=network, progress=progress)
        return done if isinstance(done, Rewound) else Clone(self, done)

    def start_clone(
        self,
        moment: Moment,
        *,
        name: str | None = None,
        network: bool | Network = "none",
        segment: str | None = None,
        identity: Identity | Literal["new"] | None = None,
        clock: Clock = "kept",
        run: bool = True,
        progress: Progress = silent,
    ) -> Clone:
        """Start a clone of a moment; see `Moment.clone`."""
        record = start_clone(
            self.hypervisor,
            self.store,
            moment.id,
            name=name,
            network=network,
            segment=segment,
            identity=identity,
            clock=clock,
            run=run,
            progress=progress,
        )
        return Clone(self, record)

    def clones(self) -> Sequence[Clone]:
        """Return the clones of this case, oldest first."""
        return [Clone(self, record) for record in list_clones(self.store)]

    def remove_clone(self, name: str) -> CloneRecord:
        """Destroy a clone and its files; only clones of this case can be named.

        Raises
        ------
        UsageError
            If the case has no clone of that name or UUID; no libvirt is needed to say so.
        GuestError
            If libvirt does not end it: its files are still there.
        """
        clone = find_clone(self.store, name)
        remove_clone(self.hypervisor, self.store, clone)
        return clone
