"""What a clone's XML says about a segment: its first card's back end is a stream to the hub.

libvirt has no interface with a unix stream behind it, so the card keeps the cut-off interface of `clone_xml`, and QEMU
is told another back end for it (`<qemu:override>`, libvirt 8.2). Refuses to put further cards on it: two cards of one
guest on one wire answer for each other.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from workbench.errors import UnsupportedError
from workbench.guest.monitor import PREFIX
from workbench.rewind.own_xml import add_arguments, point_netdev

__all__ = ["NETDEV", "with_segment"]

NETDEV = f"{PREFIX}segment"
"""The back end of the card that is on the segment."""


def with_segment(xml: str, hub: Path) -> str:
    """Return the XML of a cut-off clone with its first card on the hub that listens at `hub`.

    Raises
    ------
    UnsupportedError
        If it has no card.
    """
    root = ET.fromstring(xml)
    card = root.find("./devices/interface")
    if card is None:
        raise UnsupportedError("the guest had no network card at that moment", cure="Clone it without a segment")
    alias = card.find("alias")
    add_arguments(root, ["-netdev", f"stream,id={NETDEV},server=off,addr.type=unix,addr.path={hub}"])
    # libvirt names cards without a name of the user's by their order.
    point_netdev(root, "net0" if alias is None else alias.get("name", "net0"), NETDEV)
    return ET.tostring(root, encoding="unicode")
