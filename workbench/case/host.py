"""What this host offers, before there is a case: its guests, what is missing, symbol tables of kernels.

Refuses to raise where the answer is that something is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import GuestGoneError, UsageError
from workbench.guest.connection import DEFAULT_URI, Guest, Hypervisor, translate
from workbench.guest.doctor import Finding, examine, unreachable
from workbench.memory.symbols.cache import SymbolCache
from workbench.memory.symbols.vmlinuz import symbols_from_file

__all__ = ["build_symbols", "doctor", "guest_off", "require_guest", "running_guests"]


def doctor(uri: str | None = DEFAULT_URI, place: Path | None = None) -> list[Finding]:
    """Say what this host offers and lacks; never raises.

    Parameters
    ----------
    uri : str
        Where guests run.
    place : Path, optional
        Where the case is or will be; by default the working directory.
    """
    where = uri or DEFAULT_URI
    try:
        with Hypervisor(where) as hypervisor:
            return examine(hypervisor, place)
    except Exception as error:  # noqa: BLE001  (whatever is wrong with libvirt is a finding)
        host = [each for each in examine(None, place) if not each.topic.startswith(("libvirt", "guest"))]
        return [*host, unreachable(where, error)]


def running_guests(uri: str = DEFAULT_URI) -> pd.DataFrame:
    """Return the running guests of a hypervisor.

    Returns
    -------
    DataFrame
        name (str), uuid (str), memory_mib (int64), vcpus (int64), state (str).
    """
    with Hypervisor(uri) as hypervisor:
        rows = [row for guest in hypervisor.guests() for row in _describe(guest)]
    return pd.DataFrame(rows, columns=["name", "uuid", "memory_mib", "vcpus", "state"])


def build_symbols(kernel: Path, output: Path | None = None) -> Path:
    """Make the symbol table of a kernel's file (vmlinuz or vmlinux), into the user's cache or a file.

    Returns
    -------
    Path
        Where it is.

    Raises
    ------
    SymbolsError
        If it is no kernel, or lacks BTF or kallsyms.
    UsageError
        If a file cannot be read or written.
    """
    try:
        build, isf = symbols_from_file(kernel)
        if output is None:
            return SymbolCache().put(build, isf)
        output.write_bytes(isf)
    except OSError as error:
        raise UsageError(
            f"{error.strerror}: {error.filename}", cure="Name files that can be read and written."
        ) from error
    return output


def require_guest(name: str, uri: str = DEFAULT_URI) -> None:
    """Make sure that a guest runs, before anything is made for it.

    Raises
    ------
    GuestNotFoundError
        If none has this name or UUID.
    """
    with Hypervisor(uri) as hypervisor:
        hypervisor.guest(name)


def guest_off(name: str, uri: str = DEFAULT_URI) -> str:
    """Say in words why the guest with this name or UUID does not run, as far as libvirt knows.

    Raises
    ------
    GuestError
        If libvirt does not answer.
    """
    with Hypervisor(uri) as hypervisor:
        return hypervisor.why_off(name)


def _describe(guest: Guest) -> Iterator[dict[str, Any]]:
    """Yield what a guest is; nothing of one that ended since it was listed."""
    with suppress(GuestGoneError), translate(f"asking for {guest.name}"):
        info = guest.domain.info()
        running = "running" if info[0] == 1 else "paused"
        yield {
            "name": guest.name,
            "uuid": guest.id,
            "memory_mib": info[1] // 1024,
            "vcpus": info[3],
            "state": running,
        }
