"""Sources on a real guest: what it, its console, libvirt and its own load say becomes captures with their marks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

sys.path.insert(0, os.path.dirname(__file__))

from conftest import keeper, serving
from waiting import until

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.guest.connection import Hypervisor
from workbench.service.configuration import GuestConfiguration
from workbench.service.hub import Service


@pytest.fixture(scope="module")
def kept(demo_image: DemoImage) -> Iterator[DemoGuest]:
    with DemoGuest.boot(DemoSpec(f"seen-{os.getpid()}", memory_mib=256, agent=True), image=demo_image) as guest:
        yield guest


@pytest.fixture(scope="module")
def service(kept: DemoGuest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    told = {
        "guest": kept.name,
        "interval_s": 60,
        "triggers": {
            "thresholds": [{"measure": "cpu", "above": 0.25, "over_s": 2}],
            "gate": {"debounce_s": 0.5, "cool_down_s": 1},
            "look_back_s": 0,
        },
    }
    with serving(tmp_path_factory.mktemp("service"), GuestConfiguration.model_validate(told)) as made:
        until(lambda: keeper(made).status().captures)
        time.sleep(2)  # sources attach once the recording has begun
        yield made


def marked(service: Service, beginning: str) -> str | None:
    with service.case() as case:
        return next((each.name for each in case.marks() if each.name.startswith(beginning)), None)


def test_a_line_of_the_guest_is_a_capture(service: Service, kept: DemoGuest) -> None:
    assert kept.run("workbench-mark deploy version 4.2").rc == 0
    name = until(lambda: marked(service, "deploy-"))
    with service.case() as case:
        record = case.moment(name).record
        assert (record.reason, str(record.mode)) == ("version 4.2", "event")
        asked = int(name.removeprefix("deploy-")) * 10**6
        assert asked <= record.time_ns + 10**6
    assert [each["who"] for each in service.audit.lines() if each["facts"].get("name") == "deploy"] == ["trigger:guest"]


def test_words_of_trouble_on_the_console_are_a_capture(service: Service, kept: DemoGuest) -> None:
    kept.run("echo 'init[1]: segfault at 0 ip 00007f sp 00007f error 4' > /dev/console")
    until(lambda: marked(service, "segfault-"))


def test_a_processor_that_is_busy_for_long_enough_is_a_capture(service: Service, kept: DemoGuest) -> None:
    kept.run("(end=$(( $(date +%s) + 150 )); while [ $(date +%s) -lt $end ]; do :; done) >/dev/null 2>&1 &")
    until(lambda: marked(service, "cpu-high-"))


def test_an_agent_that_goes_and_comes_back_is_a_capture(service: Service, kept: DemoGuest) -> None:
    assert kept.run("killall qemu-ga").rc == 0  # the guest's init starts another
    gone = until(lambda: marked(service, "agent-disconnected-"))
    until(lambda: marked(service, "agent-connected-"))
    with service.case() as case:
        assert case.moment(gone).record.reason == "the guest's agent closed its channel"


def test_a_reset_is_seen_and_the_series_goes_on(service: Service, kept: DemoGuest) -> None:
    with Hypervisor("qemu:///session") as hypervisor:
        hypervisor.guest(kept.name).domain.reset()
    until(lambda: marked(service, "guest-reset-"))
    before = keeper(service).status().captures
    keeper(service).ask(do="capture", mode="manual", reason="after the reset").result(60)
    until(lambda: keeper(service).status().captures > before)
    with service.case() as case:
        assert not case.check()
    assert Path(service.settings.case).is_dir()
    assert isinstance(Case(service.settings.case).moment("latest").id, str)


def test_a_shutdown_that_the_host_asks_for_is_a_capture_while_the_guest_still_runs(
    service: Service, kept: DemoGuest
) -> None:
    kept.supervisor.wait_ready(240)
    kept.run("killall acpid")  # nobody obeys: the guest stays until it was captured
    kept.domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    until(lambda: marked(service, "power-button-"))
