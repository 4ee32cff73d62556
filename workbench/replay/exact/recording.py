"""Record a machine of our own instruction for instruction, into `recordings/ID` of a case.

Preconditions: a kernel, and a disk image of which a copy is made, or a captured moment; nothing that runs is touched.
On success the directory holds everything that a replay needs, and its description, written last. On failure, or when
this process dies, there is no description: the directory is no recording, the next one sweeps it, and QEMU is gone too.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from workbench.errors import GuestGoneError, MonitorError, OutcomeUnknownError, UsageError
from workbench.progress import Progress, ProgressEvent, silent
from workbench.replay.exact import images
from workbench.replay.exact.content import ram_digest
from workbench.replay.exact.description import FILES, Description, file_digest
from workbench.replay.exact.handlers import at_handler
from workbench.replay.exact.machine import DISK, LOG, STATE, Machine, qemu_arguments
from workbench.replay.exact.qemu import ExactQemu
from workbench.replay.exact.quiet import disk_is_quiet
from workbench.replay.exact.states import drop_state, save_state, sleeps_on_ns

__all__ = [
    "BEGINNING",
    "RECORDINGS",
    "Recorder",
    "list_recordings",
    "remove_recording",
    "sweep_recordings",
]

RECORDINGS = "recordings"
BEGINNING, ENDING = "beginning", "ending"
"""Names of the VM states at both ends of a recording."""
_STALE = 24 * 3600.0
_LOOK = 0.05
"""Seconds between two looks at the console."""
_ECHO, _NO_ECHO = 5.0, 0.25
"""Seconds that a typed character's echo is waited for; and after one that had none, as at the prompt for a password."""
_TRIES = 50
"""Tries to end where the guest sleeps on, each for a little less long; then anywhere, for `_PATIENCE_S`."""
_PATIENCE_S = 30.0
_ASLEEP_NS = 20_000_000
"""How long it should sleep on from its end; less where that is not to be had."""


