"""A disk of a moment for tools that speak NBD: a read-only server on a unix socket, in threads of this process.

`qemu-img`, `nbdcopy` and whatever else speaks it read a capture so without a copy of it. The protocol is the fixed
newstyle of the NBD protocol document, doc/proto.md of the NetworkBlockDevice project. Refuses to write, to listen where
others can connect, and to hide damage: the client gets EIO, the owner of the server a line.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket as sockets
import stat
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from workbench.disk.nbd_disk import ServedDisk
from workbench.disk.nbd_session import Session
from workbench.errors import StoreError, UsageError
from workbench.progress import Progress, ProgressEvent, silent
from workbench.store import CaptureView

__all__ = ["MOST_CLIENTS", "Server", "serve"]

MOST_CLIENTS = 32
"""Connections at once; a further one is closed, so that memory and threads are bounded."""
_MOST_LINES = 100
_PATH_BYTES = 107  # unix(7): sun_path without its zero
_JOIN_S = 10


def serve(view: CaptureView, region: str, socket: Path | None = None, progress: Progress = silent) -> Server:
    """Serve a disk of a capture until the server is closed.

    Parameters
    ----------
    region : str
        "disk:vda" ...; clients may ask for the export "", "disk:vda" or "vda".
    socket : Path, optional
        Where to listen; must not exist, in a directory that only this user (or root) can change. By default in a
        private directory that goes with the server.
    progress : Progress
        Told a note of every damage that a client ran into.

    Returns
    -------
    Server
        Running; a context manager.

    Raises
    ------
    UsageError
        If the capture has no such region, or the socket cannot be there.
    StoreError
        If the socket cannot be made.
    MissingError, DamagedError
        If the case does not say which blocks the disk has.
    """
    return Server(ServedDisk(view.region(region)), socket, progress)


class Server:
    """A running server.

    Attributes
    ----------
    socket : Path
        Mode 0600.
    uri : str
        For `qemu-img`, `nbdinfo`, `nbdcopy` and the like.
    """

    def __init__(self, disk: ServedDisk, socket: Path | None, progress: Progress) -> None:
        self._disk = disk
        self._progress = progress
        self._lock = threading.Lock()
        self._sessions: dict[sockets.socket, threading.Thread] = {}
        self._lines: dict[str, None] = {}
        self._closed = False
        self._own = Path(tempfile.mkdtemp(prefix="rewind-nbd-")) if socket is None else None
        self.socket = (self._own / "disk.sock") if self._own else _checked(Path(socket or ""))
        self.uri = f"nbd+unix:///?socket={quote(str(self.socket))}"
        try:
            self._listener = _listen(self.socket)
        except BaseException:
            self._remove_own()
            raise
        self._inode = self.socket.lstat().st_ino
        self._accepting = threading.Thread(target=self._accept, name="nbd-accept", daemon=True)
        self._accepting.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def clients(self) -> int:
        """Return how many are connected."""
        with self._lock:
            return len(self._sessions)

    def damage(self) -> list[str]:
        """Return what clients could not be given so far, a line each, the first hundred."""
        with self._lock:
            return list(self._lines)

    def close(self) -> None:
        """End all connections and remove the socket; a second time does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            running = dict(self._sessions)
        for each in (self._listener, *running):
            with contextlib.suppress(OSError):
                each.shutdown(sockets.SHUT_RDWR)
        for thread in (self._accepting, *running.values()):
            thread.join(_JOIN_S)
        self._listener.close()
        with contextlib.suppress(OSError):
            if self.socket.lstat().st_ino == self._inode:
                self.socket.unlink()
        self._remove_own()

    def _remove_own(self) -> None:
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                time.sleep(0 if self._closed else 0.05)  # out of descriptors: others may give theirs back
                continue
            self._begin(connection)

    def _begin(self, connection: sockets.socket) -> None:
        thread = threading.Thread(target=self._talk, args=(connection,), name="nbd-client", daemon=True)
        with self._lock:
            taken = not self._closed and len(self._sessions) < MOST_CLIENTS
            if taken:
                self._sessions[connection] = thread
                thread.start()
        if not taken:
            connection.close()

    def _talk(self, connection: sockets.socket) -> None:
        try:
            Session(connection, self._disk, self._tell).run()
        except Exception as error:  # noqa: BLE001  (one client's session; the others go on, and the owner hears of it)
            self._tell(f"a client's session broke off: {type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._sessions.pop(connection, None)
            connection.close()

    def _tell(self, line: str) -> None:
        with self._lock:
            new = line not in self._lines and len(self._lines) < _MOST_LINES
            if new:
                self._lines[line] = None
        if new:
            self._progress(ProgressEvent(f"nbd of {self._disk.name}", note=line))


def _checked(path: Path) -> Path:
    """Return a path that a socket may get."""
    path = Path(os.path.abspath(path))
    if len(os.fsencode(path)) > _PATH_BYTES:
        raise UsageError("path too long for a socket", path=str(path), cure=f"At most {_PATH_BYTES} bytes.")
    if os.path.lexists(path):
        raise UsageError("file exists", path=str(path), cure="Name one that does not.")
    try:
        folder = path.parent.stat()
    except OSError as error:
        raise UsageError("no such directory", path=str(path.parent), cure="Make it first.") from error
    others = folder.st_mode & 0o022 and not folder.st_mode & stat.S_ISVTX
    if folder.st_uid not in {0, os.geteuid()} or others:
        raise UsageError(
            "others can change the socket's directory", path=str(path.parent), cure="Name a private directory."
        )
    return path


def _listen(path: Path) -> sockets.socket:
    """Listen; nobody can connect before the socket's mode is set, since that takes `listen`."""
    listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(MOST_CLIENTS)
    except OSError as error:
        listener.close()
        raise StoreError(
            f"cannot listen: {error.strerror}", path=str(path), cure="Name a shorter path, or look after its directory."
        ) from error
    return listener
