"""Clones: copies of a guest at a moment, beside it, cut off from the outside.

A clone has its own name, UUID, sockets and disk overlays; its network cards are there with their link down. It lives in
a directory of its own under the case (`clones/ID`), so that any process can list and remove it; only its sockets lie in
`/tmp/rwb-ID`, since the kernel allows a socket's path 107 bytes and a case may lie deep. Preconditions: the moment's
content is readable. On success the clone runs (or stands, if asked). On failure nothing of it is left.
Refuses to touch the guest.
"""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

from workbench.capture.session import XML
from workbench.errors import GuestError, GuestGoneError, GuestNotFoundError, UnsupportedError, UsageError
from workbench.guest import virt
from workbench.guest.connection import Guest, Hypervisor, translate
from workbench.guest.lend import lend, qemu_user
from workbench.guest.steps import pause
from workbench.model import CaptureId, RegionKind
from workbench.progress import Progress, silent
from workbench.rewind.clone_plan import plan_clone
from workbench.rewind.clone_record import CloneRecord, clone_sockets, describe, find_clone, list_clones
from workbench.rewind.domain import clone_owner, clone_xml
from workbench.rewind.identity import Change, Clock, Identity, carry_out, with_macs
from workbench.rewind.images import content_image, overlay
from workbench.rewind.mapped import mapped_memory
from workbench.rewind.mapped_kernel import read_kernel
from workbench.rewind.mapped_xml import main_memory, with_mapping
from workbench.rewind.network import Links, Network, connect, set_links
from workbench.rewind.network_segment import Keeper, Segment
from workbench.rewind.network_xml import with_segment
from workbench.rewind.start import resume, start_moment
from workbench.rewind.thawing import NOT_YET, comes_up_frozen, thaw_moment
from workbench.store import CaptureView, CaseStore

__all__ = ["CloneRecord", "find_clone", "list_clones", "remove_clone", "start_clone"]

_NO_MAPPING: set[str] = set()
"""Connections on which mapping failed and writing did not, so that not every clone is started twice."""


def start_clone(
    hypervisor: Hypervisor,
    store: CaseStore,
    capture: CaptureId,
    *,
    name: str | None = None,
    network: bool | Network = "none",
    segment: str | None = None,
    identity: Identity | Literal["new"] | None = None,
    clock: Clock = "kept",
    run: bool = True,
    progress: Progress = silent,
) -> CloneRecord:
    """Start a clone of the moment `capture`.

    Parameters
    ----------
    name : str, optional
        The domain's name; by default the guest's with the first digits of the capture and of the clone's UUID.
    network : {"none", "as-guest", "shared"} or bool
        Cut off (or False); left as the guest has it (or True): two machines with one address, ask for it only if that
        is meant; or on a private segment with other clones.
    segment : str, optional
        The segment's name, for "shared"; "shared" by default.
    identity : Identity or "new", optional
        What is to be another than the guest's; memory's truth is kept by default.
    clock : {"kept", "now"}
        The guest's clock goes on from the moment, or is set to the present.
    run : bool
        Let it run at once. A clone with a new identity or clock has run for as long as it took to change them.

    Raises
    ------
    UsageError
        If it cannot be meant; nothing was started.
    GuestError, UnsupportedError, StoreError
        Nothing of the clone is left.
    """
    began = time.monotonic()
    view = store.view(capture)
    plan = plan_clone(view, network=network, segment=segment, identity=identity, clock=clock)
    record = _planned(hypervisor, store, view, name)
    frozen = NOT_YET if comes_up_frozen(view.record) else ""  # what holds should we be killed before it is thawed
    record = replace(record, network=plan.network, segment=plan.segment, clock=clock, thaw=frozen)
    Path(record.sockets).mkdir(mode=0o711)  # an error where somebody made it before us
    with _no_files_on_error(record), _segment(hypervisor, store, record, view) as keeper:
        disks = _make_disks(store, view, Path(record.directory))
        # Written before there is a domain: should we be killed, whoever looks finds the clone and can remove it.
        describe(record)
        xml = with_macs(_xml(hypervisor, store, view, record, disks), plan.change.macs)
        if keeper is not None:
            xml = with_segment(xml, keeper.net)
        guest, memory = _start(hypervisor, store, view, xml, progress)
        with _destroy_on_error(guest):
            links = connect(guest, plan.network, keeper)
            if plan.change or run:
                told, thawed = _run(guest, view, plan.change, links, _addresses(store, record.segment))
            else:
                told, thawed = {}, frozen
            if not run and plan.change:
                pause(guest)
            record = replace(record, seconds=time.monotonic() - began, memory=memory, identity=told, thaw=thawed)
            describe(record)
    return record


def _run(
    guest: Guest, view: CaptureView, change: Change, links: Links, taken: Collection[str]
) -> tuple[dict[str, str], str]:
    """Let it run, with its links down until it is who it shall be; return that, and whether it was thawed."""
    if change:
        set_links(guest, links, up=False)
    resume(guest)
    thawed = thaw_moment(guest, view.record)
    if not change:
        return {}, thawed
    told = carry_out(guest, change, taken)
    set_links(guest, links, up=True)
    return told, thawed


def _addresses(store: CaseStore, segment: str) -> list[str]:
    """Return the addresses that clones on a segment were given."""
    there = [clone for clone in list_clones(store) if segment and clone.segment == segment]
    return [clone.identity["address"] for clone in there if "address" in clone.identity]


