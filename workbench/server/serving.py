"""Run the service until it is told to end: its listeners, its signals, its last words.

Refuses to begin where another service of the same state directory runs, and leaves no socket behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from workbench.errors import GuestBusyError, UsageError
from workbench.server.app import create_app
from workbench.server.callers import PeerProtocol
from workbench.service.files import private_directory
from workbench.service.hub import Service
from workbench.service.settings import Settings

__all__ = ["serve"]

_END_S = 10


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then recorders finish what they do and detach.

    Raises
    ------
    GuestBusyError
        If another service runs with this state directory.
    UsageError
        If an address cannot be listened on.
    """
    with _alone(settings.state):
        service = Service(settings)
        try:
            with _sockets(settings) as sockets:
                service.start()
                asyncio.run(_run(service, sockets))
        finally:
            service.close()


async def _run(service: Service, sockets: list[tuple[socket.socket, bool]]) -> None:
    app, listen = create_app(service), service.settings.listen
    servers = []
    for end, secure in sockets:
        config = uvicorn.Config(
            app,
            http=PeerProtocol,
            ws="none",
            lifespan="off",
            proxy_headers=False,  # else a header could claim another user
            server_header=False,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=_END_S,
            ssl_certfile=str(listen.certificate) if secure else None,
            ssl_keyfile=str(listen.key) if secure else None,
        )
        servers.append((_Server(config), end))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _end, [server for server, _ in servers])
    await asyncio.gather(*(server.serve([end]) for server, end in servers))


class _Server(uvicorn.Server):
    """One listener; signals are for all of them together, and must not end the process before its recorders did."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _end(servers: list[_Server]) -> None:
    for server in servers:
        server.force_exit = server.should_exit
        server.should_exit = True


@contextlib.contextmanager
def _sockets(settings: Settings) -> Iterator[list[tuple[socket.socket, bool]]]:
    """Give the sockets that are listened on, and whether each speaks TLS."""
    listen = settings.listen
    with contextlib.ExitStack() as stack:
        found = []
        if listen.socket is not None:
            found.append((stack.enter_context(_unix(listen.socket)), False))
        if listen.port:
            found.append((stack.enter_context(_tcp(listen.address, listen.port)), listen.certificate is not None))
        yield found


@contextlib.contextmanager
def _unix(path: Path) -> Iterator[socket.socket]:
    """Listen on a unix socket that everybody may connect to: the kernel says who does, and roles are given by that."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # we are alone, so it is a dead service's
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            end.bind(str(path))
            path.chmod(0o666)
            end.listen(128)
        except OSError as error:
            raise UsageError(f"cannot listen: {error.strerror}", path=str(path), cure="Name another socket.") from error
        yield end
    finally:
        end.close()
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _tcp(address: str, port: int) -> Iterator[socket.socket]:
    try:
        end = socket.create_server((address, port), backlog=128)
    except OSError as error:
        raise UsageError(
            f"cannot listen: {error.strerror}", address=address, port=port, cure="Name another port."
        ) from error
    with end:
        yield end


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Hold the lock of a state directory; it dies with its holder."""
    path = private_directory(state) / "lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise GuestBusyError("a service runs already", state=str(state), cure="End it first.") from error
        yield
    finally:
        os.close(handle)
