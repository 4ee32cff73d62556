"""What a guest does, in numbers: by libvirt's statistics, as rates between two looks.

Refuses rates over a counter that went back: the guest was started again, or a device came and went.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from workbench.guest.connection import Guest, translate

__all__ = ["Sampler"]

_NS = 1e9


class Sampler:
    """Measures one guest.

    Parameters
    ----------
    guest : Guest
    dirty : callable
        Pages written per second, as the last capture found them.
    """

    def __init__(self, guest: Guest, dirty: Callable[[], float]) -> None:
        self._guest = guest
        self._dirty = dirty
        self._before: tuple[float, dict[str, float]] | None = None

    def sample(self) -> dict[str, float]:
        """Return measurements since the last call, by the names of `thresholds.MEASURES`; what is unknown is missing.

        Raises
        ------
        GuestError
            If libvirt does not answer.
        """
        with translate(f"measuring {self._guest.name}"):
            found = self._guest.hypervisor.connection.domainListGetStats([self._guest.domain])
        now, totals = time.monotonic(), _totals(found[0][1]) if found else {}
        before, self._before = self._before, (now, totals)
        rates = {} if before is None else _rates(before[1], totals, now - before[0])
        return {"dirty": self._dirty(), **rates}


def _totals(told: dict[str, Any]) -> dict[str, float]:
    """Return counters summed over devices; names as libvirt documents for virDomainListGetStats."""

    def total(prefix: str, *ends: str) -> float:
        return float(sum(value for name, value in told.items() if name.startswith(prefix) and name.endswith(ends)))

    return {
        "vcpus": float(told.get("vcpu.current", 1)),
        "cpu": float(told.get("cpu.time", 0)) / _NS,
        "written": total("block.", ".wr.bytes"),
        "writes": total("block.", ".wr.reqs"),
        "write_time": total("block.", ".wr.times") / _NS,
        "network": total("net.", ".rx.bytes", ".tx.bytes"),
    }


def _rates(before: dict[str, float], after: dict[str, float], seconds: float) -> dict[str, float]:
    change = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in after}
    if seconds <= 0 or any(value < 0 for name, value in change.items() if name != "vcpus"):
        return {}
    rates = {
        "cpu": change["cpu"] / seconds / max(1.0, after["vcpus"]),
        "disk_write": change["written"] / seconds,
        "network": change["network"] / seconds,
    }
    if change["writes"]:
        rates["disk_latency"] = change["write_time"] / change["writes"]
    return rates
