"""Make a clone somebody else than its guest, on request: hostname, MAC, machine id, address, and the present's time.

By default a clone is what memory says, and isolated for that reason. A change is carried out in the clone by a shell
script, the first thing that runs in it by our wish, while its network is cut. What was changed is read back from the
clone and compared. Refuses guests without any way in, before anything is started; and to believe more than that: a
hostile guest may say that it has changed and not have.
"""

from __future__ import annotations

import ipaddress
import random
import re
import secrets
import shlex
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from xml.etree import ElementTree as ET

from workbench.errors import GuestError, UnsupportedError, UsageError
from workbench.guest.connection import Guest
from workbench.inside.login import Login
from workbench.inside.run import run_in

__all__ = ["Change", "Clock", "Identity", "carry_out", "plan_change", "told_identity", "with_macs"]

Clock = Literal["kept", "now"]
_HOSTNAME = re.compile(
    r"(?=.{1,64}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
"""RFC 1123, 2.1; Linux takes 64 characters."""
_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")
"""An address of one card: the lowest bit of the first byte is a group's."""
_MACHINE_ID = re.compile(r"[0-9a-f]{32}")
_ADDRESS = re.compile(r"[0-9.]{7,15}/[0-9]{1,2}")
_TIMEOUT = 60.0
_STEP = 10.0
"""Seconds that a stepped clock may be off; the way in takes up to a second, a busy host more."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What is to be new in a clone: True for a value of our choice, a string for that one, False to keep it.

    Attributes
    ----------
    hostname : bool or str
    mac : bool or str
        Of its first card; further cards get one of our choice where this is not False. Lasts over the clone's reboot
        with virtio-net; an e1000 has the old one in its EEPROM, which the moment's state holds.
    machine_id : bool or str
        32 hexadecimal digits, as machine-id(5).
    address : bool or str
        IPv4 address and length of its network's prefix (`10.0.2.20/24`) of its first card; True keeps the network and
        takes an address that no clone of the segment was given.
    login : (str, str), optional
        User and password for a console where nobody is logged in.
    """

    hostname: bool | str = False
    mac: bool | str = False
    machine_id: bool | str = False
    address: bool | str = False
    login: Login | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done in a clone; false where that is nothing."""

    hostname: str = ""
    machine_id: str = ""
    macs: Mapping[str, str] = field(default_factory=dict)
    card: str = ""
    address: bool | str = False
    now: bool = False
    login: Login | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self.hostname or self.machine_id or self.macs or self.address or self.now)


def plan_change(identity: Identity | Literal["new"] | None, clock: Clock, xml: str, *, shared: bool) -> Change:
    """Return what has to be done for an identity, with values where we choose them.

    Parameters
    ----------
    identity : Identity or "new" or None
        "new" is all of it; the address only on a segment, since elsewhere a network gives it.
    xml : str
        The captured XML.

    Raises
    ------
    UsageError
        If a value cannot be one.
    UnsupportedError
        If the guest has no way in, or no card whose MAC or address could be changed.
    """
    wanted = Identity(True, True, True, shared) if identity == "new" else identity or Identity()
    if not isinstance(wanted, Identity) or clock not in ("kept", "now"):
        raise UsageError("no identity or clock of these", identity=identity, clock=clock)
    cards = [each.get("address", "").lower() for each in ET.fromstring(xml).iterfind("./devices/interface/mac")]
    if (wanted.mac or wanted.address) and not cards:
        if identity != "new":
            raise UnsupportedError("the guest had no network card at that moment", cure="Leave mac and address out")
        wanted = Identity(True, False, True)
    change = Change(
        _chosen(wanted.hostname, "hostname", _HOSTNAME, f"clone-{secrets.token_hex(4)}"),
        _chosen(wanted.machine_id, "machine id", _MACHINE_ID, uuid.uuid4().hex),
        dict(_new_macs(wanted.mac, cards)),
        cards[0] if cards else "",
        _checked_address(wanted.address),
        clock == "now",
        wanted.login,
    )
    if change:
        _refuse_without_a_way_in(xml)
    return change


def told_identity(told: Mapping[str, object]) -> dict[str, str]:
    """Return what a description says is new in a clone, where it is what `carry_out` could have told.

    Raises
    ------
    ValueError
        If it is nothing that a clone could have been given.
    """
    shapes = {"hostname": _HOSTNAME, "mac": _MAC, "machine_id": _MACHINE_ID, "address": _ADDRESS}
    for name, value in dict(told).items():
        if name not in shapes or not isinstance(value, str) or not shapes[name].fullmatch(value):
            raise ValueError(f"no {name[:40]} of a clone")
        if name == "address":
            ipaddress.IPv4Interface(value)
    return {name: str(told[name]) for name in shapes if name in told}


def with_macs(xml: str, macs: Mapping[str, str]) -> str:
    """Return the XML with cards' MACs replaced: what a card has after its reset."""
    root = ET.fromstring(xml)
    for element in root.iterfind("./devices/interface/mac"):
        address = element.get("address", "").lower()
        element.set("address", macs.get(address, address))
    return ET.tostring(root, encoding="unicode")


def carry_out(guest: Guest, change: Change, taken: Collection[str] = ()) -> dict[str, str]:
    """Change a clone that runs with its links down, and return what it is now by its own word.

    Parameters
    ----------
    taken : collection of str
        Addresses that it must not get.

    Raises
    ------
    GuestError
        If it cannot be spoken to, or is not what was asked. Some of it may be changed: let it not run.
    """
    asked = {"hostname": change.hostname, "machine_id": change.machine_id, "mac": change.macs.get(change.card, "")}
    asked["address"] = _free_address(guest, change, taken) if change.address else ""
    wanted = {name: value for name, value in asked.items() if value}
    script = "\n".join(["set -e", _FIND, *_script(change, wanted), _TELL])
    ran = run_in(guest, f"card={shlex.quote(change.card)}\n{script}", timeout=_TIMEOUT, login=change.login)
    told = dict(line.partition("=")[::2] for line in ran.check().text.splitlines() if "=" in line)
    for name, value in wanted.items():
        if told.get(name, "").strip() != value:
            raise GuestError(f"the clone's {name} is not new", expected=value, found=told.get(name, "")[:200])
    if change.now:
        _step_clock(guest, change.login)
    return wanted


_FIND = """\
i=
for d in /sys/class/net/*; do
    [ -e "$d/device" ] && [ -n "$card" ] && [ "$(cat "$d/address")" = "$card" ] && i=${d##*/}
done
"""
"""Find the interface of the first card by its MAC; what is made upon it (a bridge) has the same, and no device."""
_TELL = """\
echo "hostname=$(cat /proc/sys/kernel/hostname)"
[ -e /etc/machine-id ] && echo "machine_id=$(cat /etc/machine-id)"
[ -n "$i" ] && echo "mac=$(cat "/sys/class/net/$i/address")"
[ -n "$i" ] && echo "address=$(ip -4 -o addr show dev "$i" | sed -n 's/.* inet \\([0-9./]*\\).*/\\1/p' | head -n 1)"
true"""


def _script(change: Change, wanted: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines that change it; every value was checked, and is quoted all the same."""
    if name := wanted.get("hostname"):
        yield f'n={shlex.quote(name)}; echo "$n" >/proc/sys/kernel/hostname; echo "$n" >/etc/hostname'
        yield 'echo "127.0.1.1 $n" >>/etc/hosts'
    if identity := wanted.get("machine_id"):
        yield f"rm -f /etc/machine-id; echo {shlex.quote(identity)} >/etc/machine-id; chmod 444 /etc/machine-id"
        yield "f=/var/lib/dbus/machine-id; if [ -f $f ] && [ ! -L $f ]; then cat /etc/machine-id >$f; fi"
    for old, new in change.macs.items():
        yield _MOVE.format(old=shlex.quote(old), new=shlex.quote(new))
    if address := wanted.get("address"):
        yield '[ -n "$i" ] || { echo "no interface has the card" >&2; exit 1; }'
        yield f'ip -4 addr flush dev "$i"; ip addr add {shlex.quote(address)} dev "$i"; ip link set dev "$i" up'


_MOVE = """\
for d in /sys/class/net/*; do
    [ -e "$d/device" ] && [ "$(cat "$d/address")" = {old} ] || continue
    j=${{d##*/}}
    ip link set dev "$j" address {new} 2>/dev/null ||
        {{ ip link set dev "$j" down; ip link set dev "$j" address {new}; ip link set dev "$j" up; }}
    f=/proc/sys/net/ipv6/conf/$j/disable_ipv6
    if [ -w $f ] && [ "$(cat $f)" = 0 ]; then echo 1 >$f; echo 0 >$f; fi