class Recorder:
    """A machine that is being recorded; a context manager that keeps the recording, or nothing after an error.

    Parameters
    ----------
    case_path : Path
    machine : Machine
    kernel, initrd : Path
        Copied into the recording.
    disk : Path, optional
        A disk image, or the directory of the recording to go on from.
    disk_format : {"raw", "qcow2"}
        Of the image; never guessed.
    after : Path, optional
        The directory of a recording at whose end this one begins; the other files are taken from it.
    lay : callable, optional
        Lays disk and state of a captured moment: given the directory, the UUID and the state's name.
    capture : str
        The capture that it begins at then.

    Raises
    ------
    UnsupportedError
        If an option or device of the machine cannot be recorded.
    UsageError, GuestError, StoreError
    """

    def __init__(
        self,
        case_path: Path,
        machine: Machine,
        *,
        kernel: Path | None = None,
        initrd: Path | None = None,
        disk: Path | None = None,
        disk_format: str = "qcow2",
        after: Path | None = None,
        lay: Callable[[Path, str, str], None] | None = None,
        capture: str = "",
    ) -> None:
        machine.check()
        self.id = str(uuid.uuid4())
        self.machine = machine
        self.place = case_path / RECORDINGS / self.id
        self._parent = Description.read(after) if after is not None else None
        self._capture = capture
        self._time_ns = time.time_ns()
        self._text = bytearray()
        self._kept: Description | None = None
        sweep_recordings(case_path)
        self.place.mkdir(mode=0o700, parents=True)
        try:
            if after is not None:
                self._lay_after(after)
            elif lay is not None:
                lay(self.place, self.id, ENDING)
            else:
                self._lay(kernel, initrd, disk, disk_format)
            self.qemu = self._start()
        except BaseException:
            shutil.rmtree(self.place, ignore_errors=True)
            raise

    def _lay(self, kernel: Path | None, initrd: Path | None, disk: Path | None, disk_format: str) -> None:
        if kernel is None:
            raise UsageError("no kernel to record", cure="Name a kernel, or a recording to go on from.")
        images.copy_file(kernel, self.place / "kernel")
        if initrd is not None:
            images.copy_file(initrd, self.place / "initrd")
        if disk is not None:
            images.keep_base(disk, disk_format, self.place)
        images.fresh_run(self.place, self.place, disk=disk is not None)

    def _lay_after(self, after: Path) -> None:
        assert self._parent is not None
        self._parent.verify(after)
        for name in self._parent.files:
            if name not in (LOG, "console"):
                images.copy_file(after / name, self.place / name)
        images.refuse_foreign(self.place / STATE, backing=False)
        if self._parent.disk:
            images.refuse_foreign(self.place / images.BASE, backing=False)
            images.refuse_foreign(self.place / DISK, backing=True)
            images.rebase(self.place, self.place)

    def _start(self) -> ExactQemu:
        arguments = qemu_arguments(
            self.machine, self.place, self.place, self.id, "record",
            disk=(self.place / images.BASE).exists(), snapshot=BEGINNING,
            load=ENDING if self._parent or self._capture else "",
        )  # fmt: skip
        return ExactQemu(arguments, self.place, self.id, self.machine.name, typed=True)

    @property
    def console(self) -> bytes:
        """What the console printed so far."""
        return bytes(self._heard())

    def _heard(self) -> bytearray:
        with (self.place / "console").open("rb") as file:
            file.seek(len(self._text))
            self._text += file.read()
        return self._text

    @property
    def ended(self) -> bool:
        """Whether the machine was switched off, restarted or panicked: it stands then, and is kept as it is."""
        if self.qemu.process.poll() is not None:
            return True
        try:
            return self.qemu.monitor.execute("query-status")["status"] not in ("running", "paused")
        except GuestGoneError:
            return True

    def wait_for(self, pattern: str, timeout: float = 60.0, *, since: int = 0) -> int:
        """Wait until the console, from byte `since` on, shows a regular expression; return where it ends.

        Raises
        ------
        OutcomeUnknownError
            If it does not within `timeout` seconds, or the machine ended; the recording goes on.
        """
        wanted, deadline, looked = re.compile(pattern.encode()), time.monotonic() + timeout, -1
        while True:
            over = self.ended or time.monotonic() > deadline
            text = self._heard()
            if len(text) != looked and (found := wanted.search(text, since)):
                return found.end()
            looked = len(text)
            if over:
                raise OutcomeUnknownError(
                    f"the console does not show {pattern!r}", waited=timeout, last=bytes(text[-200:])
                )
            time.sleep(_LOOK)

    def enter(self, text: str) -> None:
        """Type on the console; what is typed is in the log, and is typed again at the same instruction in replays.

        Each character waits for its echo, at most a while: a serial port has 16 bytes, and QEMU drops what is sent
        beyond them between two events of the log.

        Raises
        ------
        GuestGoneError, GuestBusyError
        """
        patience = _ECHO
        for each in text.encode():
            before, deadline = len(self._heard()), time.monotonic() + patience
            self.qemu.type(bytes([each]))
            while (unheard := len(self._heard()) == before) and time.monotonic() < deadline:
                time.sleep(0.002)
            patience = _NO_ECHO if unheard else _ECHO

    def run(self, seconds: float) -> None:
        """Let it run for some seconds, or until it ends by itself."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.ended:
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))

    def finish(self, progress: Progress = silent) -> Description:
        """Stop it, keep the state at the end so that a recording can go on from there, and describe it.

        Raises
        ------
        GuestGoneError
            If its QEMU ended before: a log without an end is not kept.
        OutcomeUnknownError, StoreError
        """
        version = self.qemu.monitor.execute("query-version")["qemu"]
        icount, digest = self._stand()
        if not self.qemu.quit():
            raise OutcomeUnknownError("the recording QEMU does not end", cure="Record again.")
        (self.place / "stderr").unlink(missing_ok=True)
        files = {}
        for name in FILES:
            if (self.place / name).exists():
                progress(ProgressEvent(f"digest of {name}"))
                files[name] = file_digest(self.place / name)
        found = Description(
            self.id, self._time_ns, icount, self._parent.icount if self._parent else 0, self.machine, BEGINNING, digest,
            ".".join(str(version[part]) for part in ("major", "minor", "micro")), files,
            self._parent.id if self._parent else "", self._capture,
        )  # fmt: skip
        found.write(self.place)
        self._kept = found
        return found

    def _stand(self) -> tuple[int, str]:
        """Stop it where its state can be saved, save it, and return the instruction count and the memory's digest.

        That is not everywhere: it runs on a little while the disk has requests, or the log events, under way, while it
        stands at a handler, which no replay does at that instruction, and while its sleep is about to end, since what
        would go on from there could not be replayed.
        """
        over = self.ended
        self.qemu.monitor.execute("stop")
        tries, end = 0, time.monotonic() + _PATIENCE_S
        while tries < _TRIES or time.monotonic() < end:
            wanted = 0 if over else _ASLEEP_NS * max(0, _TRIES - tries) // _TRIES  # nothing goes on from what ended
            tries += 1
            elsewhere = not over and at_handler(self.qemu)
            if not elsewhere and disk_is_quiet(self.qemu) and (stood := self._save_end(wanted)):
                return stood
            self.qemu.monitor.execute("cont")
            time.sleep(0.02)
            self.qemu.monitor.execute("stop")
        raise OutcomeUnknownError(
            f"{self.qemu.name}: its state cannot be saved: there are always events under way",
            tries=tries, cure="End the recording when the guest rests.",
        )  # fmt: skip

    def _save_end(self, asleep_ns: int) -> tuple[int, str] | None:
        icount, digest = self.qemu.icount(), ram_digest(self.qemu)
        disks = ["image"] if (self.place / images.BASE).exists() else []
        try:
            drop_state(self.qemu, ENDING, disks)  # of the try before, or the recording it went on from
            save_state(self.qemu, ENDING, disks)
        except MonitorError:
            return None
        sleep = sleeps_on_ns(self.place / STATE, icount)
        return (icount, digest) if not asleep_ns or (sleep or 0) >= asleep_ns else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._kept is None:
                self.finish()
        finally:
            self.qemu.close()
            if self._kept is None:
                shutil.rmtree(self.place, ignore_errors=True)


def list_recordings(case_path: Path) -> list[Path]:
    """Return the directories of whole recordings."""
    place = case_path / RECORDINGS
    found = [each.parent for each in place.glob("*/description.json")] if place.is_dir() else []
    return sorted(found)


def remove_recording(place: Path) -> None:
    """Remove a recording: its description first, so that half of one is none."""
    (place / "description.json").unlink(missing_ok=True)
    shutil.rmtree(place)


def sweep_recordings(case_path: Path, stale: float = _STALE) -> None:
    """Remove what recordings left that did not come to their end, once nobody can be at work on it."""
    for each in (case_path / RECORDINGS).glob("*"):
        with contextlib.suppress(OSError):
            if not (each / "description.json").exists() and time.time() - each.stat().st_mtime > stale:
                shutil.rmtree(each, ignore_errors=True)
