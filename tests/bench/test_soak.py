"""The soak on a small scale: two real guests, the real service; what does not hang on the host's speed must hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.bench.soak import soak
from workbench.demo.daemon import ensure_daemon

pytestmark = pytest.mark.guest
CERTAIN = {
    "audits that passed",
    "failed captures and audits",
    "recorders begun",
    "check of all captures",
    "guests after it",
}


def test_two_guests_are_recorded_audited_and_well_afterwards(public_directory: Path) -> None:
    uri = "qemu:///session"
    ensure_daemon(uri)
    outcomes = soak(public_directory, uri, 12, interval_s=0.5, memory_mib=128)
    told = {each.name: each for each in outcomes}
    assert not {name for name in CERTAIN if not told[name].holds}, outcomes
    for name in ("service", "recorder 1", "recorder 2", "QEMU 1", "QEMU 2"):
        assert told[f"descriptors of {name}"].found
    assert {"memory of service, second half", "pause p95, not audited", "status under 50 clients, p95"} <= told.keys()
