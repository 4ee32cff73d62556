"""The XML of a copy: another name and UUID, other files and sockets, no way to the outside.

Works on the migratable XML that a capture holds, which may come from a stranger: only kinds of devices that are known
are let through, paths that a clone would write to are replaced by paths of ours, and programs, raw QEMU arguments and
files that libvirt would not have chosen itself are refused. Refuses guests with host devices or shared folders, whose
state lies outside any capture.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from workbench.errors import UnsupportedError
from workbench.rewind.own_xml import drop_ours

__all__ = ["CLONE_NAMESPACE", "clone_owner", "clone_xml", "same_xml"]

CLONE_NAMESPACE = "https://rewind-workbench.invalid/clone"
"""Namespace of the element in <metadata> by which a domain is known to be a clone of a case."""

_OUTSIDE = ("hostdev", "filesystem", "redirdev", "tpm", "shmem", "vsock", "smartcard", "crypto", "pstore", "nvram")
_INSIDE = {
    *("emulator", "disk", "controller", "serial", "parallel", "console", "channel", "input", "graphics", "sound"),
    *("audio", "video", "interface", "memballoon", "rng", "watchdog", "panic", "memory", "iommu", "hub"),
}
"""Devices whose whole state a capture holds, or that have none."""
_NETWORKS = ("user", "network", "bridge", "direct", "ethernet")
"""Interfaces that a clone may have as its guest had them."""


def clone_xml(
    xml: str,
    *,
    name: str,
    uuid: str,
    directory: Path,
    sockets: Path,
    disks: Mapping[str, Path],
    network: bool = False,
    case: str = "",
    emulators: Collection[str] = (),
) -> str:
    """Return the XML of a clone.

    Parameters
    ----------
    xml : str
        Migratable XML of the capture.
    directory, sockets : Path
        Where the clone's logs and its sockets go.
    disks : mapping of str to Path
        A qcow2 overlay for each writable disk, by target (`vda`).
    network : bool
        Leave the interfaces as they are. Otherwise each becomes a user-mode one with its link down; the card, its
        MAC and its PCI address stay, since the guest's memory knows them.
    case : str
        The case that the clone belongs to, written into its metadata.
    emulators : collection of str
        Programs that libvirt itself would start.

    Raises
    ------
    UnsupportedError
        If the guest has a device whose state a capture does not hold.
    """
    root = ET.fromstring(xml)
    if root.find("devices") is None:
        raise UnsupportedError(
            "the moment is of no guest of libvirt's", cure="Go on from the recording that it is of, by its end."
        )
    drop_ours(root)
    _refuse_outside(root)
    _refuse_strange(root, emulators)
    _set_text(root, "name", name)
    _set_text(root, "uuid", uuid)
    _name_owner(root, case)
    _point_disks(root, disks)
    _move_channels(root, directory, sockets)
    _quiet_devices(root)
    if network:
        _refuse_strange_network(root)
    else:
        _cut_network(root)
    return ET.tostring(root, encoding="unicode")


def same_xml(xml: str, present: str) -> str:
    """Return the XML by which the guest itself is started again from a capture of it.

    Parameters
    ----------
    xml : str
        Migratable XML of the moment.
    present : str
        The same of the present: a disk that both have keeps the image that it has now.

    Raises
    ------
    UnsupportedError
        If the guest has a device whose state a capture does not hold.
    """
    root = ET.fromstring(xml)
    drop_ours(root)  # of a clone that is itself rewound
    _refuse_outside(root)
    now = {_target(disk): disk for disk in ET.fromstring(present).iterfind("./devices/disk")}
    for disk in root.iterfind("./devices/disk"):
        today = now.get(_target(disk))
        if today is not None and disk.find("readonly") is None:
            _take_image(disk, today)
    return ET.tostring(root, encoding="unicode")


def clone_owner(xml: str) -> str | None:
    """Return the case of which a domain is a clone, from its XML; None if it is no clone of any."""
    element = ET.fromstring(xml).find(f"./metadata/{{{CLONE_NAMESPACE}}}clone")
    return None if element is None else element.get("case")


def _refuse_outside(root: ET.Element) -> None:
    for kind in _OUTSIDE:
        if root.find(f"./devices/{kind}") is not None:
            raise UnsupportedError(
                f"the guest has a <{kind}> device, whose state no capture holds", cure="Detach it before the capture"
            )
    for interface in root.iterfind("./devices/interface"):
        if interface.get("type") == "hostdev":
            raise UnsupportedError("a network card is a host device, whose state no capture holds")
    if root.find("./os/nvram") is not None:
        raise UnsupportedError("the guest has UEFI variables in a file, which no capture holds")


def _refuse_strange(root: ET.Element, emulators: Collection[str]) -> None:
    """Refuse what an ordinary guest has not and a case of a stranger might: it would run with libvirt's rights."""
    for element in root:
        if element.tag.startswith("{"):
            raise UnsupportedError(f"the captured XML has raw arguments for QEMU ({element.tag.rpartition('}')[2]})")
    for device in root.iterfind("./devices/*"):
        if device.tag not in _INSIDE:
            raise UnsupportedError(f"the guest has a <{device.tag}> device, which no clone is known to get right")
        if device.tag == "memory" and device.get("model") != "dimm":
            raise UnsupportedError("the guest has memory that lies in a file of the host", model=device.get("model"))
        if device.tag == "rng" and device.find("backend[@model='egd']") is not None:
            raise UnsupportedError("the guest gets its random numbers from a program of the host")
    emulator = root.findtext("./devices/emulator")
    if emulator is not None and emulator not in emulators:
        raise UnsupportedError("the captured XML names a program that libvirt does not know", emulator=emulator)


