"""Take a guest back to a moment by starting a new QEMU for it: where in place is impossible.

Preconditions: the claim and the writer are held, and a safety capture exists. The disks' images are written while
nothing runs, changed clusters only. On success the domain runs at the moment, in a new QEMU; its persistent
configuration is untouched. On failure the domain is started from the safety capture; if that fails too, it is off,
its images hold the safety capture's content as far as they could be written, and the error says so.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import libvirt

from workbench.capture.session import XML
from workbench.errors import GuestError, UnsupportedError
from workbench.guest.connection import Guest, Hypervisor, translate
from workbench.guest.tools import find_tool
from workbench.model import CaptureId, RegionKind
from workbench.progress import Progress, silent
from workbench.rewind.content import Blocks, difference, disk_runs
from workbench.rewind.domain import same_xml
from workbench.rewind.start import resume, start_moment
from workbench.store import CaptureView, CaseStore

__all__ = ["restart_at"]

_COMMANDS = 200


def restart_at(
    hypervisor: Hypervisor, guest: Guest, store: CaseStore, now: CaptureId, target: CaptureId, *, progress: Progress = silent
) -> Guest:
    """End the guest's QEMU and start it again at `target`; its disks hold `now`, whatever ran since.

    Raises
    ------
    GuestError
        The domain is off; the message says how far it came.
    """
    view = store.view(target)
    xml = same_xml(view.region(XML).open().read().decode())
    images = _images(xml)
    with translate(f"ending {guest.name}"), contextlib.suppress(libvirt.libvirtError):
        guest.domain.destroy()
    for region, indices in difference(store, now, target, RegionKind.DISK).items():
        path, kind = images[region]
        _write_image(path, kind, view, region, Blocks(indices, view.region(region).read_blocks(indices)))
    started = start_moment(hypervisor, xml, view, progress=progress)
    resume(started)
    return started


def _images(xml: str) -> Mapping[str, tuple[Path, str]]:
    found = {}
    for disk in ElementTree.fromstring(xml).iterfind("./devices/disk"):
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
    """Write clusters into an image that nobody has open, through qemu-io's own standard input."""
    length = view.record.region(region).spec.length
    commands: list[str] = []
    with contextlib.ExitStack() as stack:
        spool = stack.enter_context(_Spool())
        for offset, content in disk_runs(blocks, view, region):
            size = min(content.nbytes, length - offset)
            commands.append(f"write -q -s {spool.add(content.tobytes()[:size])} {offset} {size}")
            if len(commands) >= _COMMANDS:
                _qemu_io(path, kind, commands)
                commands.clear()
                spool.clear()
        _qemu_io(path, kind, [*commands, "flush"])


def _qemu_io(path: Path, kind: str, commands: list[str]) -> None:
    done = subprocess.run(
        [find_tool("qemu-io"), "-f", kind, str(path)], input="\n".join(commands) + "\n", capture_output=True, text=True, check=False
    )
    said = [line for line in (done.stdout + done.stderr).replace("qemu-io> ", "").splitlines() if line.strip()]
    if done.returncode or said:
        raise GuestError(f"writing {path} failed: {'; '.join(said[:3])}", path=str(path))


class _Spool:
    """Pattern files for qemu-io, one for each write."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="rwb-write-")
        self._count = 0

    def add(self, content: bytes) -> Path:
        path = Path(self._directory.name) / str(self._count)
        path.write_bytes(content)
        self._count += 1
        return path

    def clear(self) -> None:
        for path in Path(self._directory.name).iterdir():
            path.unlink()

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._directory.cleanup()
