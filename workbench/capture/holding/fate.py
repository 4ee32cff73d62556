"""What becomes of a guest after a panic or its watchdog: read from its description, put off, and carried out.

A panic: QEMU pauses the guest, and libvirt does what `on_crash` says. That is changed in the running guest (never in
its stored description) to `preserve`, by libvirt's own call. A watchdog: QEMU itself does what `action` says; it is
told to pause instead. Refuses to put off what it could not carry out as libvirt would: core dumps go where libvirt's
own configuration says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal
from xml.etree import ElementTree as ET

from workbench.errors import GuestError, MonitorError
from workbench.guest import virt
from workbench.guest.connection import Guest, translate

__all__ = ["Fates", "Held", "Release", "as_found", "held", "hold", "put_back", "read_fates"]

Held = Literal["", "panic", "watchdog"]
_PRESERVED = "<on_crash>preserve</on_crash>"  # as libvirt writes it; none of a description's texts can hold a "<"
_PANIC = ("destroy", "restart")
_WATCHDOG = ("reset", "poweroff", "shutdown", "none", "inject-nmi")
"""libvirt's words for a watchdog's action that are QEMU's, too (qapi/run-state.json, WatchdogAction)."""


@dataclass(frozen=True, slots=True)
class Fates:
    """What would become of a guest.

    Attributes
    ----------
    panic : {"", "destroy", "restart"}
        As `on_crash` says; empty where that is not put off.
    watchdog : str
        As libvirt calls it; empty where there is no watchdog, or its action is not put off.
    why_not : str
        Why one of them is not put off.
    """

    panic: str = ""
    watchdog: str = ""
    why_not: str = field(default="", compare=False)


def read_fates(guest: Guest) -> Fates:
    """Return what would become of a guest, as far as it can be put off.

    Raises
    ------
    GuestError
    """
    root = ET.fromstring(guest.xml())
    panic = root.findtext("on_crash") or "destroy"
    device = root.find("./devices/watchdog")
    action = "" if device is None else device.get("action", "reset")
    why = [
        "no device tells of a panic" if root.find("./devices/panic") is None else "",
        "" if panic in _PANIC else f"on_crash is {panic}",
        "there is no watchdog" if device is None else "",
        "" if not action or action in _WATCHDOG else f"the watchdog's action is {action}",
    ]
    return Fates(
        panic if not any(why[:2]) else "",
        action if action in _WATCHDOG else "",
        "; ".join(each for each in why if each),
    )


def hold(guest: Guest, fates: Fates) -> Fates:
    """Have a guest held instead, and return what is put off now: less, where QEMU cannot.

    Raises
    ------
    GuestError
        Something may be put off already: `put_back` is safe at any time.
    """
    if fates.panic:
        _set_on_crash(guest, virt.VIR_DOMAIN_LIFECYCLE_ACTION_PRESERVE)
    if not fates.watchdog:
        return fates
    try:
        guest.monitor.execute("set-action", watchdog="pause")
    except MonitorError:  # QEMU before 6.0 has no such command
        return Fates(fates.panic, "", "QEMU cannot change a watchdog's action")
    return fates


def as_found(xml: str, fates: Fates) -> str:
    """Return a description with what was put off as it was found: whatever is started from it is nobody's to hold."""
    return xml.replace(_PRESERVED, f"<on_crash>{fates.panic}</on_crash>", 1) if fates.panic else xml


def put_back(guest: Guest, fates: Fates) -> None:
    """Have done again what was put off.

    Raises
    ------
    GuestError
    """
    if fates.panic:
        _set_on_crash(guest, _lifecycle(fates.panic))
    if fates.watchdog:
        guest.monitor.execute("set-action", watchdog=fates.watchdog)


def held(guest: Guest, fates: Fates) -> Held:
    """Tell what a guest is held for.

    Raises
    ------
    GuestError
    """
    with translate(f"asking for the state of {guest.name}"):
        if guest.domain.state()[0] == virt.VIR_DOMAIN_RUNNING:
            return ""
    # libvirt's reason depends on the order of two events, one of which QEMU sends once a second at most.
    status = guest.monitor.execute("query-status")["status"]
    if fates.panic and status == "guest-panicked":
        return "panic"
    return "watchdog" if fates.watchdog and status == "watchdog" else ""


class Release:
    """Lets a held guest go the way it would have gone, also where that takes a second try.

    Parameters
    ----------
    fates : Fates
    """

    def __init__(self, fates: Fates) -> None:
        self._fates = fates
        self._resume_is_owed = False

    def carry_out(self, guest: Guest) -> Held:
        """Let the guest go, and return what it was held for; nothing for one that is not held.

        Raises
        ------
        GuestError
            It may be held still: to be called again.
        """
        why: Held = "" if self._resume_is_owed else held(guest, self._fates)
        fate = {"": "", "panic": self._fates.panic, "watchdog": self._fates.watchdog}[why]
        with translate(f"letting {guest.name} go on to its {fate or 'end'}"):
            self._act(guest.domain, fate)
            if self._resume_is_owed and guest.domain.state()[0] != virt.VIR_DOMAIN_RUNNING:
                guest.domain.resume()
        self._resume_is_owed = False
        return why

    def _act(self, domain: Any, fate: str) -> None:
        if fate in ("destroy", "poweroff"):
            domain.destroy()
        elif fate in ("restart", "reset"):
            domain.reset()
        elif fate == "inject-nmi":
            domain.injectNMI()
        elif fate == "shutdown":
            domain.shutdownFlags(virt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        self._resume_is_owed |= fate not in ("", "destroy", "poweroff")


def _set_on_crash(guest: Guest, action: int) -> None:
    with translate(f"setting on_crash of {guest.name}"):
        kind, live = virt.VIR_DOMAIN_LIFECYCLE_CRASH, virt.VIR_DOMAIN_AFFECT_LIVE
        guest.domain.setLifecycleAction(kind, action, live)


def _lifecycle(fate: str) -> int:
    found = {"destroy": virt.VIR_DOMAIN_LIFECYCLE_ACTION_DESTROY, "restart": virt.VIR_DOMAIN_LIFECYCLE_ACTION_RESTART}
    if fate not in found:
        raise GuestError("no such fate of a panic", found=fate)
    return int(found[fate])
