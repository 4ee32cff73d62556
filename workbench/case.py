"""The one door: `Case`, `Moment`, `Diff`, `Clone`, `Recording`, for notebooks, service and command line.

A case is the journal of one or more guests. Moments of it are read, compared, cloned and rewound to; a recording writes
it. Refuses to print, and to do anything destructive that was not planned first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from workbench.capture.schedule import CaptureLoop, Tick
from workbench.capture.session import CaptureSession
from workbench.disk.doors import DiskOfCase, DiskOfDiff, DiskOfMoment
from workbench.disk.exports import export as export_frame
from workbench.errors import GuestGoneError, UsageError
from workbench.evidence.doors import ReportsOfCase
from workbench.evidence.pdf import print_pdf
from workbench.guest import steps
from workbench.guest.connection import DEFAULT_URI, Guest, Hypervisor, translate
from workbench.guest.console import Console
from workbench.guest.doctor import Finding, examine
from workbench.guest.picture import screenshot
from workbench.inquiry.analysis import Analyst
from workbench.inquiry.answer import absences
from workbench.instant.doors import InstantOfDiff, InstantOfMoment
from workbench.memory.doors import MemoryOfCase, MemoryOfDiff, MemoryOfMoment
from workbench.memory.physical import PhysicalMemory
from workbench.memory.symbols.cache import SymbolCache
from workbench.memory.symbols.vmlinuz import symbols_from_file
from workbench.model import CaptureMode, CaptureRecord, CaptureRef, Damage, GuestId, GuestRecord, Mark
from workbench.progress import Progress, silent
from workbench.rewind.clone import CloneRecord, list_clones, remove_clone, start_clone
from workbench.rewind.in_place import Rewound
from workbench.rewind.plan import RewindPlan, plan_rewind, plan_undo
from workbench.store import CaseStore, PrunePlan, RegionFile, plan_prune
from workbench.timeline import Timeline
from workbench.timeline.current import current_capture
from workbench.timeline.links import link_to, linked
from workbench.timeline.retention import HOLD, Retention, choose

__all__ = [
    "Case",
    "Clone",
    "Diff",
    "Finding",
    "Moment",
    "PrunePlan",
    "Recording",
    "Retention",
    "RewindPlan",
    "Rewound",
    "Tick",
    "absences",
    "build_symbols",
    "doctor",
    "export_frame",
    "print_pdf",
    "require_guest",
    "running_guests",
]


def doctor(uri: str | None = DEFAULT_URI, place: Path | None = None) -> list[Finding]:
    """Say what this host offers and lacks; never raises.

    Parameters
    ----------
    uri : str
        Where guests run.
    place : Path, optional
        Where the case is or will be; by default the working directory.
    """
    where = uri or DEFAULT_URI
    try:
        with Hypervisor(where) as hypervisor:
            return examine(hypervisor, place)
    except Exception as error:  # noqa: BLE001  (whatever is wrong with libvirt is a finding)
        host = [each for each in examine(None, place) if not each.topic.startswith(("libvirt", "guest"))]
        cure = "Start libvirtd and virtlogd, or name another connection"
        return [*host, Finding("libvirt", "missing", f"{where}: {error}", "No guest can be found", cure)]


def running_guests(uri: str = DEFAULT_URI) -> pd.DataFrame:
    """Return the running guests of a hypervisor.

    Returns
    -------
    DataFrame
        name (str), uuid (str), memory_mib (int64), vcpus (int64), state (str).
    """
    with Hypervisor(uri) as hypervisor:
        rows = [row for guest in hypervisor.guests() for row in _describe(guest)]
    return pd.DataFrame(rows, columns=["name", "uuid", "memory_mib", "vcpus", "state"])


def build_symbols(kernel: Path, output: Path | None = None) -> Path:
    """Make the symbol table of a kernel's file (vmlinuz or vmlinux), into the user's cache or a file.

    Returns
    -------
    Path
        Where it is.

    Raises
    ------
    SymbolsError
        If it is no kernel, or lacks BTF or kallsyms.
    UsageError
        If a file cannot be read or written.
    """
    try:
        build, isf = symbols_from_file(kernel)
        if output is None:
            return SymbolCache().put(build, isf)
        output.write_bytes(isf)
    except OSError as error:
        raise UsageError(
            f"{error.strerror}: {error.filename}", cure="Name files that can be read and written."
        ) from error
    return output


def require_guest(name: str, uri: str = DEFAULT_URI) -> None:
    """Make sure that a guest runs, before anything is made for it.

    Raises
    ------
    GuestNotFoundError
        If none has this name or UUID.
    """
    with Hypervisor(uri) as hypervisor:
        hypervisor.guest(name)


def _describe(guest: Guest) -> Iterator[dict[str, Any]]:
    """Yield what a guest is; nothing of one that ended since it was listed."""
    with suppress(GuestGoneError), translate(f"asking for {guest.name}"):
        info = guest.domain.info()
        running = "running" if info[0] == 1 else "paused"
        yield {
            "name": guest.name,
            "uuid": guest.id,
            "memory_mib": info[1] // 1024,
            "vcpus": info[3],
            "state": running,
        }


class Case(MemoryOfCase, DiskOfCase, ReportsOfCase):
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
        """Return the guest with this name or UUID; without a name, the only one.

        Raises
        ------
        UsageError
            If there is none, or the name is left out and there are several.
        """
        known = self.guests()
        fitting = [guest for guest in known if name is None or name in (guest.name, guest.id)]
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

    # Keeping.

    def hold(self, moment: str | Moment = "latest", note: str = "", guest: str | None = None) -> Mark:
        """Keep a moment whatever the retention says, until it is released."""
        found = moment if isinstance(moment, Moment) else self.moment(moment, guest)
        return self.mark(f"hold-{found.id[:12]}", found, note=note, kind=HOLD)

    def release(self, moment: str | Moment, guest: str | None = None) -> list[Mark]:
        """End the holds of a moment; return them.

        Raises
        ------
        UsageError
            If it is not held.
        """
        found = moment if isinstance(moment, Moment) else self.moment(moment, guest)
        holds = [each for each in self.store.marks(found.guest.id) if (each.kind, each.capture) == (HOLD, found.id)]
        if not holds:
            raise UsageError("the moment is not held", capture=found.id, cure="See the marks of the timeline.")
        for each in holds:
            self.store.remove_mark(each)
        return holds

    def retained(
        self, retention: Retention | str, guest: str | None = None, *, now_ns: int | None = None
    ) -> pd.DataFrame:
        """Return which captures a retention keeps, and why; columns as `choose` documents."""
        rules = retention if isinstance(retention, Retention) else Retention.parse(retention)
        timeline = Timeline(self.store, self.guest(guest).id)
        cloned = {clone.record.capture: f"the clone {clone.name} runs from it" for clone in self.clones()}
        now = time.time_ns() if now_ns is None else now_ns
        return choose(rules, timeline.records(), timeline.marks(), cloned, now)

    def plan_prune(
        self,
        retention: Retention | str,
        guest: str | None = None,
        *,
        now_ns: int | None = None,
        progress: Progress = silent,
    ) -> PrunePlan:
        """Return the plan of dropping what a retention does not keep; print it, then `plan.execute()`.

        Parameters
        ----------
        retention : Retention or str
            `all for 10m, 1m for 1d, 1h for 30d, at most 50 GB`.

        Raises
        ------
        UsageError, DamagedError
        """
        chosen = self.retained(retention, guest, now_ns=now_ns)
        return plan_prune(self.store, self.guest(guest).id, set(chosen.loc[~chosen["keep"], "capture"]), progress)

    def check(self, *, progress: Progress = silent) -> list[Damage]:
        """Read everything and return every damage; empty where the case is whole."""
        return self.store.check(progress=progress)

    # Recording.

    def record(
        self,
        guest: str,
        *,
        tracker: str | None = None,
        audit: bool = False,
        allow_own_volume: bool = False,
        progress: Progress = silent,
    ) -> Recording:
        """Attach to a running guest and return the recording; use it as a context manager.

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
        network: bool = False,
        run: bool = True,
        progress: Progress = silent,
    ) -> Clone:
        """Start a clone of a moment; see `Moment.clone`."""
        record = start_clone(
            self.hypervisor, self.store, moment.id, name=name, network=network, run=run, progress=progress
        )
        return Clone(self, record)

    def clones(self) -> Sequence[Clone]:
        """Return the clones of this case, oldest first."""
        return [Clone(self, record) for record in list_clones(self.store)]

    def remove_clone(self, name: str) -> CloneRecord:
        """Destroy a clone and its files; only clones of this case can be named."""
        return remove_clone(self.hypervisor, self.store, name)


