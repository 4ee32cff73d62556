"""What was measured on: the host and the versions. Refuses to tell its name, its paths and its users."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from workbench.bench.status import status_volume
from workbench.demo.accel import probe_kvm
from workbench.guest.connection import Hypervisor

__all__ = ["host_facts"]

_PROGRAMS = (("restic", "version"), ("borg", "--version"), ("zstd", "--version"))


def host_facts(uri: str) -> dict[str, Any]:
    """Describe the host in JSON values.

    Returns
    -------
    dict
        time (UTC), cores, memory_mb, cpu, accelerator, status_volume (where libvirt keeps its status files), load
        (of 1, 5 and 15 minutes), kernel, versions.
    """
    with Hypervisor(uri) as hypervisor:
        versions: dict[str, str] = hypervisor.versions()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000,
        "cpu": _cpu(),
        "accelerator": "kvm" if probe_kvm()[0] else "tcg",
        "status_volume": status_volume(),
        "load": os.getloadavg(),
        "kernel": platform.release(),
        "versions": {"python": platform.python_version(), **versions, **{n: _said(n, how) for n, how in _PROGRAMS}},
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _said(program: str, option: str) -> str:
    """Return the first line of a program's version, or that it is not there."""
    if shutil.which(program) is None:
        return "not installed"
    done = subprocess.run([program, option], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0]
