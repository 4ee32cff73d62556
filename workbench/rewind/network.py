"""How a clone is connected: not at all, as its guest was, or to the other clones of a segment.

"none" is real: once the devices are loaded, both ends of every link are set down and the back end is taken out of QEMU
(`netdev_del`). The card stays, since the guest's memory knows it, but nothing is behind it any more: whoever sets the
link up again, the guest's driver, its reboot or somebody at the monitor, sends into nothing. Refuses to trust the link
alone: loading a card's state sets it as the guest had it, and an e1000 that negotiates sets it up by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args
from xml.etree import ElementTree as ET

from workbench.errors import UsageError
from workbench.guest.connection import Guest
from workbench.rewind.domain import clone_owner
from workbench.rewind.network_segment import Keeper
from workbench.rewind.network_xml import NETDEV

__all__ = ["Links", "Network", "connect", "cut", "keep_down", "network_of", "set_links"]

Network = Literal["none", "as-guest", "shared"]
"""Cut off; as the guest's XML says; on a private segment with other clones, no host on it."""


Links = Sequence[tuple[str, str]]
"""Back end and card, by QEMU's names."""


def network_of(asked: bool | str, segment: str | None = None) -> Network:
    """Return what is meant: False is "none", True "as-guest".

    Raises
    ------
    UsageError
        If it is none of these, or a segment is named for a clone that shares none.
    """
    meant = asked if isinstance(asked, str) else "as-guest" if asked else "none"
    if segment is not None and meant != "shared":
        raise UsageError("a segment is for a shared network", network=meant, cure='Say network="shared".')
    for each in get_args(Network):
        if meant == each:
            return each  # type: ignore[no-any-return]
    raise UsageError(f"no network {asked!r}", known=", ".join(get_args(Network)), cure="Name one of these.")


def connect(guest: Guest, network: Network, keeper: Keeper | None) -> Links:
    """Give a started clone the network that was asked for, and return its links that are up.

    Preconditions: the clone stands, its devices are loaded; `keeper` is there where it shares a segment. On failure
    some card may be connected: let it not run.

    Raises
    ------
    GuestError
        If its QEMU is not on the segment, or does not do as it is told.
    """
    interfaces = ET.fromstring(guest.xml()).findall("./devices/interface")
    if network == "as-guest":
        return [_link(each) for each in interfaces if _is_up(each)]
    if keeper is None:
        cut(guest)
        return []
    first, *others = [_link(each) for each in interfaces]
    guest.monitor.execute("netdev_del", id=first[0])  # libvirt's own, which has no card
    _cut(guest, others)
    keeper.wait_for(guest.pid)
    return [(NETDEV, first[1])]


def cut(guest: Guest) -> None:
    """Take the network away from a guest's cards for good.

    Preconditions: the guest stands, so that no card is sending. On success the back ends are gone from its QEMU and
    the cards' links are down. On failure some may be connected: let it not run.

    Raises
    ------
    MonitorError
        If QEMU does not do it.
    """
    _cut(guest, [_link(each) for each in ET.fromstring(guest.xml()).iterfind("./devices/interface")])


def keep_down(guest: Guest) -> None:
    """Keep down what a guest's XML says is down, once its devices are loaded; a clone's network stays cut.

    Preconditions and failure as for `cut`.

    Raises
    ------
    MonitorError
    """
    xml = guest.xml()
    down = [_link(each) for each in ET.fromstring(xml).iterfind("./devices/interface") if not _is_up(each)]
    (_cut if clone_owner(xml) is not None else _set_down)(guest, down)


def set_links(guest: Guest, links: Links, *, up: bool) -> None:
    """Set both ends of links, the host's first where they go down.

    Raises
    ------
    MonitorError
    """
    for link in links:
        for end in link:
            guest.monitor.execute("set_link", name=end, up=up)


def _set_down(guest: Guest, links: Links) -> None:
    set_links(guest, links, up=False)


def _cut(guest: Guest, links: Links) -> None:
    _set_down(guest, links)
    for back_end, _card in links:
        # With a card at its other end QEMU closes the back end's sockets and keeps its husk, whose link stays down and
        # which no command finds any more (net/net.c, qemu_del_net_client).
        guest.monitor.execute("netdev_del", id=back_end)


def _link(interface: ET.Element) -> tuple[str, str]:
    alias = interface.find("alias")
    name = "" if alias is None else alias.get("name", "")
    return f"host{name}", name


def _is_up(interface: ET.Element) -> bool:
    return interface.find("link[@state='down']") is None