done"""
"""Set a card's MAC, without taking it down where its driver allows that: taking it down costs it its routes. Its own
IPv6 addresses are made of the MAC: they are made anew."""


def _free_address(guest: Guest, change: Change, taken: Collection[str]) -> str:
    """Return the address that it shall have; one of our choice lies in the network that its first card is in."""
    if isinstance(change.address, str):
        return change.address
    script = f"card={shlex.quote(change.card)}\n{_FIND}{_TELL}"
    said = run_in(guest, script, timeout=_TIMEOUT, login=change.login).check().text
    match = re.search(r"^address=([0-9./]+)$", said, re.MULTILINE)
    try:
        present = ipaddress.IPv4Interface(match[1] if match else "")
    except ValueError as error:
        raise GuestError("the clone's card has no IPv4 address", cure="Say which it shall have") from error
    used = {str(ipaddress.IPv4Interface(each).ip) for each in taken} | {str(present.ip)}
    # The first few of a network belong to its gateways and servers, as a rule.
    count = present.network.num_addresses
    for place in random.sample(range(min(16, count // 2), count - 1), min(count // 2, 4096)) if count > 4 else ():
        if str(present.network[place]) not in used:
            return f"{present.network[place]}/{present.network.prefixlen}"
    raise GuestError("the clone's network has no free address", network=str(present.network))


def _step_clock(guest: Guest, login: Login | None) -> None:
    run_in(guest, f"date -u -s @{int(time.time())} >/dev/null", timeout=_TIMEOUT, login=login).check()
    said = run_in(guest, "date -u +%s", timeout=_TIMEOUT, login=login).check().text.strip()
    now = time.time()
    if not said.isdigit() or abs(int(said[:12]) - now) > _STEP:
        raise GuestError("the clone's clock was not stepped to now", expected=int(now), found=said[:40])


def _chosen(wanted: bool | str, what: str, shape: re.Pattern[str], ours: str) -> str:
    if isinstance(wanted, str) and not shape.fullmatch(wanted):
        raise UsageError(f"no {what}: {wanted[:80]!r}")
    return wanted if isinstance(wanted, str) else ours if wanted else ""


def _new_macs(wanted: bool | str, cards: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, card in enumerate(cards if wanted else ()):
        ours = f"52:54:00:{secrets.token_bytes(3).hex(':')}"
        given = wanted.lower() if isinstance(wanted, str) and not number else True
        yield card, _chosen(given, "MAC of a card", _MAC, ours)


def _checked_address(wanted: bool | str) -> bool | str:
    if not isinstance(wanted, str):
        return wanted
    address, _, prefix = wanted.partition("/")
    try:
        return str(ipaddress.IPv4Interface((address, int(prefix))))
    except ValueError as error:
        raise UsageError(f"no IPv4 address with a prefix: {wanted[:80]!r}", cure="Such as 10.0.2.20/24.") from error


def _refuse_without_a_way_in(xml: str) -> None:
    devices = ET.fromstring(xml).find("./devices")
    ways = ("./serial", "./console", "./channel/target[@name='org.qemu.guest_agent.0']")
    if devices is None or all(devices.find(way) is None for way in ways):
        raise UnsupportedError(
            "the guest has neither a guest agent's channel nor a serial console: nothing can be changed in a clone",
            cure="Leave identity and clock as they are",
        )