class Moment(InstantOfMoment, MemoryOfMoment, DiskOfMoment):
    """One capture of a case, to be looked at."""

    case: Case

    def __init__(self, case: Case, guest: GuestRecord, record: CaptureRecord) -> None:
        self.case = case
        self.guest = guest
        self.record = record
        self.id = record.id

    @property
    def _analyst(self) -> Analyst:  # type: ignore[override]
        return self.case.analyst

    @property
    def time(self) -> pd.Timestamp:
        """When it was taken (UTC)."""
        return pd.Timestamp(self.record.time_ns, unit="ns", tz="UTC")

    @property
    def link(self) -> str:
        """A lasting link to it, `wb://CASE/CAPTURE`: wherever the case is moved to, `case.moment(link)` finds it."""
        return link_to(self.case.store.id, self.id)

    @property
    def facts(self) -> dict[str, Any]:
        """What the capture recorded of its own taking."""
        return dict(self.record.facts)

    def regions(self) -> pd.DataFrame:
        """Return its regions: name (str), kind (str), bytes (int64), digest (str)."""
        rows = [(each.spec.name, str(each.spec.kind), each.spec.length, each.digest) for each in self.record.regions]
        return pd.DataFrame(rows, columns=["name", "kind", "bytes", "digest"])

    def physical_ranges(self) -> pd.DataFrame:
        """Return where memory is in the guest's physical address space; the rest of it is holes.

        Returns
        -------
        DataFrame
            By address: start, bytes (int64), region (str), offset (int64, bytes, in the region).

        Raises
        ------
        FormatError
            If the capture's layout cannot be understood.
        StoreError
        """
        ranges = PhysicalMemory.of_capture(self.case.store.view(self.id)).ranges
        rows = [(each.start, each.length, each.block, each.offset) for each in ranges]
        return pd.DataFrame(rows, columns=["start", "bytes", "region", "offset"])

    def open(self, what: str, *, source: Literal["disk"] | None = None) -> RegionFile | BufferedReader:
        """Return a file of the guest (an absolute path) or a region (its name), seekable, read-only, binary.

        A file is as the guest would have read it; `source="disk"` leaves out what was only in its page cache.

        Raises
        ------
        DiskError
            If the guest has no such file then.
        UsageError
            If there is no such region.
        """
        if what.startswith("/"):
            return self.open_file(what, source=source)
        self._spec(what)
        return self.case.store.view(self.id).region(what).open()

    def read(self, region: str, offset: int, length: int) -> bytes:
        """Return bytes of a region.

        Raises
        ------
        UsageError
            If there is no such region or the range does not lie in it.
        """
        size = self._spec(region)
        if offset < 0 or length < 0 or offset + length > size:
            raise UsageError(f"range outside {region}", offset=offset, length=length, size=size)
        return self.case.store.view(self.id).region(region).read(offset, length)

    def _spec(self, region: str) -> int:
        for each in self.record.regions:
            if each.spec.name == region:
                return each.spec.length
        raise UsageError(
            f"no region {region!r} in this capture", regions=[each.spec.name for each in self.record.regions]
        )

    def clone(
        self, *, name: str | None = None, network: bool = False, run: bool = True, progress: Progress = silent
    ) -> Clone:
        """Start a clone of this moment; as a context manager it is gone at the end."""
        return self.case.start_clone(self, name=name, network=network, run=run, progress=progress)

    def __repr__(self) -> str:
        return f"<Moment {self.id[:12]} of {self.guest.name!r} at {_words(self.record.time_ns)}>"


