"""Networks of clones: none by default, whatever the guest does; a private segment with every frame kept, on request."""

from __future__ import annotations

import contextlib
import os
import signal
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rewinding import assert_healthy, rebooted, supervisor_of
from waiting import until

from workbench.case import Case, Clone, Moment
from workbench.demo import DemoGuest, Supervisor
from workbench.errors import GuestError, UsageError
from workbench.rewind import clone as cloning
from workbench.rewind.network import network_of
from workbench.rewind.network_packets import read_frames

pytestmark = pytest.mark.guest

REBIND = (
    "d=/sys/bus/virtio/drivers/virtio_net; n=$(ls $d | grep ^virtio); echo $n >$d/unbind; echo $n >$d/bind;"
    " until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done"
)
"""Have the guest's driver let the card go and take it anew, which resets it."""


class Listener:
    """A TCP and a UDP socket of the host that keep what comes."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        heard = self

        class Keep(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                got = self.request[0] if isinstance(self.request, tuple) else self.request.recv(4096)
                heard.heard.append(got)
                if not isinstance(self.request, tuple):
                    self.request.sendall(b"from the host\n")

        self.servers = [socketserver.ThreadingTCPServer(("127.0.0.1", 0), Keep)]
        self.port = int(self.servers[0].server_address[1])
        self.servers.append(socketserver.ThreadingUDPServer(("127.0.0.1", self.port), Keep))  # type: ignore[arg-type]
        for each in self.servers:
            threading.Thread(target=each.serve_forever, daemon=True).start()

    def words(self) -> set[bytes]:
        """What came by TCP, and file names that were asked for by TFTP."""
        return {got.split(b"\0")[1].removeprefix(b"\x01") if b"\0" in got else got for got in self.heard}

    def close(self) -> None:
        for each in self.servers:
            each.shutdown()
            each.server_close()


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    with contextlib.closing(Listener()) as there:
        yield there


@pytest.fixture(scope="module")
def moment(rew_guest: DemoGuest) -> Iterator[Moment]:
    with tempfile.TemporaryDirectory(prefix="rew-test-") as name:
        Path(name).chmod(0o711)
        with Case.create(Path(name) / "case") as case, case.record(rew_guest.name) as recording:
            yield recording.capture("then", mark="then")


def reach(who: DemoGuest | Supervisor, listener: Listener, word: str) -> str:
    """Have a guest try the host by every way that it has, at once; return what it got of it."""
    port = listener.port
    tries = [
        f"echo {word} | nc -w 2 10.0.2.2 {port}",
        f"sh -c 'timeout 1 tftp -g -r {word}-udp -l /dev/null 10.0.2.2 {port}' >/dev/null",
        "ping -c 1 -W 1 10.0.2.2 | grep 'bytes from'",
    ]
    return who.run("{ " + " & ".join(tries) + " & wait; } 2>/dev/null", timeout=60).stdout


def test_a_guest_reaches_the_host_and_so_does_a_clone_that_was_asked_for_it(
    moment: Moment, rew_guest: DemoGuest, listener: Listener
) -> None:
    """The other side of the next test: what it tries does work."""

    def heard() -> bool:
        told = reach(rew_guest, listener, "guest")
        return "from the host" in told and {b"guest\n", b"guest-udp"} <= listener.words()

    until(heard, "host and guest hear each other")
    with moment.clone(network=True) as clone, supervisor_of(clone, rew_guest) as inside:
        inside.wait_ready(60)
        assert clone.record.network == "as-guest"
        until(lambda: "from the host" in reach(inside, listener, "as-guest"), "the clone hears the host")
        until(lambda: b"as-guest\n" in listener.words(), "the host hears the clone")


def test_a_clone_reaches_nothing_whatever_its_guest_does(
    moment: Moment, rew_guest: DemoGuest, listener: Listener
) -> None:
    with moment.clone() as clone, supervisor_of(clone, rew_guest) as inside:
        inside.wait_ready(60)
        assert reach(inside, listener, "clone-plain") == ""
        inside.run("ip link set eth0 down; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0")
        assert reach(inside, listener, "clone-up") == ""
        assert "no lease" in inside.run("udhcpc -i eth0 -n -q -t 1 -T 1 2>&1", timeout=30).stdout
        inside.run(REBIND + "; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0")
        assert reach(inside, listener, "clone-rebound") == ""
        # Somebody who is sure that he wants it up again finds nothing behind it.
        clone.guest.monitor.execute("set_link", name="net0", up=True)
        until(lambda: inside.run("cat /sys/class/net/eth0/carrier").stdout == "1\n", "the card has a carrier")
        assert reach(inside, listener, "clone-link") == ""
        assert "no lease" in inside.run("udhcpc -i eth0 -n -q -t 1 -T 1 2>&1", timeout=30).stdout
        assert_healthy(inside)
        rebooted(inside)
        inside.run("ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0")
        assert reach(inside, listener, "clone-rebooted") == ""
    assert b"clone-" not in b" ".join(listener.heard)
    until(lambda: "from the host" in reach(rew_guest, listener, "still"), "the guest hears the host")


@contextlib.contextmanager
def shared(moment: Moment, guest: DemoGuest, segment: str) -> Iterator[tuple[Clone, Supervisor]]:
    with moment.clone(network="shared", segment=segment) as clone, supervisor_of(clone, guest) as inside:
        inside.wait_ready(60)
        yield clone, inside


def address(inside: Supervisor, last: int) -> None:
    inside.run(f"ip addr flush dev eth0; ip link set eth0 address 52:54:00:00:00:{last:02x}")
    inside.run(f"ip addr add 10.0.2.{last}/24 dev eth0")


def test_clones_of_a_segment_reach_each_other_and_nobody_else(
    moment: Moment, rew_guest: DemoGuest, listener: Listener
) -> None:
    case = moment.case
    with (
        shared(moment, rew_guest, "one") as (_, first),
        shared(moment, rew_guest, "one") as (clone, second),
        shared(moment, rew_guest, "other") as (_, stranger),
    ):
        for number, inside in enumerate((first, second, stranger), 41):
            address(inside, number)
        first.run("(echo planted-word | nc -l -p 7000) >/dev/null 2>&1 &")
        ping = "ping -c 1 -W 1 10.0.2.15 | grep 'bytes from'"
        ask = "{ nc -w %d 10.0.2.41 7000 </dev/null & " + ping + " & wait; } 2>/dev/null"
        assert stranger.run(ask % 3).stdout == ""
        assert second.run(ask % 30).stdout == "planted-word\n"
        assert reach(second, listener, "segment") == ""
        assert b"segment" not in b" ".join(listener.heard)
        assert case.segment("one").running
        assert clone.record.segment == "one"
        packets = case.segment("one").packets()
        assert_told_truly(case, packets)
        assert not any(b"planted-word" in frame for _, frame in read_frames(case.segment("other").pcap))
        os.kill(case.segment("one").status["pid"], signal.SIGKILL)
        until(lambda: not case.segment("one").running, "the hub is dead")
        for inside in (first, second):
            assert_healthy(inside)
    until(lambda: not case.segment("other").running, "the hub ends with its last clone")
    assert [each.name for each in case.segments()] == ["one", "other"]
    assert len(case.segment("one").packets()) >= len(packets)
    case.segment("one").end()  # its hub was killed, and left its sockets


def assert_told_truly(case: Case, packets: object) -> None:
    """What the table says of the planted conversation is what was planted, and every frame is in it."""
    import pandas as pd

    assert isinstance(packets, pd.DataFrame)
    frames = [frame for _, frame in read_frames(case.segment("one").pcap)]
    word = next(number for number, frame in enumerate(frames) if b"planted-word" in frame)  # or again
    row = packets.iloc[word]
    assert (row["source"], row["source_port"], row["destination"]) == ("10.0.2.41", 7000, "10.0.2.42")
    assert (row["source_mac"], row["destination_mac"]) == ("52:54:00:00:00:29", "52:54:00:00:00:2a")
    assert (row["protocol"], row["length"]) == ("TCP", len(frames[word]))
    assert row["info"].endswith(f"data {len('planted-word') + 1}")
    assert abs(row["time"] - pd.Timestamp.now("UTC")) < pd.Timedelta("5min")
    asked = packets[
        (packets["protocol"] == "ARP") & packets["info"].str.contains(r"who has 10.0.2.41\? tell 10.0.2.42")
    ]
    assert len(asked) >= 1
    assert packets.attrs["cut"] is None


def test_a_segment_that_does_not_come_up_leaves_no_clone(moment: Moment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub dies while the clone starts."""
    case = moment.case
    start: Callable[..., object] = cloning._start

    def kill(*words: object) -> object:
        os.kill(case.segment("dead").status["pid"], signal.SIGKILL)
        return start(*words)

    monkeypatch.setattr(cloning, "_start", kill)
    with pytest.raises(GuestError, match="segment"):
        moment.clone(network="shared", segment="dead")
    assert list((case.path / "clones").iterdir()) == []
    assert case.clones() == []
    case.segment("dead").end()


def test_a_network_that_cannot_be_meant_is_refused() -> None:
    assert [network_of(each) for each in (False, True, "none", "shared")] == ["none", "as-guest", "none", "shared"]
    for asked, segment in (("bridge", None), (True, "one"), ("none", "one")):
        with pytest.raises(UsageError):
            network_of(asked, segment)


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "x" * 65, "a\n"])
def test_a_segment_has_a_plain_name(case: Case, name: str) -> None:
    with pytest.raises(UsageError):
        case.segment(name)
