"""What the peers do: virsh snapshots, save and restore; zstd, restic and borg of a raw dump.

Refuses to share a guest with us while it is measured: each call gets a guest of its own.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import libvirt

from workbench.demo import DemoGuest
from workbench.errors import GuestError

__all__ = [
    "image_growth",
    "paused_time",
    "repository_growth",
    "restore_times",
    "revert_times",
    "run",
    "save_times",
    "snapshot_pauses",
]

_LIMIT = 600


def run(*words: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it printed.

    Raises
    ------
    GuestError
        If it failed, with what it said.
    """
    try:
        done = subprocess.run(
            [str(word) for word in words],
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
            env={**os.environ, **(env or {})},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GuestError(f"{words[0]}: {error}") from error
    if done.returncode:
        raise GuestError(f"{words[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def _virsh(guest: DemoGuest, *words: str | Path) -> str:
    return run("virsh", "-q", "-c", guest.uri, *words)


@contextmanager
def paused_time(guest: DemoGuest) -> Iterator[list[float]]:
    """Yield a list that holds, after the body, the seconds for which libvirt saw the guest not running."""
    result: list[float] = []
    over = threading.Event()
    connection = libvirt.open(guest.uri)
    domain = connection.lookupByName(guest.name)

    def watch() -> None:
        stood, last = 0.0, time.monotonic()
        while not over.is_set():
            state = domain.state()[0]
            now = time.monotonic()
            if state != libvirt.VIR_DOMAIN_RUNNING:
                stood += now - last
            last = now
            time.sleep(0.001)
        result.append(stood)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield result
    finally:
        over.set()
        thread.join()
        connection.close()


def snapshot_pauses(guest: DemoGuest, count: int, dirty: str = "true") -> list[float]:
    """Return, in ms, for how long `virsh snapshot-create-as` (memory and disk, internal) made the guest stand still."""
    pauses = []
    for number in range(count):
        guest.run(dirty)
        with paused_time(guest) as stood:
            _virsh(guest, "snapshot-create-as", guest.name, f"s{number}")
        pauses.append(1000 * stood[0])
        _virsh(guest, "snapshot-delete", guest.name, f"s{number}")
    return pauses


def revert_times(guest: DemoGuest, count: int) -> list[float]:
    """Return, in ms, how long `virsh snapshot-revert` took to have the guest run 10 s earlier."""
    times = []
    _virsh(guest, "snapshot-create-as", guest.name, "back")
    for _ in range(count):
        time.sleep(10)
        began = time.monotonic()
        _virsh(guest, "snapshot-revert", guest.name, "back", "--running")
        times.append(1000 * (time.monotonic() - began))
    return times


def save_times(guest: DemoGuest, count: int, dirty: str = "true") -> list[float]:
    """Return, in ms, how long `virsh save` took; the guest stands still from its start to the restore."""
    times = []
    path = guest.directory / "saved"
    for _ in range(count):
        guest.run(dirty)
        began = time.monotonic()
        _virsh(guest, "save", guest.name, path)
        times.append(1000 * (time.monotonic() - began))
        _virsh(guest, "restore", path)
        guest.reconnect()
    return times


def restore_times(guest: DemoGuest, count: int, *, answering: bool) -> list[float]:
    """Return, in s, how long `virsh restore` took, to running or to the first answer."""
    times = []
    path = guest.directory / "saved"
    for _ in range(count):
        _virsh(guest, "save", guest.name, path)
        began = time.monotonic()
        _virsh(guest, "restore", path)
        if answering:
            guest.reconnect()
        times.append(time.monotonic() - began)
        guest.reconnect()
    return times


def image_growth(guest: DemoGuest, interval: float) -> list[float]:
    """Return, in kB, by how much the qcow2 grew with the second of two internal snapshots, `interval` s apart."""
    image = guest.directory / "root.qcow2"
    _virsh(guest, "snapshot-create-as", guest.name, "one")
    time.sleep(interval)
    before = image.stat().st_blocks * 512
    _virsh(guest, "snapshot-create-as", guest.name, "two")
    return [(image.stat().st_blocks * 512 - before) / 1e3]


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def repository_growth(tool: str, dumps: Sequence[Path], directory: Path) -> list[float]:
    """Return, in kB, by how much a restic or borg repository grew with the second dump."""
    repository = directory / tool
    environment = {
        "RESTIC_PASSWORD": "bench",
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        "HOME": str(directory),
    }
    create: tuple[str | Path, ...]
    if tool == "restic":
        create = ("restic", "-q", "-r", repository, "init")
        backup: tuple[str | Path, ...] = ("restic", "-q", "-r", repository, "backup", "--host", "bench")
    else:
        create = ("borg", "init", "-e", "none", repository)
        backup = ("borg", "create", "--compression", "zstd,3")
    run(*create, env=environment)
    sizes = []
    same = directory / "dump"
    for number, dump in enumerate(dumps):
        dump.rename(same)  # one path, so that the tool knows it again
        target = (same,) if tool == "restic" else (f"{repository}::{number}", same)
        run(*backup, *target, env=environment)
        same.rename(dump)
        sizes.append(_size(repository))
    return [(later - earlier) / 1e3 for earlier, later in itertools.pairwise(sizes)]
