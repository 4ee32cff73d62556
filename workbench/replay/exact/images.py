"""The files of a run: the base disk that nobody writes, an overlay over it, and a file for VM states.

Refuses to guess an image's format: a raw disk whose first bytes a guest chose could call itself anything.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from workbench.errors import FormatError, GuestError, UsageError
from workbench.guest.tools import find_tool
from workbench.replay.exact.machine import DISK, LOG, STATE

__all__ = ["BASE", "copy_file", "copy_run", "fresh_run", "keep_base", "qemu_img", "rebase", "refuse_foreign"]

BASE = "base.qcow2"
_STATE_SIZE = str(64 << 20)


def qemu_img(*words: str | Path, timeout: float = 600.0) -> str:
    """Run qemu-img and return what it printed.

    Raises
    ------
    GuestError
        With its own words.
    """
    command = [find_tool("qemu-img"), *(str(each) for each in words)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise GuestError(f"qemu-img did not end within {timeout:g} s", command=words[0]) from error
    if done.returncode:
        raise GuestError(f"qemu-img refuses: {done.stderr.strip()[-300:]}", command=str(words[0]))
    return done.stdout


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, sharing its blocks where the file system can."""
    done = subprocess.run(
        ["cp", "--reflink=auto", "--sparse=always", "--", str(source), str(target)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise UsageError(f"not copied: {done.stderr.strip()}", path=str(source), cure="Name a file that can be read.")


def keep_base(disk: Path, kind: str, place: Path) -> None:
    """Put the content of a disk image, all layers of it, into the recording, read-only.

    Raises
    ------
    UsageError, GuestError
    """
    if kind not in ("raw", "qcow2"):
        raise UsageError("the disk's format must be said", found=kind, cure="Say raw or qcow2.")
    qemu_img("convert", "-f", kind, "-O", "qcow2", disk, place / BASE)
    (place / BASE).chmod(0o444)


def fresh_run(place: Path, run: Path, *, disk: bool) -> None:
    """Make the empty files that a recording begins with."""
    qemu_img("create", "-q", "-f", "qcow2", run / STATE, _STATE_SIZE)
    if disk:
        qemu_img("create", "-q", "-f", "qcow2", "-b", (place / BASE).resolve(), "-F", "qcow2", run / DISK)


def rebase(place: Path, run: Path) -> None:
    """Have a copied overlay name the base where it is now: the case may have been moved, or come from a stranger."""
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", (place / BASE).resolve(), "-F", "qcow2", run / DISK)


def refuse_foreign(path: Path, *, backing: bool) -> None:
    """Refuse an image that would have QEMU open further files of the host.

    The header is QEMU docs/interop/qcow2.txt: backing_file_offset at 8, incompatible_features at 72, of which bit 2 is
    an external data file.

    Raises
    ------
    FormatError
    """
    with path.open("rb") as file:
        header = file.read(104)
    if len(header) < 104 or header[:8] != b"QFI\xfb\0\0\0\3":
        raise FormatError("not a qcow2 image of version 3", path=str(path), cure="Record again.")
    below = int.from_bytes(header[8:16], "big")
    if int.from_bytes(header[72:80], "big") & 4 or (below and not backing):
        raise FormatError("an image of the recording names another file", path=str(path), cure="Do not replay it.")


def copy_run(place: Path, run: Path, *, disk: bool, source: Path | None = None) -> None:
    """Copy what a replay changes into a directory of its own; `source` has the state and disk files, if not `place`."""
    copy_file(place / LOG, run / LOG)
    refuse_foreign((source or place) / STATE, backing=False)
    copy_file((source or place) / STATE, run / STATE)
    if disk:
        refuse_foreign(place / BASE, backing=False)
        refuse_foreign((source or place) / DISK, backing=True)
        copy_file((source or place) / DISK, run / DISK)
        rebase(place, run)