class Diff(InstantOfDiff, MemoryOfDiff, DiskOfDiff):
    """What differs between two moments."""

    def __init__(self, a: Moment, b: Moment) -> None:
        self.a = a
        self.b = b
        self._changes = a.case.store.diff(a.id, b.id)

    def summary(self) -> pd.DataFrame:
        """Return one row per region of either moment: region, kind, blocks (changed, int64), bytes (int64)."""
        specs = {each.spec.name: each.spec for moment in (self.a, self.b) for each in moment.record.regions}
        rows = []
        for name, spec in specs.items():
            count = len(self._changes.get(name, ()))
            rows.append((name, str(spec.kind), count, count * spec.block_size))
        return pd.DataFrame(rows, columns=["region", "kind", "blocks", "bytes"])

    def blocks(self, region: str | None = None) -> pd.DataFrame:
        """Return the changed clusters of all disks with whose they are, or the changed blocks of one region.

        Returns
        -------
        DataFrame
            disk, offset, length (int64, bytes), kind ("written", "zeroed" ...), volume, path, path_before, area (str);
            of one region: block (int64), offset (int64, bytes), bytes (int64).
        """
        if region is None:
            return self.disk_blocks()
        specs = {each.spec.name: each.spec for moment in (self.a, self.b) for each in moment.record.regions}
        if region not in specs:
            raise UsageError(f"no region {region!r} in either capture", regions=sorted(specs))
        spec = specs[region]
        indices = self._changes.get(region, np.zeros(0, np.int64))
        offsets = indices * spec.block_size
        lengths = np.minimum(spec.length - offsets, spec.block_size)
        return pd.DataFrame({"block": indices, "offset": offsets, "bytes": lengths})

    def _captures(self) -> list[CaptureRef]:
        refs = self.a.case.store.captures(self.b.record.guest)
        return [ref for ref in refs if self.a.record.time_ns <= ref.time_ns <= self.b.record.time_ns]

    def _marks(self) -> list[Mark]:
        first, last = self.a.record.time_ns, self.b.record.time_ns
        return [each for each in self.a.case.store.marks(self.b.record.guest) if first <= each.time_ns <= last]

    def __repr__(self) -> str:
        return f"<Diff {self.a.id[:12]} -> {self.b.id[:12]}>"


