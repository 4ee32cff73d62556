"""QMP over a socket: what the other end says is held against the protocol, and nothing is awaited without a limit."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from workbench.errors import GuestError, GuestGoneError, MonitorError, OutcomeUnknownError
from workbench.guest.socket_monitor import SocketMonitor


@pytest.fixture
def ends() -> Iterator[tuple[SocketMonitor, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield SocketMonitor(ours, "guest"), theirs


def test_events_before_an_answer_are_kept(ends: tuple[SocketMonitor, socket.socket]) -> None:
    monitor, theirs = ends
    theirs.sendall(b'{"event": "STOP"}\n{"return": {"status": "paused"}}\n')
    assert monitor.execute("query-status", limit=5) == {"status": "paused"}
    assert theirs.recv(1000) == b'{"execute": "query-status", "arguments": {}}\n'
    monitor.wait_event("STOP", 5)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b'{"error": {"class": "GenericError", "desc": "no"}}\n', MonitorError),
        (b"no JSON\n", OutcomeUnknownError),
        (b"[1]\n", OutcomeUnknownError),
        (b"\xff\n", OutcomeUnknownError),
        (b"[" * 100_000 + b"\n", OutcomeUnknownError),
        (b'{"return"', OutcomeUnknownError),
        (b"", OutcomeUnknownError),
    ],
)
def test_what_is_no_answer_is_an_error_of_ours(
    ends: tuple[SocketMonitor, socket.socket], said: bytes, error: type[GuestError]
) -> None:
    monitor, theirs = ends
    theirs.sendall(said)
    with pytest.raises(error):
        monitor.execute("query-status", limit=0.2)


def test_an_end_that_is_gone_is_told(ends: tuple[SocketMonitor, socket.socket]) -> None:
    monitor, theirs = ends
    theirs.close()
    with pytest.raises(GuestGoneError):
        monitor.execute("query-status", limit=5)
