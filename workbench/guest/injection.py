"""Have `inject.py` do something in a QEMU, in a process and session of its own.

Whatever happens to us meanwhile, that process ends its work and lets QEMU go. Refuses to say what a failure means: who
asked knows whether it can do without.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from workbench.errors import GuestGoneError, UnsupportedError
from workbench.guest.process import HeldProcess

__all__ = ["inject", "map_file"]

_LIMIT = 10.0
"""Seconds for the injecting process; it limits itself to less."""


def inject(process: HeldProcess, *words: int) -> tuple[dict[str, Any], list[int]]:
    """Return what `inject.py` reports, and the descriptors that it hands over, which are ours from then on."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            program = str(Path(__file__).with_name("inject.py"))
            handles = (theirs.fileno(), process.pidfd)
            command = [sys.executable, "-I", "-S", program, *map(str, (process.pid, *handles, *words))]
            quiet = subprocess.DEVNULL
            child = subprocess.Popen(
                command, pass_fds=handles, start_new_session=True, stdin=quiet, stdout=quiet, stderr=quiet
            )
        try:
            return _receive(ours)
        finally:
            try:
                child.wait(1)
            except subprocess.TimeoutExpired:
                child.kill()  # harmless to QEMU at any instant, see inject.py
                child.wait()


def _receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    channel.settimeout(_LIMIT)
    try:
        message, descriptors, _flags, _address = socket.recv_fds(channel, 65536, 1)
    except TimeoutError:
        message, descriptors = b"", []
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return json.loads(message or b'{"refused": "the injecting process ended without a word"}'), descriptors


def map_file(process: HeldProcess, address: int, length: int, descriptor: int, offset: int) -> None:
    """Put a private mapping of a file that QEMU has open in the place of memory of its own.

    Preconditions: the file holds there what that memory holds, and nobody writes to either meanwhile. On success QEMU
    cannot tell the difference. On failure its memory is as it was.

    Parameters
    ----------
    address, length, offset : int
        Bytes; whole pages.
    descriptor : int
        The file's, in QEMU.

    Raises
    ------
    UnsupportedError
        If it is refused here; the message says by what.
    GuestGoneError
        If QEMU ended.
    """
    report, _none = inject(process, address, length, descriptor, offset)
    if reason := report.get("gone"):
        raise GuestGoneError(f"{process.name}: QEMU ended while a file was mapped: {reason}", pid=process.pid)
    if reason := report.get("refused"):
        raise UnsupportedError(f"no file can be mapped in QEMU: {reason}", cure="See `workbench doctor`")
