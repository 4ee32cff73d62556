"""Clones: copies of a guest at a moment, beside it, cut off from the outside.

A clone has its own name, UUID, sockets and disk overlays; its network cards are there with their link down. It lives in
a directory of its own under the case (`clones/ID`), so that any process can list and remove it; only its sockets lie in
`/tmp/rwb-ID`, since the kernel allows a socket's path 107 bytes and a case may lie deep. Preconditions: the moment's
content is readable. On success the clone runs (or stands, if asked). On failure nothing of it is left.
Refuses to touch the guest.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from xml.etree import ElementTree as ET

from workbench.capture.session import XML
from workbench.errors import GuestError, GuestGoneError, GuestNotFoundError, UnsupportedError, UsageError
from workbench.guest import virt
from workbench.guest.connection import Guest, Hypervisor, translate
from workbench.guest.lend import lend, qemu_user
from workbench.model import CaptureId, RegionKind
from workbench.progress import Progress, silent
from workbench.rewind.domain import clone_owner, clone_xml, interface_aliases
from workbench.rewind.images import content_image, overlay
from workbench.rewind.mapped import mapped_memory
from workbench.rewind.mapped_xml import main_memory, with_mapping
from workbench.rewind.start import resume, start_moment
from workbench.rewind.thawing import NOT_YET, comes_up_frozen, thaw_moment
from workbench.store import CaptureView, CaseStore

__all__ = ["CloneRecord", "list_clones", "remove_clone", "start_clone"]

_RECORD = "clone.json"
_NO_MAPPING: set[str] = set()
"""Connections on which mapping failed and writing did not, so that not every clone is started twice."""


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
        Its overlays and logs.
    sockets : str
        Its sockets, by the names that the guest's have.
    started_ns : int
    seconds : float
        From the call to running.
    memory : str
        "mapped": its main memory is a file that all clones of the moment share until they write; "written": its own.
    thaw : str
        Of a moment with frozen file systems: "thawed", "frozen still: ..." and why, "not yet: ..." where it stands.
    """

    name: str
    uuid: str
    uri: str
    capture: CaptureId
    directory: str
    sockets: str
    started_ns: int
    seconds: float
    memory: str = "written"
    thaw: str = ""


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
        The domain's name; by default the guest's with the first digits of the capture and of the clone's UUID.
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
    record = _planned(hypervisor, store, view, name)
    Path(record.sockets).mkdir(mode=0o711)  # an error where somebody made it before us
    with _no_files_on_error(record):
        disks = _make_disks(store, view, Path(record.directory))
        # Written before there is a domain: should we be killed, whoever looks finds the clone and can remove it.
        _describe(record)
        xml = _xml(hypervisor, store, view, record, disks, network=network)
        guest, memory = _start(hypervisor, store, view, xml, progress)
        with _destroy_on_error(guest):
            if not network:
                _links_down(guest)
            thawed = NOT_YET if comes_up_frozen(view.record) else ""
            if run:
                resume(guest)
                thawed = thaw_moment(guest, view.record)
            record = replace(record, seconds=time.monotonic() - began, memory=memory, thaw=thawed)
            _describe(record)
    return record


def _planned(hypervisor: Hypervisor, store: CaseStore, view: CaptureView, name: str | None) -> CloneRecord:
    identity = str(uuid.uuid4())
    return CloneRecord(
        name or _name(store, view, identity),
        identity,
        hypervisor.uri,
        view.record.id,
        str(store.path.resolve() / "clones" / identity),
        str(_sockets(identity)),
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
    *,
    network: bool,
) -> str:
    return clone_xml(
        view.region(XML).open().read().decode(),
        name=record.name,
        uuid=record.uuid,
        directory=Path(record.directory),
        sockets=Path(record.sockets),
        disks=disks,
        network=network,
        case=store.id,
        emulators=_emulators(hypervisor),
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
        mapped_memory(view, block, store.path / "clones", others, user) as mapped,
        lend(mapped.descriptor, user) as path,
    ):
        mapping = with_mapping(xml, block, path, mapped.size)
        return start_moment(hypervisor, mapping, view, mapped=mapped, progress=progress)


def _sockets(identity: str) -> Path:
    return Path("/tmp") / f"rwb-{identity}"  # a UUID of ours, and made exclusively


def _describe(record: CloneRecord) -> None:
    (Path(record.directory) / _RECORD).write_text(json.dumps(asdict(record)))


def _links_down(guest: Guest) -> None:
    """Cut the network for good: loading a card's state set its link as the guest had it, whatever the XML says."""
    for alias in interface_aliases(guest.xml()):
        for end in (f"host{alias}", alias):
            guest.monitor.execute("set_link", name=end, up=False)


def _emulators(hypervisor: Hypervisor) -> set[str]:
    with translate("asking which QEMUs there are"):
        found = ET.fromstring(hypervisor.connection.getCapabilities()).iterfind("./guest/arch//emulator")
        return {each.text for each in found if each.text}


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


def list_clones(store: CaseStore) -> list[CloneRecord]:
    """Return the clones of a case, oldest first; a directory without a description is one that never came up."""
    found = []
    for path in (store.path / "clones").glob(f"*/{_RECORD}"):
        with contextlib.suppress(ValueError, TypeError, OSError):
            found.append(_read(path))
    return sorted(found, key=lambda clone: clone.started_ns)


def _read(path: Path) -> CloneRecord:
    """Read a description that a stranger may have written: what it says must fit where it lies."""
    told = json.loads(path.read_text())
    record = CloneRecord(
        str(told["name"]),
        str(uuid.UUID(path.parent.name)),
        str(told["uri"]),
        CaptureId(str(told["capture"])),
        str(path.parent),
        str(_sockets(path.parent.name)),
        int(told["started_ns"]),
        float(told["seconds"]),
        "mapped" if told.get("memory") == "mapped" else "written",
        str(told.get("thaw", ""))[:500],
    )
    if told["uuid"] != record.uuid:
        raise ValueError("the description is another clone's")
    return record


def remove_clone(hypervisor: Hypervisor, store: CaseStore, name: str) -> CloneRecord:
    """Destroy a clone and its files; a domain that does not say of itself that it is this case's clone is left alone.

    Raises
    ------
    UsageError
        If the case has no clone of that name or UUID, or the domain of that UUID is not one; nothing was done.
    GuestError
        If libvirt does not end it: its files are still there.
    """
    for clone in list_clones(store):
        if name in (clone.name, clone.uuid):
            _end(hypervisor, store, clone)
            shutil.rmtree(clone.sockets, ignore_errors=True)
            shutil.rmtree(store.path / "clones" / clone.uuid)
            return clone
    known = ", ".join(each.name for each in list_clones(store)) or "none"
    raise UsageError(f"no clone {name!r} in this case", known=known)


def _end(hypervisor: Hypervisor, store: CaseStore, clone: CloneRecord) -> None:
    try:
        guest = hypervisor.guest(clone.uuid)
        if clone_owner(guest.xml()) != store.id:
            raise UsageError("a domain has the clone's UUID and is none", name=guest.name, uuid=clone.uuid)
        with translate(f"ending the clone {clone.name}"):
            guest.domain.destroy()
    except (GuestNotFoundError, GuestGoneError):
        return
