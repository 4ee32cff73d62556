"""The hub of a segment, without guests: its framing, its bounds, its file, and what it makes of those who misbehave."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from workbench.errors import FormatError
from workbench.rewind.network_hub import FRAME, HEADER, RECORD
from workbench.rewind.network_packets import COLUMNS, read_frames, read_packets
from workbench.rewind.network_segment import Keeper, Segment


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Segment]:
    made = Segment(tmp_path, "s")
    yield made
    made.end()


class Port:
    """What a QEMU is to the hub."""

    def __init__(self, keeper: Keeper) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(keeper.net))
        self.socket.settimeout(10)

    def send(self, frame: bytes) -> None:
        self.socket.sendall(len(frame).to_bytes(4, "big") + frame)

    def take(self) -> bytes:
        return self._read(int.from_bytes(self._read(4), "big"))

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self.socket.recv(length - len(data))
            if not more:
                raise EOFError
            data += more
        return data


@contextlib.contextmanager
def ports(segment: Segment, count: int, limit: int = 1 << 24) -> Iterator[list[Port]]:
    with segment.kept(set(), limit) as keeper, contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            made.append(Port(keeper))
            stack.enter_context(made[-1].socket)
        until(lambda: len(segment.status["ports"]) == count, "the ports are there")
        keeper.wait_for(os.getpid())
        yield made


def test_a_frame_goes_to_all_others_and_into_the_file(segment: Segment) -> None:
    frames = [bytes([number]) * size for number, size in enumerate((1, 14, 1514, FRAME))]
    with ports(segment, 3) as (first, second, third):
        for frame in frames:
            first.send(frame)
        for other in (second, third):
            assert [other.take() for _ in frames] == frames
        second.send(b"back")
        assert first.take() == b"back"
    assert [frame for _, frame in read_frames(segment.pcap)] == [*frames, b"back"]
    until(lambda: not segment.running, "the hub ends with its last connection")
    assert segment.status["ended"]
    assert segment.status["frames"] == len(frames) + 1


@pytest.mark.parametrize("length", [0, FRAME + 1, 0xFFFFFFFF])
def test_who_breaks_the_framing_is_put_off_and_nobody_else(segment: Segment, length: int) -> None:
    with ports(segment, 3) as (bad, first, second):
        bad.socket.sendall(length.to_bytes(4, "big") + b"x" * 100)
        assert bad.socket.recv(1) == b""
        first.send(b"still here")
        assert second.take() == b"still here"


def test_who_does_not_read_loses_frames_and_holds_up_nobody(segment: Segment) -> None:
    count = 100
    with ports(segment, 3) as (sender, deaf, reader):
        for number in range(count):
            sender.send(number.to_bytes(4, "big") * 16_000)
            assert reader.take()[:4] == number.to_bytes(4, "big")
        until(lambda: segment.status["frames"] == count, "the hub has passed all on")
        dropped = segment.status["dropped"]
        assert dropped > 0
        # Of those that it takes late, each is whole.
        for _ in range(count - dropped):
            frame = deaf.take()
            assert frame == frame[:4] * 16_000
    assert len(list(read_frames(segment.pcap))) == count


def test_the_file_ends_at_its_limit_and_says_so(segment: Segment) -> None:
    with ports(segment, 2, limit=len(HEADER) + 3 * (RECORD.size + 100)) as (first, second):
        for number in range(5):
            first.send(bytes([number]) * 100)
        assert [second.take()[0] for _ in range(5)] == list(range(5))
    until(lambda: not segment.running, "the hub has ended")
    assert [frame[0] for _, frame in read_frames(segment.pcap)] == [0, 1, 2]
    packets = segment.packets()
    assert len(packets) == 3
    assert "limit" in packets.attrs["cut"]["why"]
    assert segment.status["unwritten"] == 2


def test_a_killed_hub_is_followed_by_another_in_the_same_file(segment: Segment) -> None:
    with ports(segment, 2) as (first, second):
        first.send(b"before")
        assert second.take() == b"before"
        place = Path(json.loads((segment.path / "hub.json").read_text())["sockets"])
        os.kill(segment.status["pid"], signal.SIGKILL)
        assert first.socket.recv(1) == b""
    assert place.is_dir()
    with segment.pcap.open("ab") as file:  # as if it had been writing a record
        file.write(RECORD.pack(1, 2, 100, 100) + b"torn")
    assert [frame for _, frame in read_frames(segment.pcap)] == [b"before"]
    with ports(segment, 2) as (first, second):
        first.send(b"after")
        assert second.take() == b"after"
        assert not place.exists(), "what the killed one left goes"
    assert [frame for _, frame in read_frames(segment.pcap)] == [b"before", b"after"]


def test_ending_a_segment_removes_what_a_killed_hub_left_and_nothing_else(segment: Segment, tmp_path: Path) -> None:
    segment.end()
    assert not segment.path.exists()
    with ports(segment, 1) as (first,):
        place = Path(json.loads((segment.path / "hub.json").read_text())["sockets"])
        os.kill(segment.status["pid"], signal.SIGKILL)
        assert first.socket.recv(1) == b""
    segment.end()
    assert not place.exists()
    (tmp_path / "mine").mkdir()
    for told in (str(tmp_path / "mine"), f"{place}/../mine", ["x"], None):
        (segment.path / "hub.json").write_text(json.dumps({"sockets": told}))
        segment.end()
    assert (tmp_path / "mine").is_dir()


def test_two_starters_get_one_hub(segment: Segment) -> None:
    with segment.kept(set()) as one, segment.kept(set()) as other:
        assert one.net == other.net
        place = one.net.parent
    until(lambda: not place.exists(), "its sockets are gone with it")


def test_keepers_that_come_and_go_at_once_end_nothing(segment: Segment) -> None:
    with segment.kept(set()) as keeper, ports(segment, 2) as (first, second):
        for _ in range(50):
            with socket.socket(socket.AF_UNIX) as hasty:
                hasty.connect(str(keeper.net.with_name("keep")))
        first.send(b"still here")
        assert second.take() == b"still here"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_another_user_is_sent_away(segment: Segment) -> None:
    script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(1) == b'')"
    with segment.kept(set()) as keeper:
        for name in ("net", "keep"):
            words = [sys.executable, "-I", "-S", "-c", script, str(keeper.net.with_name(name))]
            done = subprocess.run(words, user=65534, capture_output=True, text=True, timeout=120, check=True)
            assert done.stdout == "True\n", name


def test_a_strangers_links_are_not_followed(segment: Segment, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    segment.path.mkdir(parents=True)
    for name in ("hub.json", "hub.log", "status.new"):
        (segment.path / name).symlink_to(victim)
    with ports(segment, 1):
        pass
    assert victim.read_text() == "mine"


def pcap(path: Path, *frames: bytes) -> Path:
    path.write_bytes(HEADER + b"".join(RECORD.pack(7, 5, len(frame), len(frame)) + frame for frame in frames))
    return path


ETHERNET = bytes.fromhex("525400000002525400000001")
IPV4 = bytes.fromhex("450000000000000040110000" + "0a000201" + "0a000202")
QUERY = bytes.fromhex("beef01000001000000000000") + b"\x03evi\x041\x1b[m\x00\x00\x1c\x00\x01"


def udp(payload: bytes) -> bytes:
    length = 8 + len(payload)
    total = (20 + length).to_bytes(2, "big")
    ports = (5000).to_bytes(2, "big") + (53).to_bytes(2, "big")
    return ETHERNET + b"\x08\x00" + IPV4[:2] + total + IPV4[4:] + ports + length.to_bytes(2, "big") + b"\0\0" + payload


def test_a_name_in_a_packet_is_escaped(tmp_path: Path) -> None:
    [row] = read_packets(pcap(tmp_path / "p", udp(QUERY))).to_dict("records")
    assert (row["protocol"], row["source"], row["destination_port"]) == ("DNS", "10.0.2.1", 53)
    assert row["info"] == r"query AAAA evi.1\x1b[m"
    assert row["time"] == pd.Timestamp(7_000_000_005, unit="ns", tz="UTC")


@given(st.lists(st.binary(max_size=200) | st.binary(max_size=80).map(lambda tail: udp(QUERY)[:-10] + tail), max_size=5))
def test_whatever_a_guest_sends_is_a_row(frames: list[bytes]) -> None:
    kinds = (b"", *(bytes.fromhex(each) for each in ("0800", "0806", "86dd", "8100", "0800450000ff0000000040")))
    sent = [ETHERNET + kind + frame for frame in frames for kind in kinds]
    with tempfile.TemporaryDirectory() as place:
        table = read_packets(pcap(Path(place) / "p", *frames, *sent))
    assert list(table["length"]) == [len(frame) for frame in (*frames, *sent)]
    assert list(table.columns) == list(COLUMNS)
    assert all(text.isascii() and text.isprintable() for text in table["info"])


@pytest.mark.parametrize(
    "content", [b"", b"x" * 100, HEADER + RECORD.pack(1, 2, FRAME + 1, 1), HEADER + RECORD.pack(1, 1_000_000_000, 0, 0)]
)
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(FormatError):
        read_packets(tmp_path / "p")


def test_a_segment_that_was_never_used_has_no_packets(segment: Segment) -> None:
    table = segment.packets()
    assert table.empty
    assert {name: str(kind) for name, kind in table.dtypes.items()}["time"] == COLUMNS["time"]
    assert not segment.running
