"""The doctor never raises, tells what follows and what to do, and calls nothing good that it did not see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workbench.demo import DemoGuest
from workbench.errors import GuestError
from workbench.guest import doctor
from workbench.guest.connection import Hypervisor
from workbench.guest.doctor import Finding, examine


def test_without_libvirt_the_host_is_examined_all_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse() -> Hypervisor:
        raise GuestError("no socket")

    monkeypatch.setattr(doctor, "Hypervisor", refuse)
    findings = examine(place=tmp_path)
    topics = [each.topic for each in findings]
    assert set(topics) == {"kernel", "reading memory", "dirty pages", "KVM", "free space", "libvirt"}
    assert findings[-1].status == "missing"
    assert "no socket" in findings[-1].what
    assert all(each.what and each.status in ("good", "limited", "missing") for each in findings)
    assert all(each.consequence or each.cure for each in findings if each.status == "missing")


def test_a_question_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "probe_userfaultfd", lambda: 1 // 0)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _place: 1 // 0)
    found = [each for each in examine(place=tmp_path) if each.status == "missing"]
    assert {"dirty pages", "free space"} <= {each.topic for each in found}


def test_space_is_told_of_the_volume_of_a_case_that_is_yet_to_be_made(tmp_path: Path) -> None:
    (told,) = (each for each in examine(place=tmp_path / "a" / "b") if each.topic == "free space")
    assert told.what.endswith(f"free at {tmp_path}")


@pytest.mark.parametrize(("reason", "status"), [("", "good"), ("no such system call", "limited")])
def test_tracking_is_called_good_only_if_seen(monkeypatch: pytest.MonkeyPatch, reason: str, status: str) -> None:
    monkeypatch.setattr(doctor, "probe_userfaultfd", lambda: reason)
    first = next(each for each in examine() if each.topic == "dirty pages")
    assert first.status == status
    assert reason in first.what


@pytest.mark.parametrize("scope", ["0", "1"])
def test_rights_without_root(monkeypatch: pytest.MonkeyPatch, scope: str) -> None:
    monkeypatch.setattr(doctor, "_has_capability", lambda _number: False)
    monkeypatch.setattr(doctor, "_setting", lambda _path, _absent: scope)
    (found,) = doctor._reading_rights()
    assert found.status == ("limited" if scope == "0" else "missing")


class Monitor:
    def __init__(self, version: tuple[int, int, int], threads: int, commands: tuple[str, ...]) -> None:
        names = ("major", "minor", "micro")
        self.answers: dict[str, Any] = {
            "query-version": {"qemu": dict(zip(names, version, strict=True))},
            "query-commands": [{"name": name} for name in commands],
            "query-iothreads": [{}] * threads,
        }

    def execute(self, command: str) -> Any:
        return json.loads(json.dumps(self.answers[command]))


def told(monkeypatch: pytest.MonkeyPatch, monitor: Monitor) -> list[Finding]:
    monkeypatch.setattr(doctor, "_guest_memory", lambda _guest, _topic: iter(()))
    guest: Any = type("Guest", (), {"name": "demo", "monitor": monitor})()
    return list(doctor._guest(guest))


def test_a_qemu_that_loses_requests_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [each.status for each in told(monkeypatch, Monitor((10, 0, 2), 1, doctor._NEEDED))] == ["good", "limited"]
    assert [each.status for each in told(monkeypatch, Monitor((10, 0, 2), 0, doctor._NEEDED))] == ["good"]
    assert [each.status for each in told(monkeypatch, Monitor((7, 2, 9), 1, doctor._NEEDED))] == ["good"]


def test_commands_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = told(monkeypatch, Monitor((7, 2, 9), 0, doctor._NEEDED[1:]))
    assert found.status == "missing"
    assert doctor._NEEDED[0] in found.what


def test_a_running_guest_is_examined(guest: DemoGuest) -> None:
    with Hypervisor(guest.uri) as hypervisor:
        findings = [each for each in examine(hypervisor) if each.topic == f"guest {guest.name}"]
    assert {each.status for each in findings} == {"good"}
    assert any("readable by proc-mem" in each.what for each in findings)
