"""What the one door gives its Case of this room: record a machine exactly, and the recordings there are.

Refuses to load what starts QEMU before it is asked for.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbench.errors import MomentNotFoundError, StoreError, UsageError
from workbench.progress import Progress, silent
from workbench.store import CaseStore

if TYPE_CHECKING:
    from workbench.guest.connection import Hypervisor
    from workbench.replay.exact.description import Description
    from workbench.replay.exact.gdb import Debugger
    from workbench.replay.exact.machine import Machine
    from workbench.replay.exact.recording import Recorder
    from workbench.replay.exact.replaying import Replay, ReplayOutcome
    from workbench.replay.exact.search import LastWrite
    from workbench.replay.exact.written import FileWrite

__all__ = ["ExactOfCase", "ExactRecording"]


class ExactRecording:
    """A kept recording: replayed as often as wanted, from a copy of its files.

    Attributes
    ----------
    id : str
        Its UUID, and that of its guest in the case.
    description : Description
        What it is of, how many instructions it has, and the digest of its memory at the end.
    """

    def __init__(self, case: Any, place: Path, description: Description) -> None:
        self.case, self.place, self.description = case, place, description
        self.id = description.id

    @property
    def icount(self) -> int:
        """How many instructions it has."""
        return self.description.icount

    @property
    def console(self) -> bytes:
        """What its console printed while it was recorded.

        Raises
        ------
        MissingError
        """
        from workbench.replay.exact.description import plain_file

        return plain_file(self.place / "console").read_bytes()

    def replay(self, until: int | None = None, *, timeout: float | None = None) -> ReplayOutcome:
        """Replay it from its beginning to an instruction count, or to its end, and say how that went.

        A replay that does not get there in time is a result (`hung`, `icount`); its QEMU is ended in any case.

        Raises
        ------
        UsageError, GuestError, StoreError
        """
        from workbench.replay.exact.replaying import replay_once

        return replay_once(self.place, until, timeout=timeout)

    def begin(self, *, near: int = 0, timeout: float | None = None) -> Replay:
        """Begin a replay that is stopped where one likes: a context manager with `to(icount)` and `icount`.

        Raises
        ------
        GuestError, StoreError
        """
        from workbench.replay.exact.replaying import Replay

        return Replay(self.place, near=near, timeout=timeout)

    def capture(self, at: int | Replay, reason: str = "") -> Any:
        """Put the instant after so many instructions into the case, and return its moment: every analysis works on it.

        Raises
        ------
        UsageError, GuestError, StoreError
            Nothing is committed.
        """
        from workbench.replay.exact.keeping import keep_capture
        from workbench.replay.exact.replaying import Replay

        if isinstance(at, Replay):
            record = keep_capture(self.case.store, at, reason)
        else:
            with self.begin(near=at) as replay:
                replay.to(at)
                record = keep_capture(self.case.store, replay, reason)
        return self.case.moment(record.id, self.id)

    def last_write(
        self,
        address: int,
        length: int = 8,
        *,
        before: int | None = None,
        resolution: int = 1,
        progress: Progress = silent,
    ) -> LastWrite:
        """Find the instruction by which bytes of physical memory took the value they have at the end (or `before`).

        Raises
        ------
        UsageError
            If that is no RAM, or nothing changed there.
        GuestError, StoreError
        """
        from workbench.replay.exact.search import find_last_write

        return find_last_write(
            self.place, address, length, before=before, resolution=resolution, progress=progress
        )  # fmt: skip

    def last_write_of_file(
        self, path: str, *, before: int | None = None, resolution: int = 1, progress: Progress = silent
    ) -> FileWrite:
        """Find where a file of the disk became what it is at the end (or `before`): when its write reached the disk.

        Raises
        ------
        UsageError
            If the recording has no disk, or the file is the same from its beginning on.
        DiskError, GuestError, StoreError
        """
        from workbench.replay.exact.written import find_last_write_of_file

        return find_last_write_of_file(
            self.place, path, type(self.case).create, before=before, resolution=resolution, progress=progress
        )  # fmt: skip

    def gdb(self, at: int, *, timeout: float = 120.0) -> AbstractContextManager[Debugger]:
        """Replay to an instruction and let a debugger in, which can go backwards; `command` says how gdb is attached.

        Raises
        ------
        UsageError, GuestError, StoreError
        """
        from workbench.replay.exact.gdb import debugging

        return debugging(self.place, at, timeout=timeout)

    def remove(self) -> None:
        """Remove it; captures that were taken of it stay."""
        from workbench.replay.exact.recording import remove_recording

        remove_recording(self.place)

    def __repr__(self) -> str:
        return f"<ExactRecording {self.id[:8]} of {self.description.machine.name!r}: {self.icount} instructions>"


class ExactOfCase:
    """Exact recordings of a case."""

    store: CaseStore
    path: Path

    @property
    def hypervisor(self) -> Hypervisor:
        """Where the case's guests run; the case connects when it is asked."""
        raise NotImplementedError

    def record_exactly(
        self,
        machine: Machine | None = None,
        *,
        kernel: Path | None = None,
        initrd: Path | None = None,
        disk: Any = None,
        disk_format: str = "qcow2",
        after: ExactRecording | None = None,
        moment: Any = None,
    ) -> Recorder:
        """Start a machine under exact recording: a context manager that keeps it in `recordings/ID`.

        Parameters
        ----------
        machine : Machine, optional
            Memory, kernel command line and so on.
        kernel, initrd : Path
            Copied.
        disk : Path or Moment, optional
            An image, of which a copy is made, or a moment whose (first) disk is taken.
        disk_format : {"raw", "qcow2"}
            Of the image; never guessed.
        after : ExactRecording, optional
            Go on where that one ended.
        moment : Moment, optional
            Go on where a guest of libvirt's was then, with its memory, devices and disk; its network cards have no
            cable, its channels nobody at the other end. All that is not known to be replayed is refused by name.

        Raises
        ------
        UnsupportedError
            Naming the option or device that is in the way.
        UsageError, GuestError, StoreError
        """
        from workbench.replay.exact.machine import Machine
        from workbench.replay.exact.recording import Recorder

        goes_on = [each for each in (after, moment) if each is not None]
        if len(goes_on) > 1 or (goes_on and any(each is not None for each in (machine, kernel, initrd, disk))):
            raise UsageError(
                "a recording has one beginning",
                cure="Name a kernel with machine and disk, or a recording (after) or a moment, which have their own.",
            )
        if moment is not None:
            return self._record_moment(moment)
        if after is not None:
            return Recorder(self.path, after.description.machine, after=after.place)
        image, kind = (None, disk_format) if disk is None else self._image(disk, disk_format)
        return Recorder(
            self.path, machine or Machine(), kernel=kernel, initrd=initrd, disk=image, disk_format=kind
        )  # fmt: skip

    def _record_moment(self, moment: Any) -> Recorder:
        from workbench.replay.exact.recording import Recorder
        from workbench.replay.exact.seeding import machine_of_moment, seed

        view = self.store.view(moment.id)
        machine = machine_of_moment(self.hypervisor, self.store, view)

        def lay(place: Path, uuid: str, tag: str) -> None:
            seed(self.store, view, machine, place, uuid, tag)

        return Recorder(self.path, machine, lay=lay, capture=moment.id)

    def _image(self, disk: Any, kind: str) -> tuple[Path, str]:
        if isinstance(disk, str | Path):
            return Path(disk), kind
        from workbench.rewind.images import content_image

        view = self.store.view(disk.id)
        names = [each.spec.name for each in view.record.regions if each.spec.name.startswith("disk:")]
        if not names:
            raise UsageError("that moment has no disk", capture=disk.id, cure="Choose another moment, or an image.")
        return content_image(self.path / "cache", view, names[0]), "raw"

    def boot_exactly(
        self,
        machine: Machine | None = None,
        *,
        seconds: float = 60.0,
        until: str | None = None,
        typed: str = "",
        progress: Progress = silent,
        **files: Any,
    ) -> ExactRecording:
        """Boot a machine under recording until its console shows `until`, or for some seconds, and keep the recording.

        Parameters
        ----------
        seconds : float
            How long, or how long to wait for `until`.
        until : str, optional
            A regular expression.
        typed : str
            Typed on the console then; the recording ends when it was echoed.
        **files
            As for `record_exactly`.

        Raises
        ------
        OutcomeUnknownError
            If the console does not show it in time; nothing is kept.
        UnsupportedError, UsageError, GuestError, StoreError
        """
        with self.record_exactly(machine, **files) as recorder:
            if until is None:
                recorder.run(seconds)
            else:
                recorder.wait_for(until, seconds)
            recorder.enter(typed)
            recorder.finish(progress)
        return self.exact_recording(recorder.id)

    def exact_recording(self, identity: str = "") -> ExactRecording:
        """Return the recording with this id or beginning of it; without, the newest.

        Raises
        ------
        MomentNotFoundError
            Saying which there are.
        FormatError
        """
        from workbench.replay.exact.description import Description
        from workbench.replay.exact.recording import list_recordings

        fitting = [place for place in list_recordings(self.path) if place.name.startswith(identity)]
        if not fitting or (identity and len(fitting) > 1):
            raise MomentNotFoundError(
                f"no one recording {identity!r}",
                known=[place.name for place in list_recordings(self.path)],
                cure="See `workbench replay --list`.",
            )
        newest = max(fitting, key=_time_ns) if len(fitting) > 1 else fitting[0]
        return ExactRecording(self, newest, Description.read(newest))

    def exact_recordings(self) -> pd.DataFrame:
        """Return the recordings, oldest first.

        Returns
        -------
        DataFrame
            id (str), name (str), time (datetime64[ns, UTC]), instructions (Int64), memory_mib (Int64), parent (str),
            bytes (Int64, on disk without waypoints), wrong (str, why it cannot be read; the rest is empty then).
        """
        from workbench.replay.exact.recording import list_recordings

        rows = [_row(place) for place in list_recordings(self.path)]
        columns = ["id", "name", "time", "instructions", "memory_mib", "parent", "bytes", "wrong"]
        frame = pd.DataFrame(rows, columns=columns)
        frame["time"] = pd.to_datetime(frame["time"], utc=True)
        numbers = dict.fromkeys(("instructions", "memory_mib", "bytes"), "Int64")
        return frame.astype(numbers).sort_values("time", ignore_index=True)


def _time_ns(place: Path) -> int:
    """Return when a recording began; 0 for one that cannot be read, which so is the newest only where none can."""
    from workbench.replay.exact.description import Description

    try:
        return Description.read(place).time_ns
    except StoreError:
        return 0


def _row(place: Path) -> tuple[object, ...]:
    from workbench.replay.exact.description import Description, plain_file

    try:
        found = Description.read(place)
        size = sum(plain_file(place / name).stat().st_size for name in found.files)
    except StoreError as error:
        return place.name, "", pd.NaT, pd.NA, pd.NA, "", pd.NA, str(error)
    machine = found.machine
    return found.id, machine.name, found.time_ns, found.icount, machine.memory_mib, found.parent, size, ""
