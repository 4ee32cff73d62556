"""Take the running guest itself back to a moment, without restarting QEMU.

Preconditions: an open session; the target has the guest's shape. The order is what makes it safe:

1. an ordinary capture while the guest runs, and the target's differing blocks read from the store;
2. pause, guarded: until the safety capture is committed, the guard's cure is a plain resume;
3. the safety capture, committed inside the pause, and whatever can still fail in reading;
4. the guard's cure is from here to take the guest back; disks, memory, devices of the target; memory is proved;
5. the rewind is noted in the case, the guest goes on, and I/O is seen to move.

On success the guest runs as asked and the safety capture undoes it. On failure before 4 nothing happened and the error
is that of the capture or the store; in 4, the safety capture is applied and the guest runs as before; if that fails
too, this QEMU is ended inside the pause, so that nothing half rewound ever runs, and the guest is started again from
the safety capture. A killed process is handled by the guard in the same way. Ctrl-C waits for the end of 4. A guest
that somebody else had paused stays paused.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn
from xml.etree import ElementTree as ET

from workbench.capture.pause import Laps
from workbench.capture.session import CaptureSession
from workbench.errors import FormatError, RewindError, UnsupportedError, WorkbenchError
from workbench.guest.health import check_io_moves
from workbench.guest.leftovers import drop_descriptors
from workbench.model import CaptureId, CaptureMode, CaptureRecord, RegionKind
from workbench.progress import ProgressEvent
from workbench.rewind.apply import apply, devices_for
from workbench.rewind.content import Content, difference
from workbench.rewind.outcome import Rewound, note_return, note_rewind, recovery_command
from workbench.rewind.restart import end, started_again
from workbench.rewind.shape import same_shape
from workbench.rewind.thawing import guard_thaw, thaw_guarded

__all__ = ["Rewound", "rewind_in_place"]

_LIMIT = 120.0
"""Seconds after which the guard takes an unfinished rewind for hung, and more for much to write."""
_SLOWEST = 20e6
"""Bytes per second at which a rewind writes at the very least."""
_KINDS = (RegionKind.MEMORY, RegionKind.DISK)


class _BrokenError(Exception):
    """Neither to the target nor back: this QEMU was ended. Carries both reasons."""

    def __init__(self, cause: BaseException, back: BaseException) -> None:
        super().__init__(f"{_said(cause)}; going back in place: {_said(back)}")
        self.cause = cause


def rewind_in_place(session: CaptureSession, target: CaptureId) -> Rewound:
    """Rewind the guest of `session` to `target`.

    Raises
    ------
    UnsupportedError
        Before anything happened: the guest's shape, or its clock, is not what a rewind in place needs.
    CaptureError, GuestError, StoreError
        Before anything happened: no safety capture, or the target cannot be read. The guest runs on.
    RewindError
        `guest_is` says what holds. Where `facts` have "restarted", the session is of no use but to be closed.
    """
    content = _prepared(session, target)
    ran = session.guest.is_running()
    _tell(session, 1)
    with _no_interrupt():
        try:
            safety, laps = _go(session, content, ran=ran)
        except RewindError:
            if ran:
                with contextlib.suppress(WorkbenchError):
                    drop_descriptors(session.guest.monitor)
            raise
        return _finish(session, content, safety, laps, ran=ran)


def _go(session: CaptureSession, content: Content, *, ran: bool) -> tuple[CaptureRecord, Laps]:
    """Do steps 2 to 4 and let the guest go on.

    Raises
    ------
    RewindError, and as `rewind_in_place`
    """
    safety: CaptureRecord | None = None
    arrived = False
    try:
        with session.prepare() as prepared, session.pause(limit=_limit(content)) as laps:
            taken = session.take(prepared, laps)
            reason = f"before the rewind to {content.view.record.id[:12]}"
            safety = session.keep(prepared, taken, CaptureMode.SAFETY, reason)
            laps.mark("safety")
            _there_or_back(session, content, safety, laps, ran=ran)
            arrived = True
    except (WorkbenchError, _BrokenError) as error:
        broken = _broken_before(error)
        if broken is not None and safety is not None:
            _start_again(session, safety, content.view.record.id, broken, run=ran)
        if not arrived:
            raise
        raise RewindError(
            f"the guest was rewound, but it or its guard does not go on: {error}",
            guest_is="as asked",
            cure=f"Look at it, or undo: workbench undo {session.guest.name}",
        ) from error
    return safety, laps


def _broken_before(error: BaseException | None) -> _BrokenError | None:
    """Return the failure that ended QEMU, which the attempts to clean up after it may have covered."""
    while error is not None and not isinstance(error, _BrokenError):
        error = error.__context__
    return error


def _there_or_back(session: CaptureSession, content: Content, safety: CaptureRecord, laps: Laps, *, ran: bool) -> None:
    """Bring the paused guest to the target, or back.

    Raises
    ------
    StoreError
        Nothing was done to it.
    RewindError
        It is as before.
    _BrokenError
        It was ended.
    """
    devices = _complete(session, content, safety, laps)
    target = content.view.record.id
    session.guard.arm(_limit(content), recovery_command(session, safety.id, target, run=ran))
    try:
        apply(session, content, devices, laps)
        note_rewind(session.store, session.guest.id, target, safety.id)
        if ran:
            guard_thaw(session, content.view.record)
    except BaseException as error:  # noqa: BLE001  (whatever it is, the guest is half way)
        _back(session, safety, content, error, ran=ran)
    if not ran:  # the pause is not ours, so its end will not do this
        session.guard.disarm()
    laps.mark("note")


def _prepared(session: CaptureSession, target: CaptureId) -> Content:
    """Read, while the guest runs, what differs from the target now: nearly all that is to be written."""
    before = session.store.view(session.capture(CaptureMode.SAFETY, "before a rewind").id)
    content = Content(session.store.view(target))
    differing = same_shape(before, content.view)
    if differing:
        raise UnsupportedError(
            f"the guest has another shape than then: {'; '.join(differing)}", cure="Rewind by restarting it"
        )
    _refuse_scsi_threads(session)
    try:
        devices_for(session, content.view, before)
    except FormatError as error:
        raise UnsupportedError(f"the guest's clock cannot be taken back: {error.message}") from error
    for kind in _KINDS:
        content.cover(difference(session.store, before.record.id, target, kind), kind)
    return content


def _refuse_scsi_threads(session: CaptureSession) -> None:
    """Refuse disks that stay in an I/O thread while the guest stands still: QEMU aborts when the monitor writes there.

    A virtio-blk disk comes back to the main loop at a `stop`, a disk behind a virtio-scsi controller does not. Seen on
    QEMU 7.2: any `qemu-io` write fails an assertion of `aio_poll`; reads and flushes do not.
    """
    for controller in ET.fromstring(session.guest.xml()).iterfind("./devices/controller[@type='scsi']"):
        driver = controller.find("driver")
        if driver is not None and driver.get("iothread"):
            raise UnsupportedError("its disks are in an I/O thread behind virtio-scsi")


def _complete(session: CaptureSession, content: Content, safety: CaptureRecord, laps: Laps) -> bytes:
    """Make `content` exactly what differs from the safety capture, and return the devices to load."""
    for kind in _KINDS:
        wanted = difference(session.store, safety.id, content.view.record.id, kind)
        content.cover(wanted, kind)
        content.keep_only(wanted, kind)
    devices = devices_for(session, content.view, session.store.view(safety.id))
    laps.mark("read")
    return devices


def _limit(content: Content) -> float:
    return _LIMIT + sum(blocks.content.nbytes for blocks in content.regions.values()) / _SLOWEST


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back for the body: an interrupt between two moments would help nobody."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = []

    def remember(number: int, _frame: FrameType | None) -> None:
        pressed.append(number)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            signal.raise_signal(signal.SIGINT)


def _back(
    session: CaptureSession, safety: CaptureRecord, written: Content, cause: BaseException, *, ran: bool
) -> NoReturn:
    """Bring the guest back to the safety capture after a failure half way; it is still paused then.

    Raises
    ------
    RewindError
        It is as before.
    _BrokenError
        It was ended.
    """
    try:
        content = Content(session.store.view(safety.id))
        for kind in _KINDS:
            content.cover({name: blocks.indices for name, blocks in written.regions.items()}, kind)
        apply(session, content, devices_for(session, content.view, content.view), Laps())
        note_return(session.store, session.guest.id, safety.id)
    except BaseException as error:  # noqa: BLE001  (whatever it is, this QEMU must not run on)
        end(session.guest)
        raise _BrokenError(cause, error) from cause
    if not ran:
        session.guard.disarm()
    raise RewindError(
        f"the rewind failed half way: {_said(cause)}", guest_is="as before", cure="Nothing was lost"
    ) from cause


def _start_again(
    session: CaptureSession, safety: CaptureRecord, target: CaptureId, broken: _BrokenError, *, run: bool
) -> NoReturn:
    """Start the guest, whose QEMU was ended half way, from the safety capture.

    Raises
    ------
    RewindError
        Always: it says what holds.
    """
    note = f"neither to the moment nor back ({broken}): restarting QEMU at the safety capture"
    session.progress(ProgressEvent(f"rewinding {session.guest.name}", note=note))
    started_again(session, safety.id, target, broken.cause, str(broken), run=run)


def _said(error: BaseException) -> str:
    return error.message if isinstance(error, WorkbenchError) else repr(error)


def _tell(session: CaptureSession, step: int) -> None:
    session.progress(ProgressEvent(f"rewinding {session.guest.name}", step, 3, "steps"))


def _finish(session: CaptureSession, content: Content, safety: CaptureRecord, laps: Laps, *, ran: bool) -> Rewound:
    """See that the rewound guest lives, and have the session go on from the target.

    Raises
    ------
    RewindError
        The guest is where it was asked to be, and something is wrong with it or with us.
    """
    target = content.view.record
    _tell(session, 2)
    try:
        drop_descriptors(session.guest.monitor)
        session.writer.move_to(target.id)
        thawed = thaw_guarded(session, session.guest, target, ran=ran)
        if ran:
            check_io_moves(session.guest, session.disks)
    except WorkbenchError as error:
        raise RewindError(
            f"the guest was rewound, but something is wrong with it: {error.message}",
            guest_is="as asked",
            cure=f"Look at it, or undo: workbench undo {session.guest.name}",
        ) from error
    _tell(session, 3)
    sizes = {name: len(blocks.indices) for name, blocks in content.regions.items()}
    clusters = sum(count for name, count in sizes.items() if name.startswith("disk:"))
    return Rewound(target, safety, "in place", laps.total, sum(sizes.values()) - clusters, clusters, laps.parts, thawed)
