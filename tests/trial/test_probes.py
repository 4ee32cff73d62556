"""Probes, against a service of the guest that answers well, badly, too much, too slowly, or points elsewhere."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from workbench.case import HttpProbe, TcpProbe
from workbench.errors import UsageError
from workbench.guest.connection import Guest
from workbench.trial.probes import Probe, probe_of, words_of

Answer = Callable[[socket.socket, bytes], None]
Serve = Callable[[Answer], str]
HEAD = b"HTTP/1.1 200 OK\r\n"


def no_guest() -> Guest:
    raise AssertionError("a probe from outside asked for the guest")


def check(probe: Probe) -> str:
    """What a probe says, told as JSON in between, as the watchman gets it."""
    again = probe_of(words_of(probe))
    assert again == probe
    return probe.check(no_guest)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Listen, and have each connection answered by a function, until the test ends."""
    with contextlib.ExitStack() as stack:

        def begin(answer: Answer) -> str:
            end = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def one(peer: socket.socket) -> None:
                with peer, contextlib.suppress(OSError):
                    answer(peer, peer.recv(65536))

            def run() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        threading.Thread(target=one, args=(end.accept()[0],), daemon=True).start()

            threading.Thread(target=run, daemon=True).start()
            stack.callback(end.shutdown, socket.SHUT_RDWR)
            return f"http://127.0.0.1:{end.getsockname()[1]}"

        yield begin


@pytest.mark.parametrize(("status", "well"), [(200, True), (204, True), (404, False), (500, False), (503, False)])
def test_a_status_from_200_to_399_is_well(serve: Serve, status: int, well: bool) -> None:
    address = serve(lambda peer, _asked: peer.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status))
    assert check(HttpProbe(address)) == ("" if well else f"{address} answers {status}")


def test_a_path_and_its_question_are_asked_for(serve: Serve) -> None:
    lines = []

    def answer(peer: socket.socket, asked: bytes) -> None:
        lines.append(asked.split(b"\r\n")[0])
        peer.sendall(HEAD + b"Content-Length: 0\r\n\r\n")

    assert check(HttpProbe(f"{serve(answer)}/health?deep=1")) == ""
    assert lines == [b"GET /health?deep=1 HTTP/1.1"]


def test_a_redirect_is_well_and_is_not_followed(serve: Serve) -> None:
    visits: list[int] = []
    elsewhere = serve(lambda _peer, _asked: visits.append(1))
    address = serve(
        lambda peer, _asked: peer.sendall(b"HTTP/1.1 302 Found\r\nLocation: %s/\r\n\r\n" % elsewhere.encode())
    )
    assert check(HttpProbe(address)) == ""
    assert visits == []


def test_a_body_without_end_is_not_read(serve: Serve) -> None:
    sent = []

    def flood(peer: socket.socket, _asked: bytes) -> None:
        peer.sendall(HEAD + b"\r\n")
        while True:
            sent.append(peer.send(bytes(1 << 16)))

    address = serve(flood)
    assert check(HttpProbe(address)) == ""
    assert sum(sent) < 64 << 20  # what the kernel takes, not what a reader would


def hang(peer: socket.socket, _asked: bytes) -> None:
    peer.recv(1)


def trickle(peer: socket.socket, _asked: bytes) -> None:
    peer.sendall(HEAD)
    while True:
        peer.sendall(b"X: y\r\n")
        time.sleep(0.05)


def go_on_for_ever(peer: socket.socket, _asked: bytes) -> None:
    while True:
        peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize(
    "answer",
    [hang, trickle, go_on_for_ever, lambda peer, _asked: peer.sendall(b"no HTTP\r\n"), lambda _peer, _asked: None],
)
def test_what_is_no_answer_in_time_is_told(serve: Serve, answer: Answer) -> None:
    address = serve(answer)
    assert check(HttpProbe(address, timeout=0.5)).startswith(f"{address} does not answer: ")


def test_a_port_that_accepts_is_well_and_one_where_nobody_listens_is_not(serve: Serve) -> None:
    port = int(serve(hang).rpartition(":")[2])
    assert check(TcpProbe("127.0.0.1", port)) == ""
    assert check(TcpProbe("127.0.0.1", 1)).startswith("127.0.0.1:1 does not accept: ")
    assert check(HttpProbe("http://127.0.0.1:1/")).startswith("http://127.0.0.1:1/ does not answer: ")


@pytest.mark.parametrize(
    "url",
    ["ftp://a/", "http:///x", "http://a:99999/", "http://a:0/", "http://a/ b", "http://a/\r\nX: y", "http://u:p@a/"],
)
def test_an_address_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="http or https"):
        words_of(HttpProbe(url))
