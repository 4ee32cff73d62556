"""A libvirt to talk to: what is started where something is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workbench.demo import daemon


@pytest.mark.parametrize(
    ("libvirtd", "virtlogd", "started"),
    [(True, True, []), (True, False, ["virtlogd"]), (False, False, ["virtlogd", "libvirtd"])],
)
def test_each_daemon_that_is_gone_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, libvirtd: bool, virtlogd: bool, started: list[str]
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(daemon, "ensure_runtime_dir", lambda: tmp_path)
    monkeypatch.setattr(daemon, "_LOG_SOCKET", tmp_path if virtlogd else tmp_path / "missing")
    monkeypatch.setattr(daemon, "_start", lambda program, **_words: calls.append(program))
    monkeypatch.setattr(daemon, "_kvm_is_broken", lambda: False)
    monkeypatch.setattr(daemon, "daemon_answers", lambda _uri: libvirtd or "libvirtd" in calls)
    daemon.ensure_daemon("qemu:///session")
    assert calls == started
    daemon.ensure_daemon("qemu+ssh://elsewhere/system")
    assert calls == started