class Clone:
    """A running copy of a guest at a moment; destroyed with its context manager or by `destroy`."""

    def __init__(self, case: Case, record: CloneRecord) -> None:
        self.case = case
        self.record = record

    @property
    def name(self) -> str:
        """Its domain name."""
        return self.record.name

    @property
    def directory(self) -> Path:
        """Where its overlays and logs are."""
        return Path(self.record.directory)

    def socket(self, name: str) -> Path:
        """Return the clone's own end of the guest's socket called `name` (the last part of its path)."""
        return Path(self.record.sockets) / name

    @property
    def guest(self) -> Guest:
        """The running domain."""
        return self.case.hypervisor.guest(self.record.uuid)

    def console(self) -> Console:
        """Open its serial console; whoever had it before loses it.

        Raises
        ------
        GuestError
            If it has none.
        """
        return Console(self.guest)

    def screenshot(self) -> bytes:
        """Return what its screen shows, as PNG.

        Raises
        ------
        GuestError
            If it has no video.
        """
        return screenshot(self.guest)

    @property
    def running(self) -> bool:
        """Whether its CPUs run."""
        return self.guest.is_running()

    def pause(self) -> None:
        """Stop its CPUs; harmless where they stand."""
        steps.pause(self.guest)

    def resume(self) -> None:
        """Let its CPUs run; harmless where they do."""
        steps.resume(self.guest)

    def advance(self, seconds: float, stop: threading.Event | None = None) -> float:
        """Let it run for some seconds, at most a day, then pause it; return how many it ran. `stop` ends it early."""
        return steps.advance(self.guest, seconds, stop)

    def capture(self, reason: str = "", *, mark: str | None = None, progress: Progress = silent) -> Moment:
        """Take one capture of it: a guest of its own in this case, whose reason names the moment that it began at.

        Raises
        ------
        CaptureError, GuestError, StoreError
            It is as it was.
        """
        words = f"clone of {self.record.capture[:12]}" + (f": {reason}" if reason else "")
        with self.case.record(self.record.uuid, progress=progress) as recording:
            return recording.capture(words, mark=mark)

    def destroy(self) -> None:
        """End it and remove its files."""
        self.case.remove_clone(self.record.uuid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.destroy()

    def __repr__(self) -> str:
        return f"<Clone {self.name!r} of {self.record.capture[:12]}>"


class Recording:
    """A running guest being recorded into a case."""

    def __init__(self, case: Case, session: CaptureSession) -> None:
        self.case = case
        self.session = session
        self._loop: CaptureLoop | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def guest(self) -> GuestRecord:
        """The guest being recorded."""
        return GuestRecord(GuestId(self.session.guest.id), self.session.guest.name)

    def capture(self, reason: str = "", *, mark: str | None = None, mode: CaptureMode = CaptureMode.MANUAL) -> Moment:
        """Take one capture now and return its moment; `mark` names it.

        Raises
        ------
        CaptureError, GuestError, StoreError
            The guest runs on.
        UsageError
            While `watch` runs in the background: use `request`.
        """
        if self._thread is not None:
            raise UsageError("captures are being taken in the background", cure="Ask with `request`, or end the watch")
        record = self.session.capture(mode, reason)
        if mark is not None:
            kind = "event" if mode is CaptureMode.EVENT else "note"
            self.case.store.add_mark(Mark(mark, record.guest, record.time_ns, record.id, kind, reason))
        return Moment(self.case, self.guest, record)

    def watch(self, interval: float, listener: Callable[[Tick], None]) -> None:
        """Capture every `interval` seconds in this thread until `stop` or Ctrl-C; `listener` hears every turn."""
        self._loop = CaptureLoop(self.session, interval)
        self._loop.run(listener)

    def start(self, interval: float, listener: Callable[[Tick], None] = lambda _tick: None) -> None:
        """Capture every `interval` seconds in the background until `stop`."""
        if self._thread is not None:
            raise UsageError("captures are being taken in the background already")
        self._loop = loop = CaptureLoop(self.session, interval)

        def run() -> None:
            try:
                loop.run(listener)
            except BaseException as error:  # noqa: BLE001  (told by stop)
                self._failure = error

        self._thread = threading.Thread(target=run, name="captures", daemon=True)
        self._thread.start()

    def request(self, reason: str, *, mark: str | None = None, mode: CaptureMode = CaptureMode.EVENT) -> None:
        """Ask the running watch for a capture now."""
        if self._loop is None:
            raise UsageError("nothing is being watched", cure="Use `capture`")
        self._loop.request(mode, reason, mark)

    def end(self) -> None:
        """Ask the watch to end after the capture under way; from any thread, also from its listener."""
        if self._loop is not None:
            self._loop.stop()

    def stop(self) -> None:
        """End the watch and wait for it.

        Raises
        ------
        WorkbenchError
            What ended it before.
        """
        if self._loop is not None:
            self._loop.stop()
        if self._thread is not None:
            self._thread.join()
        self._loop = self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def rewind(self, plan: RewindPlan, *, confirm: str, progress: Progress = silent) -> Rewound:
        """Execute a production plan with this recording's session: quicker, since the head is at hand."""
        if plan.mode != "production":
            raise UsageError("a test rewind makes a clone", cure="Use `case.rewind`")
        done = plan.execute(
            self.case.hypervisor, self.case.store, confirm=confirm, session=self.session, progress=progress
        )
        assert isinstance(done, Rewound)
        return done

    def close(self) -> None:
        """End the watch and detach: nothing of ours stays in the guest."""
        with ExitStack() as stack:
            stack.callback(self.session.close)
            self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _words(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
