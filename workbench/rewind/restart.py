"""Take a guest back to a moment by starting a new QEMU for it: where in place is impossible.

Preconditions: the claim and the writer are held, and a safety capture of the very moment at which the old QEMU ended
exists. The images are written while nothing runs, changed clusters only, and they are the images of the present:
whatever files the guest had then, what it has now is what the safety capture describes. On success the domain runs at
the moment, in a new QEMU; its persistent configuration is untouched. On failure the domain is started from the safety
capture; if that fails too it is off, and the error says so. Refuses, before it ends anything, disks that are no local
image, that were there then and are not now, or that have another size.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from workbench.capture.session import XML, CaptureSession
from workbench.errors import GuestError, GuestGoneError, RewindError, UnsupportedError, WorkbenchError
from workbench.guest import virt
from workbench.guest.connection import Guest, Hypervisor
from workbench.guest.disks import read_disks
from workbench.guest.health import check_io_moves
from workbench.guest.process import HeldProcess
from workbench.guest.tools import find_tool
from workbench.model import CaptureId, CaptureMode, CaptureRecord, RegionKind
from workbench.progress import Progress, silent
from workbench.rewind.content import Blocks, difference, disk_runs
from workbench.rewind.domain import same_xml
from workbench.rewind.network import keep_down
from workbench.rewind.outcome import Rewound, note_return, note_rewind, recovery_command
from workbench.rewind.start import resume, start_moment
from workbench.rewind.thawing import guard_thaw, thaw_guarded
from workbench.store import CaptureView, CaseStore

__all__ = ["end", "restart_at", "rewind_by_restart", "started_again"]

_COMMANDS = 200
_LIMIT = 600.0


def rewind_by_restart(session: CaptureSession, target: CaptureId) -> Rewound:
    """Rewind the guest of `session` to `target` in a new QEMU. The session is of no use afterwards but to be closed.

    Raises
    ------
    UnsupportedError, CaptureError, GuestError, StoreError
        Nothing happened to the guest: it cannot be restarted at this moment, or no safety capture could be taken.
    RewindError
        `guest_is` says what holds: "as before" means restarted from the safety capture.
    """
    _refuse_impossible(session, target)
    ran = session.guest.is_running()
    session.begin()
    safety: CaptureRecord | None = None
    began = time.monotonic_ns()
    try:
        with session.prepare() as prepared, session.pause(limit=_LIMIT) as laps:
            taken = session.take(prepared, laps)
            safety = session.keep(prepared, taken, CaptureMode.SAFETY, f"before the restart at {target[:12]}")
            session.guard.arm(_LIMIT, recovery_command(session, safety.id, target, run=ran))
            end(session.guest)
    except GuestGoneError:
        if safety is None:
            raise
    assert safety is not None
    started = _start(session, safety.id, target, run=ran)
    downtime = time.monotonic_ns() - began
    record = session.store.record(target)
    thawed = _see_it_alive(session, started, record, run=ran)
    counts = {kind: difference(session.store, safety.id, target, kind) for kind in (RegionKind.MEMORY, RegionKind.DISK)}
    pages, clusters = (sum(len(each) for each in counts[kind].values()) for kind in counts)
    return Rewound(record, safety, "restarted", downtime, pages, clusters, {"restart": downtime}, thawed)


def _start(session: CaptureSession, safety: CaptureId, target: CaptureId, *, run: bool) -> Guest:
    hypervisor, store = session.guest.hypervisor, session.store
    started: Guest | None = None
    try:
        started = restart_at(hypervisor, store, target, safety, holding=[safety], progress=session.progress)
        note_rewind(store, session.guest.id, target, safety)
        if run:
            guard_thaw(session, store.record(target))
            resume(started)
    except Exception as error:  # noqa: BLE001  (whatever it is, the guest is off or half way)
        if started is not None:
            end(started)
        started_again(session, safety, target, error, _said(error), run=run)
    return started


def _see_it_alive(session: CaptureSession, started: Guest, target: CaptureRecord, *, run: bool) -> str:
    """See that the restarted guest lives; return whether it had to be thawed."""
    try:
        session.guard.disarm()
        thawed = thaw_guarded(session, started, target, ran=run)
        if run:
            check_io_moves(started, read_disks(started))
    except WorkbenchError as error:
        raise RewindError(
            f"the guest was restarted at the moment, but something is wrong with it: {error.message}",
            guest_is="as asked",
            cure=f"Look at it, or undo: workbench undo {started.name}",
        ) from error
    return thawed


def end(guest: Guest) -> None:
    """End a QEMU for certain: nothing half rewound may ever run on, also where libvirt does not want to.

    On success, and if it had ended before, it is gone.
    """
    with contextlib.suppress(GuestError, OSError, virt.libvirtError):
        held = HeldProcess(guest.pid, guest.id, guest.name)
        try:
            with contextlib.suppress(virt.libvirtError):
                guest.domain.destroy()
            if held.alive():
                signal.pidfd_send_signal(held.pidfd, signal.SIGKILL)
        finally:
            held.close()


def started_again(
    session: CaptureSession, safety: CaptureId, target: CaptureId, cause: BaseException, why: str, *, run: bool
) -> NoReturn:
    """Start the guest, which is off, from the safety capture after a rewind to `target` failed of `cause`.

    Raises
    ------
    RewindError
        Always. "as before": it was started again. "unknown": it is off.
    """
    hypervisor, store = session.guest.hypervisor, session.store
    try:
        started = restart_at(hypervisor, store, safety, safety, holding=[target], progress=session.progress)
        note_return(store, session.guest.id, safety)
        if run:
            resume(started)
        session.guard.disarm()
    except Exception as error:  # noqa: BLE001  (whatever it is, the guest is off)
        raise RewindError(
            f"the rewind failed ({why}), and so did restarting from the safety capture ({_said(error)})",
            guest_is="unknown",
            cure=f"The domain is off or paused; start a clone of {safety[:12]} to work on",
        ) from cause
    raise RewindError(
        f"the rewind failed ({why}); the guest was started again from the safety capture",
        guest_is="as before",
        restarted=True,
    ) from cause


def _said(error: BaseException) -> str:
    return error.message if isinstance(error, WorkbenchError) else repr(error)


def restart_at(
    hypervisor: Hypervisor,
    store: CaseStore,
    target: CaptureId,
    safety: CaptureId,
    *,
    holding: Sequence[CaptureId],
    progress: Progress = silent,
) -> Guest:
    """Start the domain that is off, paused at `target`.

    Parameters
    ----------
    safety : CaptureId
        Describes the images that the domain had when it ended.
    holding : sequence of CaptureId
        What the images may hold, cluster by cluster, besides the target's content. A disk that none of these captures
        has was not touched since the target.

    Raises
    ------
    WorkbenchError
        The domain is off.
    """
    view = store.view(target)
    present = _xml(store.view(safety))
    xml = same_xml(_xml(view), present)
    images = _images(present)
    for region, indices in _differing(store, holding, target).items():
        path, kind = images[region]
        _write_image(path, kind, view, region, Blocks(indices, view.region(region).read_blocks(indices)))
    guest = start_moment(hypervisor, xml, view, progress=progress)
    try:
        keep_down(guest)  # loading a card sets its link as it was then, also that of a clone
    except BaseException:
        end(guest)
        raise
    return guest


def _differing(store: CaseStore, holding: Sequence[CaptureId], target: CaptureId) -> dict[str, NDArray[np.int64]]:
    found: dict[str, NDArray[np.int64]] = {}
    for each in holding:
        for region, indices in difference(store, each, target, RegionKind.DISK).items():
            found[region] = np.union1d(found[region], indices) if region in found else indices
    return found


def _xml(view: CaptureView) -> str:
    return view.region(XML).open().read().decode()


def _refuse_impossible(session: CaptureSession, target: CaptureId) -> None:
    """Raise `UnsupportedError` or `GuestError` for what would only be found out when the guest is off."""
    view = session.store.view(target)
    present = session.guest.xml(migratable=True)
    same_xml(_xml(view), present)
    images = _images(present)
    now = {disk.region: disk.size for disk in session.disks}
    for region in view.record.regions:
        if region.spec.kind is not RegionKind.DISK:
            continue
        if now.get(region.spec.name) != region.spec.length:
            raise UnsupportedError(
                f"{region.spec.name} was there then and is not, or not as large, now",
                expected=region.spec.length,
                found=now.get(region.spec.name),
                cure="Attach the disk as it was, or clone the moment",
            )
        path, _kind = images[region.spec.name]
        if not os.access(path, os.R_OK | os.W_OK):
            raise UnsupportedError("a disk image cannot be written by us", path=str(path))
    find_tool("qemu-io")


def _images(xml: str) -> Mapping[str, tuple[Path, str]]:
    found = {}
    for disk in ET.fromstring(xml).iterfind("./devices/disk"):
        target, source, driver = disk.find("target"), disk.find("source"), disk.find("driver")
        if target is None or source is None or disk.find("readonly") is not None:
            continue
        path = source.get("file") or source.get("dev")
        if path is None:
            raise UnsupportedError("a disk on the network cannot be rewound by restart", disk=target.get("dev"))
        kind = driver.get("type", "raw") if driver is not None else "raw"
        found[f"disk:{target.get('dev')}"] = (Path(path), kind)
    return found


def _write_image(path: Path, kind: str, view: CaptureView, region: str, blocks: Blocks) -> None:
    """Write clusters into an image that nobody has open, by qemu-io."""
    length = view.record.region(region).spec.length
    with tempfile.TemporaryDirectory(prefix="rwb-write-") as directory:
        commands: list[str] = []
        for number, (offset, content) in enumerate(disk_runs(blocks, view, region)):
            size = min(content.nbytes, length - offset)
            pattern = Path(directory) / str(number)
            pattern.write_bytes(content.tobytes()[:size])
            commands.append(f"write -q -s {pattern} {offset} {size}")
            if len(commands) >= _COMMANDS:
                _qemu_io(path, kind, commands)
                commands.clear()
                for used in Path(directory).iterdir():
                    used.unlink()
        _qemu_io(path, kind, [*commands, "flush"])


def _qemu_io(path: Path, kind: str, commands: list[str]) -> None:
    words = [find_tool("qemu-io"), "-f", kind, *(word for command in commands for word in ("-c", command)), str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode or said:
        raise GuestError(f"writing {path} failed: {'; '.join(said[:3])}", path=str(path))
