"""Find out whether KVM works here by booting the demo kernel with it.

`/dev/kvm` that opens proves nothing: there are hosts on which it hangs. The answer is kept until the host reboots or
QEMU changes. Refuses to wait longer than its time-out.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from workbench.demo.commands import find_tool, run_tool
from workbench.demo.image import build_demo_image, default_cache

__all__ = ["probe_kvm"]

_TIMEOUT = 15.0


def probe_kvm(cache_dir: Path | None = None, timeout: float = _TIMEOUT) -> tuple[bool, str]:
    """Say whether a guest boots under KVM.

    Parameters
    ----------
    cache_dir : Path, optional
        Where the answer (and the demo image) is kept; this room's cache when left out.
    timeout : float
        Seconds the trial boot may take.

    Returns
    -------
    works : bool
        Whether it does.
    reason : str
        Why, in a few words.

    Raises
    ------
    UnsupportedError
        QEMU is not installed.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False, "no access to /dev/kvm"
    cache = cache_dir or default_cache()
    memory, key = cache / "kvm-probe.json", _key()
    told = _remembered(memory)
    if told.get("key") != key:
        works, reason = _boot(cache_dir, timeout)
        told = {"key": key, "works": works, "reason": reason}
        _remember(memory, told)
    return bool(told["works"]), str(told["reason"])


def _key() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {run_tool('qemu-system-x86_64', '--version').splitlines()[0]}"


def _remembered(memory: Path) -> dict[str, object]:
    try:
        told = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) and {"key", "works", "reason"} <= told.keys() else {}


def _remember(memory: Path, told: dict[str, object]) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    beside = memory.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(told))
    beside.replace(memory)


def _boot(cache_dir: Path | None, timeout: float) -> tuple[bool, str]:
    image = build_demo_image(cache_dir)
    command = [find_tool("qemu-system-x86_64"), "-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults"]
    command += ["-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", str(image.kernel)]
    command += ["-initrd", str(image.initrd), "-append", "console=ttyS0 panic=-1 rewind.probe"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return False, f"a trial boot under KVM did not end within {timeout:g} s"
    if b"REWIND-PROBE-OK" in done.stdout:
        return True, "a trial boot under KVM worked"
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return False, f"a trial boot under KVM failed: {said[-1] if said else f'status {done.returncode}'}"
