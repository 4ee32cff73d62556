"""The channel's client skips bytes of another time and never guesses; tried against a scripted far end."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading

import pytest

from workbench.demo import Supervisor
from workbench.errors import GuestGoneError, OutcomeUnknownError


def answer(name: bytes, out: bytes = b"pong") -> bytes:
    return b'{"id":"%s","rc":0,"out":"%s","t":12.5}\n' % (name, base64.b64encode(out))


@pytest.fixture
def far_end(tmp_path):
    """Give a function that starts a far end answering the first request by `script(request id)`."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    threads = []

    def start(script):
        def serve():
            peer, _ = listener.accept()
            with contextlib.suppress(OSError), peer, peer.makefile("rb") as lines:  # it may have waited long enough
                name = next(line for line in lines if line.strip()).split()[0]
                peer.sendall(script(name))
                lines.readline()

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return Supervisor(tmp_path / "s")

    yield start
    for thread in threads:
        thread.join(60)
    listener.close()


def test_skips_answers_of_another_time(far_end):
    stale = b'g":"' + b"\n" + answer(b"other-1", b"stale") + b"{}\n[1]\n"
    with far_end(lambda name: stale + answer(name)) as client:
        assert client.request("ping", 10).stdout == "pong"


def test_no_answer_is_an_unknown_outcome(far_end):
    with far_end(lambda name: answer(name)[:-5]) as client, pytest.raises(OutcomeUnknownError, match="'ping'"):
        client.ping(timeout=0.3)


def test_no_socket_is_a_gone_guest(tmp_path):
    with Supervisor(tmp_path / "nothing") as client, pytest.raises(GuestGoneError):
        client.ping()


def test_half_a_request_is_not_obeyed(guest):
    """A rewind can leave the first half of a request in the guest: it must not run, and the next one must."""
    with guest.supervisor._lock:
        guest.supervisor._socket.sendall(b"\nx-1 run 5 " + base64.b64encode(b"touch /tmp/obeyed")[:-4])
    assert guest.run("ls /tmp/obeyed").rc == 1
