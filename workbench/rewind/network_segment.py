"""Segments: private networks of clones, without any host on them, whose every frame is kept.

A segment lies in `segments/NAME` of the case: `packets.pcap`, and `hub.json`, `status.json`, `hub.log` of the hub that
serves it (`network_hub`). The hub is up as long as a clone is on the segment; a later one goes on in the same file.
Refuses a hub of another user, whatever a case says where it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from workbench.errors import GuestError, UsageError
from workbench.rewind import network_hub

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Keeper", "Segment", "segments"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PLACE = re.compile(r"/tmp/rwb-net-[0-9a-f-]{36}")
_LIMIT = 256 << 20
"""Bytes of a segment's pcap file; further frames are passed on and not written, and `packets` says so."""
_START = 60.0
_CONNECT = 60.0


class Keeper:
    """A connection that keeps a hub up and hears which QEMUs are on it.

    Attributes
    ----------
    net : Path
        The socket to which QEMUs connect.
    """

    def __init__(self, sockets: Path) -> None:
        self.net = sockets / "net"
        self._pids: set[int] = set()
        self._rest = b""
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connection.settimeout(_CONNECT)
            self._connection.connect(str(sockets / "keep"))
            _, user, _ = struct.unpack("3i", self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if user != os.geteuid():
                raise ConnectionRefusedError("the hub is another user's")
            while 0 not in self._pids:  # its greeting; a hub that is about to end does not send it
                self._hear(_CONNECT)
        except BaseException:
            self._connection.close()
            raise

    def _hear(self, seconds: float) -> None:
        ready, _, _ = select.select([self._connection], [], [], max(0.0, seconds))
        said = self._connection.recv(4096) if ready else b""
        if not said:
            raise ConnectionResetError("the hub says nothing")
        *lines, self._rest = (self._rest + said).split(b"\n")
        self._pids |= {int(line.removeprefix(b"port ")) for line in lines}

    def wait_for(self, pid: int) -> None:
        """Wait until a QEMU is on the segment.

        Raises
        ------
        GuestError
            If it does not come, as where AppArmor or SELinux forbid it the socket.
        """
        end = time.monotonic() + _CONNECT
        try:
            while pid not in self._pids:
                self._hear(end - time.monotonic())
        except OSError as error:
            raise GuestError(
                f"the clone's QEMU did not reach the segment: {error}", pid=pid, cure="Look at its log of libvirt"
            ) from error

    def end(self) -> None:
        """Have the hub end; clones that are on it stay, and their frames go nowhere."""
        with contextlib.suppress(OSError):
            self._connection.sendall(b"end\n")
            while self._connection.recv(4096):
                pass  # its end
        self.close()

    def close(self) -> None:
        """Let go; without a clone on it the hub ends."""
        self._connection.close()


class Segment:
    """A segment of a case, by its name; it need not have been used yet.

    Raises
    ------
    UsageError
        If it cannot be a name.
    """

    def __init__(self, case: Path, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"no segment can be called {name!r}", cure="Use letters, digits, '.', '_', '-'; at most 64."
            )
        self.name = name
        self.path = case / "segments" / name

    @property
    def pcap(self) -> Path:
        """The file with every frame: classic pcap, nanoseconds."""
        return self.path / "packets.pcap"

    @property
    def running(self) -> bool:
        """Whether its hub is up."""
        keeper = self._found()
        if keeper is not None:
            keeper.close()
        return keeper is not None

    @property
    def status(self) -> dict[str, Any]:
        """What the hub last wrote of itself.

        frames, bytes, unwritten (frames, past the file's limit), dropped (frames that a clone did not take), cut_ns
        and why (when and why the file ended), ports (pids of QEMUs), ended. Empty before its first start.
        """
        with contextlib.suppress(OSError, ValueError):
            told = json.loads((self.path / "status.json").read_bytes()[: 1 << 16])
            return told if isinstance(told, dict) else {}
        return {}

    def packets(self, *, limit: int = 1_000_000) -> pd.DataFrame:
        """Return the packets that clones sent, as `workbench.rewind.network_packets.read_packets`.

        `attrs` has `status`, and `cut`: None, or when and why the file ended though frames came.
        """
        from workbench.rewind.network_packets import read_packets

        frame = read_packets(self.pcap, limit)
        status = self.status
        frame.attrs["status"] = status
        frame.attrs["cut"] = {"ns": status["cut_ns"], "why": status.get("why")} if status.get("cut_ns") else None
        return frame

    def end(self) -> None:
        """End its hub, and remove what a killed one left; harmless where none is up."""
        if not self.path.is_dir():
            return
        with self._turn():
            keeper = self._found()
            if keeper is not None:
                keeper.end()
            else:
                self._sweep()

    @contextlib.contextmanager
    def kept(self, users: set[int], limit: int = _LIMIT) -> Iterator[Keeper]:
        """Have the hub up for the body, started if it is not.

        Parameters
        ----------
        users : set of int
            Whose QEMUs may connect; ourselves always.

        Raises
        ------
        GuestError
            If it does not start.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.is_symlink() or self.path.parent.is_symlink():
            raise UsageError("a segment lies somewhere else than in its case", path=str(self.path))
        with self._turn():
            keeper = self._found() or self._start({os.geteuid(), *users}, limit)
        with contextlib.closing(keeper):
            yield keeper

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _found(self) -> Keeper | None:
        with contextlib.suppress(OSError, ValueError):
            place = self._place()
            return None if place is None else Keeper(place)
        return None

    def _place(self) -> Path | None:
        """Return where the last hub had its sockets, by the word of the case."""
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            place = json.loads((self.path / "hub.json").read_bytes()[:4096]).get("sockets")
            if _PLACE.fullmatch(place):
                return Path(place)
        return None

    def _sweep(self) -> None:
        """Remove the sockets of a hub that did not end by itself; precondition: nobody answers there."""
        place = self._place()
        with contextlib.suppress(OSError):
            if place is not None and place.lstat().st_uid == os.geteuid():
                shutil.rmtree(place, ignore_errors=True)

    def _start(self, users: set[int], limit: int) -> Keeper:
        self._sweep()
        sockets = Path(f"/tmp/rwb-net-{uuid.uuid4()}")  # short for the kernel's sake, and made exclusively
        sockets.mkdir(mode=0o711)
        with _new(self.path / "hub.json") as file:
            file.write(json.dumps({"sockets": str(sockets)}).encode())
        words = [sys.executable, "-I", "-S", network_hub.__file__]
        words += [str(each) for each in (sockets, self.pcap.resolve(), self.path.resolve() / "status.json", limit)]
        words += [str(user) for user in sorted(users)]
        try:
            with _new(self.path / "hub.log") as log:
                subprocess.run(
                    words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env={}, timeout=_START, check=True
                )
            return Keeper(sockets)
        except (OSError, subprocess.SubprocessError) as error:
            shutil.rmtree(sockets, ignore_errors=True)
            last = (self.path / "hub.log").read_text(errors="replace").strip().splitlines()[-1:]
            raise GuestError(f"the hub of segment {self.name} does not start", said="".join(last)[:200]) from error

    def __repr__(self) -> str:
        return f"<Segment {self.name!r} at {self.path}>"


def _new(path: Path) -> BinaryIO:
    """Open a new file in the place of what is there, which a stranger may have made a link of."""
    path.unlink(missing_ok=True)
    return path.open("xb")


def segments(case: Path) -> list[Segment]:
    """Return the segments of a case that were used, by name."""
    place = case / "segments"
    found = sorted(place.iterdir()) if place.is_dir() else []
    return [Segment(case, each.name) for each in found if _NAME.fullmatch(each.name)]
