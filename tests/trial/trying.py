"""What the tests of trials share: a change, and how a guest is seen to have it or not."""

from __future__ import annotations

from workbench.demo import DemoGuest

CHANGE = "echo changed >/root/planted; sync"


def seen(guest: DemoGuest) -> list[str]:
    """What the guest says it is: the moment, and the change if it has it."""
    guest.reconnect()
    return guest.run("cat /root/when /root/planted 2>/dev/null").stdout.split()
