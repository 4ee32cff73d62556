"""Wait for words at a guest's console.

What it wrote is read from the log that libvirt keeps of the console, so nobody loses the console and nothing is missed;
a console without a log is listened to from now on. What the guest writes is searched, never obeyed; the last MiB is
held. Refuses patterns that are none. A pattern that takes for ever on hostile text takes for ever: give simple ones.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

from workbench.errors import GuestError, UsageError
from workbench.guest.connection import Guest
from workbench.guest.console import Console
from workbench.inside.pump import Lines

__all__ = ["console_log", "wait_for"]

_HELD = 1 << 20
_EVERY = 0.05


def console_log(guest: Guest) -> Path | None:
    """Return the file in which libvirt logs the guest's first console; None where it keeps none that we can read."""
    log = ET.fromstring(guest.xml()).find("./devices/serial/log")
    path = None if log is None else log.get("file")
    if path is None:
        return None
    with contextlib.suppress(OSError), Path(path).open("rb"):
        return Path(path)
    return None


def wait_for(
    guest: Guest, pattern: str | re.Pattern[str], *, timeout: float, since: Literal["start", "now"]
) -> re.Match[str]:
    """Return the first match in what the console wrote; see `InsideOfClone.wait_for`.

    Raises
    ------
    GuestError, UsageError
    """
    if since not in ("start", "now"):
        raise UsageError("a wait begins at the 'start' or 'now'", found=since)
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"no regular expression: {error}", found=str(pattern)[:200]) from error
    log = console_log(guest)
    if log is None and since == "start":
        raise UsageError(f"{guest.name} keeps no log of its console", cure="Wait with since='now'")
    told = _listened(guest) if log is None else _followed(log, since)
    return _first(guest, told, wanted, timeout)


def _first(guest: Guest, told: Iterator[bytes], wanted: re.Pattern[str], timeout: float) -> re.Match[str]:
    until, held = time.monotonic() + timeout, b""
    with contextlib.closing(told) as pieces:  # type: ignore[type-var]
        for piece in pieces:
            if piece:
                held = (held + piece.replace(b"\r", b""))[-_HELD:]
                found = wanted.search(held.decode("utf-8", "backslashreplace"))
                if found is not None:
                    return found
            if time.monotonic() >= until:
                break
    raise GuestError(
        f"the console of {guest.name} did not write it within {timeout:g} s",
        pattern=wanted.pattern[:200],
        last=held[-80:].decode("ascii", "backslashreplace"),
        cure="Wait longer, or look at `clone.console()`",
    )


def _followed(path: Path, since: Literal["start", "now"]) -> Iterator[bytes]:
    """Yield what a log holds and gets, also past its rotation (a new file at 2 MiB); nothing in between."""
    place = 0 if since == "start" else path.stat().st_size
    number = path.stat().st_ino
    while True:
        piece = b""
        with contextlib.suppress(OSError), path.open("rb") as log:
            found = path.stat()
            if found.st_ino != number or found.st_size < place:
                number, place = found.st_ino, 0
            log.seek(place)
            piece = log.read(_HELD)
            place += len(piece)
        yield piece
        if not piece:
            time.sleep(_EVERY)


def _listened(guest: Guest) -> Iterator[bytes]:
    lines = Lines(Console(guest))
    try:
        while not lines.ended:
            line = lines.next(time.monotonic() + _EVERY)
            yield b"" if line is None else line + b"\n"
        yield lines.unfinished
    finally:
        lines.close()
