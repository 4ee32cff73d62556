"""Clones: copies of a guest at a moment, beside it, cut off from the outside.

A clone has its own name, UUID, sockets and disk overlays; its network cards are there with their link down. It lives in
a directory of its own under the case (`clones/ID`), which holds all that it is, so that any process can list and remove
it. Preconditions: the moment's content is readable. On success the clone runs (or stands, if asked). On failure nothing
of it is left. Refuses to touch the guest.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import libvirt

from workbench.capture.session import XML
from workbench.errors import GuestNotFoundError, UsageError, WorkbenchError
from workbench.guest.connection import Guest, Hypervisor
from workbench.model import CaptureId, RegionKind
from workbench.progress import Progress, silent
from workbench.rewind.domain import clone_xml
from workbench.rewind.images import content_image, overlay
from workbench.rewind.start import resume, start_moment
from workbench.store import CaptureView, CaseStore

__all__ = ["CloneRecord", "list_clones", "remove_clone", "start_clone"]


@dataclass(frozen=True, slots=True)
class CloneRecord:
    """A clone as its directory describes it.

    Attributes
    ----------
    name, uuid, uri : str
        The domain and where it runs.
    capture : CaptureId
        The moment it started from.
    directory : str
        Its overlays, sockets and logs.
    started_ns : int
    seconds : float
        From the call to running.
    """

    name: str
    uuid: str
    uri: str
    capture: CaptureId
    directory: str
    started_ns: int
    seconds: float


def start_clone(
    hypervisor: Hypervisor,
    store: CaseStore,
    capture: CaptureId,
    *,
    name: str | None = None,
    network: bool = False,
    run: bool = True,
    progress: Progress = silent,
) -> CloneRecord:
    """Start a clone of the moment `capture`.

    Parameters
    ----------
    name : str, optional
        The domain's name; by default the guest's with the capture's first digits and a number.
    network : bool
        Leave the network as the guest has it. Two machines with one address: ask for it only if that is meant.
    run : bool
        Let it run at once.

    Raises
    ------
    GuestError, UnsupportedError, StoreError
        Nothing of the clone is left.
    """
    began = time.monotonic()
    view = store.view(capture)
    identity = str(uuid.uuid4())
    directory = store.path / "clones" / identity
    title = name or _free_name(hypervisor, store, view)
    try:
        disks = _make_disks(store, view, directory)
        xml = clone_xml(
            view.region(XML).open().read().decode(),
            name=title,
            uuid=identity,
            directory=directory,
            disks=disks,
            network=network,
        )
        guest = start_moment(hypervisor, xml, view, progress=progress)
        with _destroy_on_error(guest):
            if run:
                resume(guest)
            record = CloneRecord(
                title, identity, hypervisor.uri, capture, str(directory), time.time_ns(), time.monotonic() - began
            )
            (directory / "clone.json").write_text(json.dumps(asdict(record)))
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return record


@contextlib.contextmanager
def _destroy_on_error(guest: Guest) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(libvirt.libvirtError):
            guest.domain.destroy()
        raise


def _free_name(hypervisor: Hypervisor, store: CaseStore, view: CaptureView) -> str:
    guest = next((each.name for each in store.guests() if each.id == view.record.guest), "guest")
    taken = {each.name for each in hypervisor.guests()}
    number = 1
    while (name := f"{guest}-clone-{view.record.id[:8]}-{number}") in taken:
        number += 1
    return name


def _make_disks(store: CaseStore, view: CaptureView, directory: Path) -> dict[str, Path]:
    directory.mkdir(mode=0o755, parents=True)
    # QEMU may run as another user, and must reach its sockets and overlays and nothing else of the case.
    directory.chmod(0o777)
    overlays = {}
    for number, region in enumerate(view.record.regions):
        if region.spec.kind is RegionKind.DISK:
            image = content_image(store.path / "cache", view, region.spec.name)
            path = directory / f"disk{number}.qcow2"
            overlay(image, path)
            overlays[region.spec.name.removeprefix("disk:")] = path
    return overlays


def list_clones(store: CaseStore) -> list[CloneRecord]:
    """Return the clones of a case, oldest first; a directory without a description is one that never came up."""
    found = []
    for path in (store.path / "clones").glob("*/clone.json"):
        with contextlib.suppress(ValueError, TypeError):
            found.append(CloneRecord(**json.loads(path.read_text())))
    return sorted(found, key=lambda clone: clone.started_ns)


def remove_clone(hypervisor: Hypervisor, store: CaseStore, name: str) -> CloneRecord:
    """Destroy a clone and its files.

    Raises
    ------
    UsageError
        If the case has no clone of that name or UUID; nothing else is ever destroyed by this.
    """
    for clone in list_clones(store):
        if name in (clone.name, clone.uuid):
            with contextlib.suppress(GuestNotFoundError, libvirt.libvirtError, WorkbenchError):
                hypervisor.guest(clone.uuid).domain.destroy()
            shutil.rmtree(store.path / "clones" / clone.uuid, ignore_errors=True)
            return clone
    known = ", ".join(each.name for each in list_clones(store)) or "none"
    raise UsageError(f"no clone {name!r} in this case", known=known)
