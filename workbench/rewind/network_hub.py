"""The hub of a segment: a process that hands every frame of a clone to all others, and writes it to a pcap file.

    python network_hub.py SOCKETS PCAP STATUS LIMIT USER...

QEMUs of these users connect to `SOCKETS/net` (`-netdev stream`: 4 bytes of length, big-endian, then a frame; QEMU's
net/stream.c). Who starts clones connects to `SOCKETS/keep`, is told the pid of every QEMU that is there ("port PID"),
and keeps the hub up meanwhile. It ends with the last connection, and when a keeper says "end"; LIMIT bounds the file.

Guests are hostile: a port that breaks the framing is closed; one that does not read loses frames and holds up nobody;
one that floods is read more slowly. Killed, it takes no clone along: their frames go nowhere from then on. Refuses to
understand frames and to import anything of ours, so that it is small and starts at once.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import sys
import time
from pathlib import Path

__all__ = ["FRAME", "HEADER", "RECORD", "Hub", "Pcap", "Port"]

FRAME = 4096 + 65536
"""Most bytes of a frame (QEMU's NET_BUFSIZE); one that says more is no QEMU's."""
HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1)
"""Head of a pcap file: nanoseconds, version 2.4, snap length, Ethernet (draft-ietf-opsawg-pcap)."""
RECORD = struct.Struct("<IIII")
"""Seconds, nanoseconds, bytes in the file, bytes on the wire."""
_PORTS = 64
_KEEPERS = 64
_WAITING = 1 << 20
"""Bytes that wait for a port which does not read; more are dropped."""
_RATE = 64 << 20
"""Bytes that are taken from a port per second."""
_BURST = 8 << 20
_ALONE = 30.0
"""Seconds until the first connection; then it gives up."""
_TURN = 5.0
"""Seconds to wait for the hub before to let go of the file."""
_STATUS_EVERY = 0.5


class Pcap:
    """The file: whole records, up to a limit; then it says so and takes no more."""

    def __init__(self, path: Path, limit: int) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._have_turn()
        self.limit = limit
        self.frames = self.unwritten = 0
        self.cut_ns: int | None = None
        self.why = ""
        self.size = self._whole()
        os.ftruncate(self._descriptor, self.size)
        if not self.size:
            self.size = os.pwrite(self._descriptor, HEADER, 0)

    def _have_turn(self) -> None:
        end = time.monotonic() + _TURN
        while True:
            try:
                return fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def _whole(self) -> int:
        """Return where the last whole record ends; the rest is what a killed hub was writing."""
        length, place = os.fstat(self._descriptor).st_size, len(HEADER)
        if os.pread(self._descriptor, place, 0) != HEADER:
            if length:
                raise ValueError("the segment's pcap file is not one of ours")
            return 0
        while len(head := os.pread(self._descriptor, RECORD.size, place)) == RECORD.size:
            further = place + RECORD.size + RECORD.unpack(head)[2]
            if further > length:
                break
            place = further
        return place

    def write(self, frame: bytes) -> None:
        """Append a frame with the time of now."""
        if self.cut_ns is None and self.size + RECORD.size + len(frame) > self.limit:
            self._cut(f"the file has its limit of {self.limit} bytes")
        if self.cut_ns is not None:
            self.unwritten += 1
            return
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        record = RECORD.pack(seconds, nanoseconds, len(frame), len(frame)) + frame
        try:
            written = os.pwrite(self._descriptor, record, self.size)
        except OSError as error:
            written, self.why = 0, os.strerror(error.errno or errno.EIO)
        if written == len(record):
            self.size += written
            self.frames += 1
        else:
            self._cut(self.why or "the disk is full")
            self.unwritten += 1
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.size)

    def _cut(self, why: str) -> None:
        self.cut_ns, self.why = time.time_ns(), why


class Port:
    """One QEMU: what came of a frame, and what waits for it."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.connection, self.pid = connection, pid
        self.dropped = 0
        self._came = bytearray()
        self._waiting: collections.deque[bytes] = collections.deque()
        self._bytes = 0
        self._tokens, self._then = float(_BURST), time.monotonic()

    def frames(self) -> list[bytes]:
        """Read what is there and return whole frames; ConnectionError at its end, or where it breaks the framing."""
        data = self.connection.recv(1 << 18)
        if not data:
            raise ConnectionResetError
        self._tokens -= len(data)
        self._came += data
        found, place = [], 0
        while len(self._came) - place >= 4:
            length = int.from_bytes(self._came[place : place + 4], "big")
            if not 0 < length <= FRAME:
                raise ConnectionAbortedError
            if len(self._came) - place - 4 < length:
                break
            found.append(bytes(self._came[place + 4 : place + 4 + length]))
            place += 4 + length
        del self._came[:place]
        return found

    def rest(self) -> float:
        """Return for how many seconds it is not to be read, since it sends too much."""
        now = time.monotonic()
        self._tokens = min(_BURST, self._tokens + (now - self._then) * _RATE)
        self._then = now
        return max(0.0, -self._tokens / _RATE)

    def give(self, frame: bytes) -> None:
        """Queue a frame, or drop it where too much waits."""
        if self._bytes + len(frame) + 4 > _WAITING:
            self.dropped += 1
            return
        self._waiting.append(len(frame).to_bytes(4, "big") + frame)
        self._bytes += len(frame) + 4

    def push(self) -> bool:
        """Send what it takes; return whether more waits."""
        while self._waiting:
            first = self._waiting.popleft()
            try:
                done = self.connection.send(first)
            except BlockingIOError:
                done = 0
            self._bytes -= done
            if done < len(first):
                self._waiting.appendleft(first[done:])
                return True
        return False


class Hub:
    """Ports, keepers, and the file."""

    def __init__(self, sockets: Path, pcap: Pcap, status: Path, users: set[int]) -> None:
        self._pcap, self._status, self._users = pcap, status, users
        self._selector = selectors.DefaultSelector()
        self._ports: dict[socket.socket, Port] = {}
        self._keepers: set[socket.socket] = set()
        self._dropped, self._said, self._next_word, self._ending, self._seen = 0, "", 0.0, False, False
        self._net, self._keep = (self._listen(sockets / name) for name in ("net", "keep"))

    def _listen(self, path: Path) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        path.chmod(0o666)  # who may come is asked of each connection: other users cannot be given a file of ours
        listener.listen(_PORTS)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        return listener

    def run(self) -> None:
        """Serve until the last connection is gone."""
        began = time.monotonic()
        self._say(force=True)
        while not self._ending:
            resting = self._arrange()
            for key, events in self._selector.select(min([_STATUS_EVERY, *resting])):
                self._serve(key.fileobj, events)  # type: ignore[arg-type]
            if not self._ports and not self._keepers:
                self._ending |= self._seen or time.monotonic() - began > _ALONE
            self._say()
        self._say(force=True)

    def _arrange(self) -> list[float]:
        """Ask for what each port is ready for; return how long those that flood are left alone."""
        resting = []
        for connection, port in list(self._ports.items()):
            rest = port.rest()
            try:
                waiting = port.push()
            except OSError:
                self._leave(connection)
                continue
            wanted = (0 if rest else selectors.EVENT_READ) | (selectors.EVENT_WRITE if waiting else 0)
            with contextlib.suppress(KeyError):
                self._selector.unregister(connection)
            if wanted:
                self._selector.register(connection, wanted)
            if rest:
                resting.append(rest)
        return resting

    def _serve(self, connection: socket.socket, events: int) -> None:
        if connection in (self._net, self._keep):
            self._accept(connection)
        elif connection in self._keepers:
            self._hear(connection)
        elif events & selectors.EVENT_READ and connection in self._ports:
            self._pass(connection)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        pid, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        mine = listener is self._net
        if user not in self._users or len(self._ports if mine else self._keepers) >= (_PORTS if mine else _KEEPERS):
            connection.close()
            return
        connection.setblocking(False)
        self._seen = True
        if mine:
            self._ports[connection] = Port(connection, pid)
            self._tell([pid], self._keepers)
        else:
            self._keepers.add(connection)
            self._selector.register(connection, selectors.EVENT_READ)
            self._tell([0, *(port.pid for port in self._ports.values())], {connection})

    def _tell(self, pids: list[int], keepers: set[socket.socket]) -> None:
        for keeper in list(keepers):
            try:
                keeper.send("".join(f"port {pid}\n" for pid in pids).encode())
            except OSError:
                self._forget(keeper)

    def _hear(self, keeper: socket.socket) -> None:
        try:
            said = keeper.recv(64)
        except OSError:
            said = b""
        self._ending |= said.startswith(b"end")
        if not said:
            self._forget(keeper)

    def _forget(self, keeper: socket.socket) -> None:
        self._keepers.discard(keeper)
        self._selector.unregister(keeper)
        keeper.close()

    def _pass(self, connection: socket.socket) -> None:
        try:
            frames = self._ports[connection].frames()
        except BlockingIOError:
            return
        except OSError:
            self._leave(connection)
            return
        for frame in frames:
            self._pcap.write(frame)
            for other, port in self._ports.items():
                if other is not connection:
                    port.give(frame)

    def _leave(self, connection: socket.socket) -> None:
        self._dropped += self._ports.pop(connection).dropped
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection)
        connection.close()

    def _say(self, *, force: bool = False) -> None:
        """Write how it is into the status file, by a new file in its place."""
        if not force and time.monotonic() < self._next_word:
            return
        self._next_word = time.monotonic() + _STATUS_EVERY
        said = json.dumps(self._told())
        if said != self._said:
            with contextlib.suppress(OSError):
                new = self._status.with_suffix(".new")
                new.unlink(missing_ok=True)
                with new.open("x") as file:
                    file.write(said)
                new.replace(self._status)
                self._said = said

    def _told(self) -> dict[str, object]:
        pcap = self._pcap
        return {
            "pid": os.getpid(),
            "ports": sorted(port.pid for port in self._ports.values()),
            "frames": pcap.frames,
            "bytes": pcap.size,
            "unwritten": pcap.unwritten,
            "dropped": self._dropped + sum(port.dropped for port in self._ports.values()),
            "cut_ns": pcap.cut_ns,
            "why": pcap.why,
            "ended": self._ending,
        }


def main(sockets: str, pcap: str, status: str, limit: str, *users: str) -> None:
    """Be the hub; who called returns once the sockets are there, and the hub goes on as a child of its own session."""
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.umask(0o077)
    try:
        hub = Hub(Path(sockets), Pcap(Path(pcap), int(limit)), Path(status), {int(user) for user in users})
        if os.fork():
            os._exit(0)
        os.setsid()
        hub.run()
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
