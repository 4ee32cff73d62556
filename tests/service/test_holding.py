"""A guest that panics, or whose watchdog fires, stands until it was captured, and then goes as it would have gone."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import libvirt
import pytest

sys.path.insert(0, os.path.dirname(__file__))

from conftest import keeper, serving
from waiting import until

from workbench.bench.processes import children, command
from workbench.capture.holding.client import Holding
from workbench.case import Moment
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.errors import GuestError
from workbench.guest.connection import Hypervisor
from workbench.service.configuration import GuestConfiguration
from workbench.service.hub import Service
from workbench.service.identity import Caller, Role

PANIC = "(sleep 3; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &"
# The device by its registers, for the guest's kernel has no driver: 6300ESB datasheet, 14.4; QEMU, wdt_i6300esb.c.
WATCHDOG = r"""(sleep 3
for d in /sys/bus/pci/devices/*; do [ "$(cat $d/device)" = 0x25ab ] && break; done
echo 1 > $d/enable; read bar rest < $d/resource
unlock() { devmem $((bar + 12)) 16 0x80; devmem $((bar + 12)) 16 0x86; }
unlock; devmem $((bar)) 32 20; unlock; devmem $((bar + 4)) 32 20
printf '\002' | dd of=$d/config bs=1 seek=104 conv=notrunc
sleep 1; printf '\000' | dd of=$d/config bs=1 seek=104 conv=notrunc
) >/dev/null 2>&1 &"""
HELD_S = 120.0


@pytest.fixture(scope="module")
def kept(demo_image: DemoImage) -> Iterator[DemoGuest]:
    spec = DemoSpec(f"held-{os.getpid()}", memory_mib=256, panic=True, on_crash="restart", watchdog="none")
    with DemoGuest.boot(spec, image=demo_image) as guest:
        yield guest


@pytest.fixture(scope="module")
def service(kept: DemoGuest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("held"), holding(kept, hold_s=HELD_S), silent_s=600) as made:
        until(lambda: keeper(made).status().captures and keeper(made).status().holds)
        yield made
    assert "<on_crash>restart</on_crash>" in kept.domain.XMLDesc()


def holding(guest: DemoGuest, hold_s: float, **more: Any) -> GuestConfiguration:
    triggers = {"hold": True, "hold_s": hold_s, "gate": {"debounce_s": 0, "cool_down_s": 3600}, "console": {}}
    told = {"guest": guest.name, "interval_s": 86_400, "triggers": triggers, **more}
    return GuestConfiguration.model_validate(told)


def configure(service: Service, wanted: GuestConfiguration) -> None:
    """Have another recorder hold the guest."""

    def turns() -> int:
        status = keeper(service).status()
        return status.captures + status.failures

    before, done = keeper(service).pid, turns()
    service.configure(Caller("root", Role.ADMIN), wanted)
    until(lambda: keeper(service).pid not in (None, before) and holders(service))
    with Hypervisor("qemu:///session") as hypervisor:
        domain = hypervisor.guest(wanted.guest).domain
        until(lambda: "<on_crash>preserve</on_crash>" in domain.XMLDesc())
    until(lambda: turns() > done, "its first turn, or a refused one")
    time.sleep(2)  # sources attach beside it


def marked(service: Service, beginning: str) -> list[Moment]:
    with service.case() as case:
        found = [each for each in case.marks() if each.kind == "event" and each.name.startswith(beginning)]
        return [case.moment(f"id:{each.capture}") for each in found]


def stands(guest: DemoGuest) -> bool:
    return bool(guest.domain.state()[0] in (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_PAUSED))


def panics(guest: DemoGuest) -> int:
    return guest.console.read_bytes().count(b"Kernel panic - not syncing")


def runs(guest: DemoGuest) -> bool:
    return bool(guest.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING)


def is_there(guest: DemoGuest) -> bool:
    return guest.name in [each.name() for each in guest.connection.listAllDomains()]


def holders(service: Service) -> list[int]:
    """The holders that the guest's recorder has started."""
    pid = keeper(service).pid
    return [each for each in children(pid) if "holding.holder" in command(each)] if pid else []


def test_a_panic_is_captured_as_it_happened_and_the_guest_restarts_as_its_description_says(
    service: Service, kept: DemoGuest
) -> None:
    assert keeper(service).status().holds == {"panic": "restart", "watchdog": "none"}
    assert "<on_crash>preserve</on_crash>" in kept.domain.XMLDesc()
    boot = kept.run("cat /proc/sys/kernel/random/boot_id").stdout
    kept.run(PANIC)
    (moment,) = until(lambda: marked(service, "guest-panic-"))
    kept.supervisor.wait_ready(240)
    assert kept.run("cat /proc/sys/kernel/random/boot_id").stdout not in ("", boot)
    with service.case() as case:
        taken = case.moment(f"id:{moment.id}")
        log = taken.vol("linux.kmsg.Kmsg")["line"]
        assert log.str.contains("Kernel panic - not syncing: sysrq triggered crash").any()
        described = taken.read("state:xml", 0, taken._spec("state:xml")).decode()
        assert "<on_crash>restart</on_crash>" in described  # a clone of it is held by nobody


def test_a_panic_that_the_gate_does_not_let_pass_holds_nobody_up(service: Service, kept: DemoGuest) -> None:
    before = panics(kept)
    kept.run(PANIC)
    until(lambda: panics(kept) > before)
    kept.supervisor.wait_ready(110)  # before the limit
    assert len(marked(service, "guest-panic-")) == 1


def test_a_watchdog_is_captured_before_it_acts_though_a_guest_that_stands_freezes_nothing(
    service: Service, kept: DemoGuest
) -> None:
    configure(service, holding(kept, HELD_S, quiesce={"enabled": True, "required": True}))
    kept.run(WATCHDOG)
    until(lambda: marked(service, "watchdog-"))
    until(lambda: runs(kept))
    assert kept.run("echo here").stdout == "here\n"
    assert not marked(service, "watchdog-pause-")


def test_a_guest_that_is_held_goes_on_when_its_recorder_is_killed(service: Service, kept: DemoGuest) -> None:
    pid = keeper(service).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    kept.run(WATCHDOG)
    until(lambda: stands(kept))
    os.kill(pid, signal.SIGKILL)
    until(lambda: runs(kept))
    until(lambda: keeper(service).pid not in (None, pid) and keeper(service).status().holds)
    until(lambda: "<on_crash>preserve</on_crash>" in kept.domain.XMLDesc())


def test_a_holder_that_is_killed_leaves_nothing_put_off(service: Service, kept: DemoGuest) -> None:
    (pid,) = until(lambda: holders(service))
    os.kill(pid, signal.SIGKILL)
    until(lambda: "<on_crash>restart</on_crash>" in kept.domain.XMLDesc())


def test_a_guest_that_is_held_for_too_long_is_let_go(service: Service, kept: DemoGuest) -> None:
    configure(service, holding(kept, 10))
    pid = keeper(service).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        kept.run(WATCHDOG)
        until(lambda: stands(kept))
        until(lambda: runs(kept))
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_guest_that_is_destroyed_at_a_panic_is_destroyed_after_it_was_held(demo_image: DemoImage) -> None:
    spec = DemoSpec(f"doomed-{os.getpid()}", memory_mib=256, panic=True)
    with DemoGuest.boot(spec, image=demo_image) as guest:
        uuid = guest.domain.UUIDString()
        with Holding(guest.uri, uuid, HELD_S) as held:
            assert (held.fates.panic, held.fates.watchdog) == ("destroy", "")
            assert held.holds("guest-panic")
            assert not held.holds("watchdog")
            guest.run(PANIC)
            until(lambda: stands(guest))
            held.let_go()
            until(lambda: not is_there(guest))
        with pytest.raises(GuestError, match="cannot be held"):
            Holding(guest.uri, uuid, HELD_S)


def test_a_guest_without_a_device_for_panics_is_left_alone_and_that_is_said(guest: DemoGuest) -> None:
    with Holding(guest.uri, guest.domain.UUIDString(), HELD_S) as held:
        assert (held.fates.panic, held.fates.watchdog) == ("", "")
        assert held.fates.why_not == "no device tells of a panic; there is no watchdog"
        assert "<on_crash>destroy</on_crash>" in guest.domain.XMLDesc()
