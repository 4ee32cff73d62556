"""Guests found by name and identity, described, and told apart from guests that ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.demo import DemoGuest, DemoSpec
from workbench.errors import GuestError, GuestGoneError, GuestNotFoundError, MonitorError
from workbench.guest.connection import Hypervisor


def test_other_drivers_are_refused() -> None:
    with pytest.raises(GuestError, match="driven by"):
        Hypervisor("test:///default")


def test_an_address_that_cannot_be_reached_is_told() -> None:
    with pytest.raises(GuestError, match="connecting to"):
        Hypervisor("qemu:///session?socket=/nowhere/at/all")


def test_a_guest_is_found_and_described(guest: DemoGuest) -> None:
    with Hypervisor(guest.uri) as hypervisor:
        found = hypervisor.guest(guest.name)
        assert hypervisor.guest(found.id).name == guest.name
        assert guest.name in [each.name for each in hypervisor.guests()]
        assert b"qemu" in Path(f"/proc/{found.pid}/cmdline").read_bytes()
        assert found.machine().startswith("pc-")
        assert found.is_running()
        assert found.uri == guest.uri
        assert "<domain" in found.xml(migratable=True)
        with pytest.raises(GuestNotFoundError, match=guest.name):
            hypervisor.guest("nobody")
        with pytest.raises(MonitorError) as told:
            found.monitor.execute("no-such-command")
        assert told.value.facts["error_class"] == "CommandNotFound"


def test_a_guest_that_ended_is_gone(boot_guest: Callable[[DemoSpec], DemoGuest]) -> None:
    demo = boot_guest(DemoSpec("mem-end"))
    with Hypervisor(demo.uri) as hypervisor:
        guest = hypervisor.guest(demo.name)
        demo.domain.destroy()
        with pytest.raises(GuestGoneError):
            guest.monitor.execute("query-status")
        with pytest.raises(GuestGoneError):
            guest.monitor.human("info status")
        with pytest.raises(GuestGoneError):
            _ = guest.pid
        with pytest.raises(GuestGoneError):
            guest.xml()