@contextlib.contextmanager
def _segment(
    hypervisor: Hypervisor, store: CaseStore, record: CloneRecord, view: CaptureView
) -> Iterator[Keeper | None]:
    if not record.segment:
        yield None
        return
    kind = ET.fromstring(view.region(XML).open().read().decode()).get("type", "qemu")
    with Segment(store.path, record.segment).kept({qemu_user(hypervisor, kind)[0]}) as keeper:
        yield keeper


def _planned(hypervisor: Hypervisor, store: CaseStore, view: CaptureView, name: str | None) -> CloneRecord:
    identity = str(uuid.uuid4())
    return CloneRecord(
        name or _name(store, view, identity),
        identity,
        hypervisor.uri,
        view.record.id,
        str(store.path.resolve() / "clones" / identity),
        str(clone_sockets(identity)),
        time.time_ns(),
        seconds=0.0,
    )


@contextlib.contextmanager
def _no_files_on_error(record: CloneRecord) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(record.directory, ignore_errors=True)
        shutil.rmtree(record.sockets, ignore_errors=True)
        raise


def _xml(
    hypervisor: Hypervisor,
    store: CaseStore,
    view: CaptureView,
    record: CloneRecord,
    disks: Mapping[str, Path],
) -> str:
    return clone_xml(
        view.region(XML).open().read().decode(),
        name=record.name,
        uuid=record.uuid,
        directory=Path(record.directory),
        sockets=Path(record.sockets),
        disks=disks,
        network=record.network == "as-guest",
        case=store.id,
        emulators=hypervisor.emulators(),
    )


def _start(
    hypervisor: Hypervisor, store: CaseStore, view: CaptureView, xml: str, progress: Progress
) -> tuple[Guest, str]:
    """Start it with its memory mapped, or written where something does not allow that; return which."""
    block = main_memory(xml, view) if hypervisor.uri not in _NO_MAPPING else None
    if block is not None:
        # Nobody can say beforehand what stands in the way (AppArmor, another QEMU, rights): it is tried.
        with contextlib.suppress(GuestError, UnsupportedError, OSError):
            return _start_mapped(hypervisor, store, view, xml, block, progress), "mapped"
    guest = start_moment(hypervisor, xml, view, progress=progress)
    if block is not None:
        _NO_MAPPING.add(hypervisor.uri)
    return guest, "written"


def _start_mapped(
    hypervisor: Hypervisor, store: CaseStore, view: CaptureView, xml: str, block: str, progress: Progress
) -> Guest:
    user = qemu_user(hypervisor, ET.fromstring(xml).get("type", "qemu"))
    others = [clone.uuid for clone in list_clones(store) if clone.uri == hypervisor.uri]
    with (
        mapped_memory(view, block, store.path / "clones", others, user, read_kernel(xml)) as mapped,
        lend(mapped.descriptor, user) as path,
    ):
        mapping = with_mapping(xml, block, path, mapped.size)
        return start_moment(hypervisor, mapping, view, mapped=mapped, progress=progress)


@contextlib.contextmanager
def _destroy_on_error(guest: Guest) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(virt.libvirtError):
            guest.domain.destroy()
        raise


def _name(store: CaseStore, view: CaptureView, identity: str) -> str:
    """Return a name that several clones of one moment, started at once, do not share."""
    guest = next((each.name for each in store.guests() if each.id == view.record.guest), "guest")
    return f"{guest}-clone-{view.record.id[:8]}-{identity[:4]}"


def _make_disks(store: CaseStore, view: CaptureView, directory: Path) -> dict[str, Path]:
    directory.mkdir(mode=0o711, parents=True)
    # libvirt gives the files to QEMU's user, who only has to find its way to them.
    directory.chmod(0o711)
    overlays = {}
    for number, region in enumerate(view.record.regions):
        if region.spec.kind is RegionKind.DISK:
            image = content_image(store.path / "cache", view, region.spec.name)
            path = directory / f"disk{number}.qcow2"
            overlay(image, path)
            overlays[region.spec.name.removeprefix("disk:")] = path
    return overlays


def remove_clone(hypervisor: Hypervisor, store: CaseStore, clone: CloneRecord) -> None:
    """Destroy a clone and its files; a domain that does not say of itself that it is this case's clone is left alone.

    Raises
    ------
    UsageError
        If the domain of that UUID is not one, or the clone was started on another connection, where it may run; nothing
        was done.
    GuestError
        If libvirt does not end it: its files are still there.
    """
    _end(hypervisor, store, clone)
    shutil.rmtree(clone.sockets, ignore_errors=True)
    shutil.rmtree(store.path / "clones" / clone.uuid)


def _end(hypervisor: Hypervisor, store: CaseStore, clone: CloneRecord) -> None:
    try:
        guest = hypervisor.guest(clone.uuid)
        if clone_owner(guest.xml()) != store.id:
            raise UsageError("a domain has the clone's UUID and is none", name=guest.name, uuid=clone.uuid)
        with translate(f"ending the clone {clone.name}"):
            guest.domain.destroy()
    except (GuestNotFoundError, GuestGoneError):
        # A stranger's case may name any connection, so the one that it names is never opened here.
        if clone.uri != hypervisor.uri:
            raise UsageError(
                f"the clone {clone.name} was started on another connection and may run there",
                expected=clone.uri,
                found=hypervisor.uri,
                cure="Open the case with that connection (--connect), or remove the clone's directory",
            ) from None