def _refuse_strange_network(root: ET.Element) -> None:
    """Refuse what runs programs or opens files of the host, once the captured interfaces are to be used as they are."""
    for interface in root.iterfind("./devices/interface"):
        kind = interface.get("type", "")
        if kind not in _NETWORKS or any(
            interface.find(each) is not None for each in ("script", "downscript", "backend")
        ):
            raise UnsupportedError(
                "a network card reaches the host by more than a network", type=kind, cure="Clone it without network"
            )


def _set_text(root: ET.Element, tag: str, text: str) -> None:
    element = root.find(tag)
    if element is None:
        raise UnsupportedError(f"the captured XML has no <{tag}>")
    element.text = text


def _name_owner(root: ET.Element, case: str) -> None:
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(root, "metadata")
    for old in metadata.findall(f"{{{CLONE_NAMESPACE}}}clone"):
        metadata.remove(old)
    ET.SubElement(metadata, f"{{{CLONE_NAMESPACE}}}clone", {"case": case})


def _target(disk: ET.Element) -> str:
    target = disk.find("target")
    return target.get("dev", "") if target is not None else ""


def _take_image(disk: ET.Element, today: ET.Element) -> None:
    """Give `disk` the image of `today`, with whatever says how to open it."""
    for tag in ("source", "backingStore", "mirror", "encryption", "auth"):
        for element in disk.findall(tag):
            disk.remove(element)
        if tag != "mirror":
            disk.extend(today.findall(tag))
    disk.set("type", today.get("type", "file"))
    kind = today.find("driver")
    if kind is not None and kind.get("type"):
        _driver(disk).set("type", kind.get("type", ""))


def _driver(disk: ET.Element) -> ET.Element:
    driver = disk.find("driver")
    return ET.SubElement(disk, "driver", {"name": "qemu"}) if driver is None else driver


