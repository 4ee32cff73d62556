"""QEMU arguments that we add to a clone's XML for what libvirt has no words for, and how they are taken out again.

A capture of a clone holds them, in one `<qemu:commandline>` as libvirt gives it back. Refuses to take out anything
that is not word for word of a shape of ours: what stays is refused as a stranger's.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from workbench.guest.monitor import PREFIX
from workbench.guest.mtree import MAPPED

__all__ = ["add_arguments", "drop_ours", "point_netdev"]

_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
_COMMANDLINE, _ARG, _OVERRIDE = (f"{{{_QEMU}}}{each}" for each in ("commandline", "arg", "override"))
_OURS = (
    ("-object", f"memory-backend-file,id={MAPPED}"),
    ("-machine", f"memory-backend={MAPPED}"),
    ("-netdev", f"stream,id={PREFIX}"),
)
"""Options with how their values begin."""

ET.register_namespace("qemu", _QEMU)


def add_arguments(root: ET.Element, words: Sequence[str]) -> None:
    """Have QEMU started with further arguments, after those that are there."""
    commandline = root.find(_COMMANDLINE)
    if commandline is None:
        commandline = ET.SubElement(root, _COMMANDLINE)
    for word in words:
        ET.SubElement(commandline, _ARG, {"value": word})


def point_netdev(root: ET.Element, alias: str, netdev: str) -> None:
    """Give the card `alias` the back end `netdev` instead of libvirt's (libvirt 8.2 and later)."""
    device = ET.SubElement(ET.SubElement(root, _OVERRIDE), f"{{{_QEMU}}}device", {"alias": alias})
    words = {"name": "netdev", "type": "string", "value": netdev}
    ET.SubElement(ET.SubElement(device, f"{{{_QEMU}}}frontend"), f"{{{_QEMU}}}property", words)


def drop_ours(root: ET.Element) -> None:
    """Take out what these functions put in; whatever else is there stays, to be refused."""
    for commandline in root.findall(_COMMANDLINE):
        words = [argument.get("value", "") for argument in commandline]
        pairs = list(zip(words[0::2], words[1::2], strict=False))
        ours = all(any(name == of and value.startswith(start) for of, start in _OURS) for name, value in pairs)
        if pairs and ours and len(words) % 2 == 0:
            root.remove(commandline)
    for override in root.findall(_OVERRIDE):
        values = [each.attrib for each in override.iter(f"{{{_QEMU}}}property")]
        if values and all(each.get("name") == "netdev" and each.get("value", "").startswith(PREFIX) for each in values):
            root.remove(override)
