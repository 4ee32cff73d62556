"""Take a guest back to a moment by starting a new QEMU for it: where in place is impossible.

Preconditions: the claim and the writer are held, and a safety capture of the very moment at which the old QEMU ended
exists. The images are written while nothing runs, changed clusters only. On success the domain runs at the moment, in a
new QEMU; its persistent configuration is untouched. On failure the domain is started from the safety capture; if that
fails too it is off, and the error says so. Refuses disks that are no local image.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import libvirt

from workbench.capture.session import XML, CaptureSession
from workbench.errors import GuestError, GuestGoneError, RewindError, UnsupportedError, WorkbenchError
from workbench.guest.connection import Guest, Hypervisor
from workbench.guest.tools import find_tool
from workbench.model import CaptureId, CaptureMode, CaptureRecord, RegionKind
from workbench.progress import Progress, silent
from workbench.rewind.content import Blocks, difference, disk_runs
from workbench.rewind.domain import same_xml
from workbench.rewind.in_place import Rewound, note_rewind, recovery_command
from workbench.rewind.start import resume, start_moment
from workbench.store import CaptureView, CaseStore

__all__ = ["restart_at", "rewind_by_restart"]

_COMMANDS = 200
_LIMIT = 300.0


def rewind_by_restart(session: CaptureSession, target: CaptureId) -> Rewound:
    """Rewind the guest of `session` to `target` in a new QEMU. The session is of no use afterwards but to be closed.

    Raises
    ------
    RewindError
        `guest_is` says what holds: "as before" means restarted from the safety capture.
    """
    began = time.monotonic_ns()
    session.begin()
    safety: CaptureRecord | None = None
    try:
        with session.prepare() as prepared, session.pause(limit=_LIMIT) as laps:
            taken = session.take(prepared, laps)
            safety = session.keep(prepared, taken, CaptureMode.SAFETY, f"before the restart at {target[:12]}")
            session.guard.arm(_LIMIT, recovery_command(session, safety.id))
            _end(session.guest)
            began = time.monotonic_ns()
    except GuestGoneError:
        if safety is None:
            raise
    assert safety is not None
    hypervisor, store = session.guest.hypervisor, session.store
    try:
        restart_at(hypervisor, store, safety.id, target, progress=session.progress)
        note_rewind(store, session.guest.id, target, safety.id)
    except WorkbenchError as error:
        _as_before(hypervisor, store, safety.id, target, error)
    session.guard.disarm()
    counts = {kind: difference(store, safety.id, target, kind) for kind in (RegionKind.MEMORY, RegionKind.DISK)}
    pages, clusters = (sum(len(each) for each in counts[kind].values()) for kind in counts)
    downtime = time.monotonic_ns() - began
    return Rewound(store.record(target), safety, "restarted", downtime, pages, clusters, {"restart": downtime})


def _end(guest: Guest) -> None:
    with contextlib.suppress(libvirt.libvirtError):
        guest.domain.destroy()


def _as_before(
    hypervisor: Hypervisor, store: CaseStore, safety: CaptureId, target: CaptureId, cause: WorkbenchError
) -> None:
    try:
        restart_at(hypervisor, store, target, safety)
        note_rewind(store, store.record(safety).guest, safety, None)
    except WorkbenchError as error:
        raise RewindError(
            f"the restart failed ({cause}), and so did restarting from the safety capture ({error})",
            guest_is="unknown",
            cure=f"The domain is off; start a clone of {safety[:12]} to work on",
        ) from cause
    raise RewindError(f"the restart at the moment failed: {cause}", guest_is="as before") from cause


def restart_at(
    hypervisor: Hypervisor,
    store: CaseStore,
    now: CaptureId,
    target: CaptureId,
    *,
    progress: Progress = silent,
) -> Guest:
    """Start the domain that is off at `target`; where its images differ from `now`, they hold `target` already.

    Raises
    ------
    WorkbenchError
        The domain is off.
    """
    view = store.view(target)
    xml = same_xml(view.region(XML).open().read().decode())
    images = _images(xml)
    differing = difference(store, now, target, RegionKind.DISK)
    for region, indices in differing.items():
        path, kind = images[region]
        _write_image(path, kind, view, region, Blocks(indices, view.region(region).read_blocks(indices)))
    started = start_moment(hypervisor, xml, view, progress=progress)
    resume(started)
    return started


def _images(xml: str) -> Mapping[str, tuple[Path, str]]:
    found = {}
    for disk in ET.fromstring(xml).iterfind("./devices/disk"):
        target, source, driver = disk.find("target"), disk.find("source"), disk.find("driver")
        if target is None or source is None:
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