def _point_disks(root: ET.Element, disks: Mapping[str, Path]) -> None:
    for disk in root.iterfind("./devices/disk"):
        overlay = disks.get(_target(disk))
        if overlay is not None:
            _point_disk(disk, overlay)
            continue
        if disk.find("readonly") is None and disk.get("device", "disk") not in ("cdrom", "floppy"):
            raise UnsupportedError("the captured XML has a disk that the capture does not hold", disk=_target(disk))
        if disk.find("readonly") is None:  # a floppy of the guest's; a clone may read it
            ET.SubElement(disk, "readonly")


def _point_disk(disk: ET.Element, overlay: Path) -> None:
    if disk.get("device", "disk") != "disk":
        raise UnsupportedError("a raw SCSI device cannot be cloned", disk=_target(disk))
    # A <backingStore/> left there would have libvirt open the overlay without what lies under it: it reads as zeros.
    for tag in ("source", "backingStore", "mirror", "encryption", "auth", "transient"):
        for element in disk.findall(tag):
            disk.remove(element)
    disk.set("type", "file")
    ET.SubElement(disk, "source", {"file": str(overlay)})
    driver = _driver(disk)
    driver.set("type", "qcow2")
    if driver.get("cache") in ("none", "directsync") or driver.get("io") in ("native", "io_uring"):
        driver.set("cache", "writeback")
        driver.attrib.pop("io", None)


def _move_channels(root: ET.Element, directory: Path, sockets: Path) -> None:
    """Give every character device of the clone its own end: same front end, other path; nothing reaches out."""
    taken: set[str] = set()

    def ours(place: Path, name: str, number: int) -> str:
        free = name if name and name not in taken else f"{number}-{name}"
        taken.add(free)
        return str(place / free)

    for number, device in enumerate(root.iterfind("./devices/*")):
        if device.tag not in ("serial", "console", "channel", "parallel"):
            continue
        log = device.find("log")
        if log is not None:
            log.set("file", ours(directory, f"{device.tag}.log", number))
        source = device.find("source")
        if device.get("type") == "unix" and source is not None and source.get("path"):
            source.set("path", ours(sockets, Path(source.get("path", "")).name, number))
            source.set("mode", "bind")
        elif device.get("type") not in ("pty", "unix", "null", "spicevmc", "vc"):
            device.set("type", "unix")
            for element in (*device.findall("source"), *device.findall("protocol")):
                device.remove(element)
            ET.SubElement(device, "source", {"mode": "bind", "path": ours(sockets, f"char{number}.sock", number)})


def _quiet_devices(root: ET.Element) -> None:
    """Keep screens on loopback at a free port, and sound to nobody."""
    devices = root.find("devices")
    assert devices is not None
    for graphics in devices.findall("graphics"):
        if graphics.get("type") in ("vnc", "spice"):
            _free_graphics(graphics)
        elif graphics.get("type") != "egl-headless":
            devices.remove(graphics)
    for audio in devices.findall("audio"):
        identity = audio.get("id", "1")
        audio.clear()
        audio.attrib.update({"id": identity, "type": "none"})


def _cut_network(root: ET.Element) -> None:
    for interface in root.iterfind("./devices/interface"):
        kept = {"mac", "model", "address", "alias", "driver", "rom", "boot", "mtu"}
        for element in list(interface):
            if element.tag not in kept:
                interface.remove(element)
        driver = interface.find("driver")
        if driver is not None:  # vhost and its queues belong to the tap that is gone
            for attribute in ("name", "queues", "txmode"):
                driver.attrib.pop(attribute, None)
        interface.attrib.clear()
        interface.set("type", "user")
        ET.SubElement(interface, "link", {"state": "down"})


def _free_graphics(graphics: ET.Element) -> None:
    """Let libvirt choose a free port, on loopback only."""
    for attribute in ("port", "tlsPort", "websocket", "socket"):
        graphics.attrib.pop(attribute, None)
    graphics.set("autoport", "yes")
    graphics.set("listen", "127.0.0.1")
    for listen in graphics.findall("listen"):
        graphics.remove(listen)
