"""The XML of a copy: another name and UUID, other files and sockets, no way to the outside.

Works on the migratable XML that a capture holds. Guest-made text never becomes a host path: only paths that libvirt
itself put into the XML are replaced, by paths of ours. Refuses guests with host devices or shared folders, whose state
lies outside any capture.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from workbench.errors import UnsupportedError

__all__ = ["clone_xml", "same_xml"]

_OUTSIDE = ("hostdev", "filesystem", "redirdev", "tpm", "shmem", "vsock")


def clone_xml(
    xml: str, *, name: str, uuid: str, directory: Path, disks: Mapping[str, Path], network: bool = False
) -> str:
    """Return the XML of a clone.

    Parameters
    ----------
    xml : str
        Migratable XML of the capture.
    directory : Path
        Where the clone's sockets and logs go.
    disks : mapping of str to Path
        A qcow2 overlay for each writable disk, by target (`vda`).
    network : bool
        Leave the interfaces as they are. Otherwise each becomes a user-mode one with its link down; the card, its
        MAC and its PCI address stay, since the guest's memory knows them.

    Raises
    ------
    UnsupportedError
        If the guest has a device whose state a capture does not hold.
    """
    root = ET.fromstring(xml)
    _refuse_outside(root)
    _set_text(root, "name", name)
    _set_text(root, "uuid", uuid)
    _point_disks(root, disks)
    _move_channels(root, directory)
    if not network:
        _cut_network(root)
    for graphics in root.iterfind("./devices/graphics"):
        _free_graphics(graphics)
    return ET.tostring(root, encoding="unicode")


def same_xml(xml: str) -> str:
    """Return the XML by which the guest itself is started again from a capture of it."""
    root = ET.fromstring(xml)
    _refuse_outside(root)
    return ET.tostring(root, encoding="unicode")


def _refuse_outside(root: ET.Element) -> None:
    for kind in _OUTSIDE:
        if root.find(f"./devices/{kind}") is not None:
            raise UnsupportedError(
                f"the guest has a <{kind}> device, whose state no capture holds", cure="Detach it before the capture"
            )


def _set_text(root: ET.Element, tag: str, text: str) -> None:
    element = root.find(tag)
    if element is None:
        raise UnsupportedError(f"the captured XML has no <{tag}>")
    element.text = text


def _point_disks(root: ET.Element, disks: Mapping[str, Path]) -> None:
    for disk in root.iterfind("./devices/disk"):
        target = disk.find("target")
        overlay = disks.get(target.get("dev", "")) if target is not None else None
        if overlay is None:
            if disk.find("readonly") is None and disk.get("device", "disk") == "disk":
                raise UnsupportedError(
                    "the captured XML has a disk that the capture does not hold", disk=disk.get("type")
                )
            continue
        for tag in ("source", "backingStore", "mirror"):
            for element in disk.findall(tag):
                disk.remove(element)
        disk.set("type", "file")
        # Position matters to no reader; libvirt wants <driver> to say qcow2 whatever the original was.
        ET.SubElement(disk, "source", {"file": str(overlay)})
        driver = disk.find("driver")
        if driver is None:
            driver = ET.SubElement(disk, "driver", {"name": "qemu"})
        driver.set("type", "qcow2")
        if driver.get("cache") in ("none", "directsync") or driver.get("io") in ("native", "io_uring"):
            driver.set("cache", "writeback")
            driver.attrib.pop("io", None)


def _move_channels(root: ET.Element, directory: Path) -> None:
    """Give every character device of the clone its own end: same front end, other path; nothing reaches out."""
    for number, device in enumerate(root.iterfind("./devices/*")):
        if device.tag not in ("serial", "console", "channel", "parallel"):
            continue
        log = device.find("log")
        if log is not None:
            log.set("file", str(directory / f"{device.tag}.log"))
        source = device.find("source")
        if device.get("type") == "unix" and source is not None and source.get("path"):
            source.set("path", str(directory / Path(source.get("path", "")).name))
            source.set("mode", "bind")
        elif device.get("type") not in ("pty", "unix", "null", "spicevmc", "vc"):
            device.set("type", "unix")
            if source is not None:
                device.remove(source)
            ET.SubElement(device, "source", {"mode": "bind", "path": str(directory / f"char{number}.sock")})


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
    if graphics.get("type") not in ("vnc", "spice"):
        return
    for attribute in ("port", "tlsPort", "websocket", "socket"):
        graphics.attrib.pop(attribute, None)
    graphics.set("autoport", "yes")
    graphics.set("listen", "127.0.0.1")
    for listen in graphics.findall("listen"):
        graphics.remove(listen)
