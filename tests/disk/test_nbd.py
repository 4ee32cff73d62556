"""A capture's disk over NBD is the captured disk for tools that are not ours; whoever lies harms only himself."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.disk import c_nbd as c
from workbench.disk import nbd, nbd_wire
from workbench.disk.export import export_disk
from workbench.disk.nbd import Server, serve
from workbench.errors import UsageError
from workbench.model import CLUSTER
from workbench.progress import ProgressEvent

from .planted import DISK, Planted, plant

SIZE = (64 << 20) + 512
CLUSTERS = [0, 1, 2, 17, 500, 501, 502, 1023, 1024]
FLAGS = 1 | 2 | 4 | 256


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("nbd") / "case", SIZE, CLUSTERS)


@pytest.fixture(scope="module")
def server(planted: Planted) -> Iterator[Server]:
    with serve(planted.view(), DISK) as running:
        yield running


def tool(*words: str | Path) -> str:
    return subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True, timeout=60).stdout


class Client:
    """The other side of the protocol, as plain as can be."""

    def __init__(self, path: Path, flags: int = 3) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        try:
            self.socket.connect(str(path))
            self.greeting = self.take(18)
            self.socket.sendall(struct.pack(">I", flags))
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def take(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = self.socket.recv(length - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def option(self, option: int, data: bytes = b"", length: int | None = None) -> list[tuple[int, bytes]]:
        """Ask, and return the answers up to the last."""
        self.socket.sendall(c.OPTION.pack(c.OPTION_MAGIC, option, len(data) if length is None else length) + data)
        answers: list[tuple[int, bytes]] = []
        while not answers or answers[-1][0] not in {1, *(reply for reply in c.Reply if reply >> 31)}:
            magic, echoed, reply, size = c.OPTION_REPLY.unpack(self.take(c.OPTION_REPLY.size))
            assert (magic, echoed) == (c.OPTION_REPLY_MAGIC, option)
            answers.append((reply, self.take(size)))
        return answers

    def go(self, name: bytes = b"", option: int = c.Option.GO) -> list[tuple[int, bytes]]:
        return self.option(option, struct.pack(">I", len(name)) + name + bytes(2))

    def context(self, *queries: bytes, option: int = c.Option.SET_META_CONTEXT) -> list[tuple[int, bytes]]:
        words = b"".join(struct.pack(">I", len(query)) + query for query in queries)
        return self.option(option, bytes(4) + struct.pack(">I", len(queries)) + words)

    def ask(self, command: int, offset: int = 0, length: int = 0, flags: int = 0, payload: bytes = b"") -> None:
        self.socket.sendall(c.REQUEST.pack(c.REQUEST_MAGIC, flags, command, 77, offset, length) + payload)

    def simple(self, length: int = 0) -> tuple[int, bytes]:
        magic, error, cookie = c.SIMPLE_REPLY.unpack(self.take(c.SIMPLE_REPLY.size))
        assert (magic, cookie) == (c.SIMPLE_REPLY_MAGIC, 77)
        return error, b"" if error else self.take(length)

    def chunks(self) -> list[tuple[int, bytes]]:
        found = []
        while True:
            magic, flags, kind, cookie, length = c.STRUCTURED_REPLY.unpack(self.take(c.STRUCTURED_REPLY.size))
            assert (magic, cookie) == (c.STRUCTURED_REPLY_MAGIC, 77)
            found.append((kind, self.take(length)))
            if flags & c.DONE:
                return found


@contextmanager
def talking(server: Server) -> Iterator[Client]:
    """A client past the handshake, with simple replies."""
    with Client(server.socket) as client:
        assert client.go()[-1][0] == c.Reply.ACK
        yield client


@contextmanager
def talking_in_chunks(server: Server) -> Iterator[Client]:
    with Client(server.socket) as client:
        assert client.option(c.Option.STRUCTURED_REPLY) == [(c.Reply.ACK, b"")]
        assert client.context(b"base:allocation")[0][1][4:] == b"base:allocation"
        assert client.go()[-1][0] == c.Reply.ACK
        yield client


def still_serves(server: Server) -> None:
    with talking(server) as client:
        client.ask(c.Command.READ, 0, 512)
        assert client.simple(512)[0] == 0


# Tools that are not ours.


def test_qemu_img_finds_no_difference_to_the_raw_export(planted: Planted, server: Server, tmp_path: Path) -> None:
    raw = export_disk(planted.view(), DISK, tmp_path / "disk.raw", "raw")
    assert "identical" in tool("qemu-img", "compare", "-f", "raw", "-F", "raw", raw, server.uri)
    assert json.loads(tool("qemu-img", "info", "--output=json", server.uri))["virtual-size"] == SIZE


def test_nbdinfo_sees_a_read_only_disk_and_its_holes(server: Server) -> None:
    told = json.loads(tool("nbdinfo", "--json", server.uri))
    (export,) = told["exports"]
    assert told["structured"]
    assert export["export-size"] == SIZE
    assert export["is_read_only"]
    assert export["can_multi_conn"]
    assert export["can_flush"]
    assert export["contexts"] == ["base:allocation"]
    assert [each["export-name"] for each in json.loads(tool("nbdinfo", "--list", "--json", server.uri))["exports"]] == [
        DISK
    ]
    extents = json.loads(tool("nbdinfo", "--map", "--json", server.uri))
    stored = {
        block
        for each in extents
        if each["type"] == 0
        for block in range(each["offset"] // CLUSTER, -(-(each["offset"] + each["length"]) // CLUSTER))
    }
    assert stored == set(CLUSTERS)
    assert sum(each["length"] for each in extents) == SIZE


def test_nbdcopy_makes_a_sparse_copy(planted: Planted, server: Server, tmp_path: Path) -> None:
    tool("nbdcopy", server.uri, tmp_path / "copy.raw")
    copy = tmp_path / "copy.raw"
    assert copy.read_bytes() == planted.read(0, SIZE)
    assert copy.stat().st_blocks * 512 <= (len(CLUSTERS) + 2) * CLUSTER


def test_two_copies_side_by_side(planted: Planted, server: Server, tmp_path: Path) -> None:
    words = [["nbdcopy", server.uri, str(tmp_path / f"{number}.raw")] for number in range(2)]
    running = [subprocess.Popen(each) for each in words]
    assert [each.wait(60) for each in running] == [0, 0]
    assert all((tmp_path / f"{number}.raw").read_bytes() == planted.read(0, SIZE) for number in range(2))


def test_qemu_img_cannot_write(server: Server) -> None:
    done = subprocess.run(
        ["qemu-io", "-f", "raw", "-c", "write 0 512", server.uri], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    still_serves(server)


# What the protocol says.


def test_greeting_and_what_the_export_is(server: Server) -> None:
    with Client(server.socket) as client:
        assert client.greeting == b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)
        told = client.go(b"vda", c.Option.INFO)
        assert told == [
            (c.Reply.INFO, struct.pack(">HQH", 0, SIZE, FLAGS)),
            (c.Reply.INFO, struct.pack(">HIII", 3, 1, 65536, 32 << 20)),
            (c.Reply.ACK, b""),
        ]
        assert client.go(b"vdb") == [(c.Reply.UNKNOWN, b"")]
        assert client.option(99, b"xyz") == [(c.Reply.UNSUPPORTED, b"")]
        assert client.option(5) == [(c.Reply.UNSUPPORTED, b"")]  # STARTTLS
        assert client.option(c.Option.LIST) == [
            (c.Reply.SERVER, struct.pack(">I", 8) + b"disk:vda"),
            (c.Reply.ACK, b""),
        ]
        assert client.option(c.Option.LIST, b"x") == [(c.Reply.INVALID, b"")]
        assert client.go(b"disk:vda")[-1] == (c.Reply.ACK, b"")


@pytest.mark.parametrize("flags", [1, 3])
def test_the_oldest_way_in(server: Server, planted: Planted, flags: int) -> None:
    with Client(server.socket, flags) as client:
        client.socket.sendall(c.OPTION.pack(c.OPTION_MAGIC, c.Option.EXPORT_NAME, 3) + b"vda")
        assert client.take(10 if flags & 2 else 134) == struct.pack(">QH", SIZE, FLAGS) + bytes(0 if flags & 2 else 124)
        client.ask(c.Command.READ, 100, 1000)
        assert client.simple(1000) == (0, planted.read(100, 1000))


def test_abort_is_acknowledged_and_ends(server: Server) -> None:
    with Client(server.socket) as client:
        assert client.option(c.Option.ABORT) == [(c.Reply.ACK, b"")]
        with pytest.raises(EOFError):
            client.take(1)


def test_contexts(server: Server) -> None:
    with Client(server.socket) as client:
        assert client.context(b"base:allocation") == [(c.Reply.INVALID, b"")]  # structured replies come first
        listing = (c.Reply.META_CONTEXT, bytes(4) + b"base:allocation")
        for queries in ((), (b"base:",), (b"base:allocation", b"qemu:dirty-bitmap:x")):
            assert client.context(*queries, option=c.Option.LIST_META_CONTEXT) == [listing, (c.Reply.ACK, b"")]
        client.option(c.Option.STRUCTURED_REPLY)
        assert client.context(b"qemu:x") == [(c.Reply.ACK, b"")]
        assert client.context() == [(c.Reply.ACK, b"")]
        client.context(b"base:allocation")
        assert client.context(b"qemu:x") == [(c.Reply.ACK, b"")]  # the later one counts
        client.go()
        client.ask(c.Command.BLOCK_STATUS, 0, 512)
        assert client.chunks()[0][0] == c.Chunk.ERROR


READS = [(0, 1), (0, SIZE - (32 << 20)), (CLUSTER - 1, 2), (2 * CLUSTER, 5 * CLUSTER), (SIZE - 1, 1), (SIZE - 700, 700)]


@pytest.mark.parametrize(("offset", "length"), READS)
def test_reads(server: Server, planted: Planted, offset: int, length: int) -> None:
    length = min(length, c.PAYLOAD_LIMIT)
    with talking(server) as client:
        client.ask(c.Command.READ, offset, length)
        assert client.simple(length) == (0, planted.read(offset, length))
    with talking_in_chunks(server) as client:
        client.ask(c.Command.READ, offset, length)
        assert put_together(client.chunks(), offset, length) == planted.read(offset, length)


def put_together(chunks: list[tuple[int, bytes]], offset: int, length: int) -> bytes:
    """The content of a structured read; every byte must come exactly once."""
    content, times = bytearray(length), np.zeros(length, np.int8)
    assert chunks[-1] == (c.Chunk.NONE, b"")
    for kind, data in chunks[:-1]:
        at = int.from_bytes(data[:8], "big") - offset
        size = len(data) - 8 if kind == c.Chunk.DATA else int.from_bytes(data[8:], "big")
        times[at : at + size] += 1
        if kind == c.Chunk.DATA:
            content[at : at + size] = data[8:]
    assert (times == 1).all()
    return bytes(content)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, SIZE - 1), st.integers(1, 300000))
def test_any_read_and_its_states(server: Server, planted: Planted, offset: int, length: int) -> None:
    length = min(length, SIZE - offset)
    with talking_in_chunks(server) as client:
        client.ask(c.Command.READ, offset, length)
        assert put_together(client.chunks(), offset, length) == planted.read(offset, length)
        client.ask(c.Command.BLOCK_STATUS, offset, length)
        ((_, states),) = client.chunks()
        assert states[:4] == struct.pack(">I", 1)
        extents = np.frombuffer(states[4:], ">u4").reshape(-1, 2)
        assert extents[:, 0].sum() == length
        at = offset
        for size, state in extents.tolist():
            assert {each in CLUSTERS for each in (at // CLUSTER, (at + size - 1) // CLUSTER)} == {state == 0}
            at += size
        client.ask(c.Command.BLOCK_STATUS, offset, length, flags=c.CommandFlag.REQ_ONE)
        assert client.chunks() == [(c.Chunk.BLOCK_STATUS, states[:12])]


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 0), (SIZE, 1), (SIZE - 1, 2), (2**64 - 1, 2**32 - 1), (0, (32 << 20) + 1)]
)
def test_what_is_outside_is_invalid(server: Server, offset: int, length: int) -> None:
    with talking(server) as client:
        client.ask(c.Command.READ, offset, length)
        assert client.simple() == (c.Error.INVAL, b"")
        client.ask(c.Command.BLOCK_STATUS, offset, length)
        assert client.simple() == (c.Error.INVAL, b"")
    with talking_in_chunks(server) as client:
        client.ask(c.Command.READ, offset, length)
        ((kind, data),) = client.chunks()
        assert (kind, data[:4]) == (c.Chunk.ERROR, struct.pack(">I", c.Error.INVAL))


def test_nothing_that_writes_is_done(server: Server) -> None:
    with talking(server) as client:
        client.ask(c.Command.WRITE, 0, 100000, payload=bytes(100000))
        assert client.simple() == (c.Error.PERM, b"")
        for command in (c.Command.TRIM, c.Command.WRITE_ZEROES):
            client.ask(command, 0, 4096)
            assert client.simple() == (c.Error.PERM, b"")
        for command in (c.Command.CACHE, 99):
            client.ask(command, 0, 4096)
            assert client.simple() == (c.Error.INVAL, b"")
        client.ask(c.Command.FLUSH)
        assert client.simple() == (0, b"")
        client.ask(c.Command.DISC)
        with pytest.raises(EOFError):
            client.take(1)


# Damage.


def test_damage_is_an_error_for_the_client_and_a_line_for_the_owner(tmp_path: Path) -> None:
    planted, told = plant(tmp_path / "case", 4 << 20, [3]), list[ProgressEvent]()
    with serve(planted.view(), DISK, progress=told.append) as server:
        planted.damage()
        for _ in range(2):
            with talking(server) as client:
                client.ask(c.Command.READ, 3 * CLUSTER, 512)
                assert client.simple() == (c.Error.IO, b"")
                client.ask(c.Command.READ, 0, 512)
                assert client.simple(512) == (0, bytes(512))
        with talking_in_chunks(server) as client:
            client.ask(c.Command.READ, 2 * CLUSTER, 2 * CLUSTER)
            (hole, _), (error, where) = client.chunks()
            assert (hole, error) == (c.Chunk.HOLE, c.Chunk.ERROR_OFFSET)
            assert where == struct.pack(">IHQ", c.Error.IO, 0, 3 * CLUSTER)
        lines = server.damage()
    assert len(lines) == 2  # each stretch once, however often it is asked for
    assert all("frame of a pack is damaged" in line for line in lines)
    assert [event.note for event in told] == lines


def test_a_whole_disk_has_none(server: Server) -> None:
    assert server.damage() == []


# Who may connect, and when it ends.


def test_the_socket_is_private_and_goes_with_the_server(planted: Planted, tmp_path: Path) -> None:
    with serve(planted.view(), DISK) as server:
        assert server.socket.lstat().st_mode & 0o777 == 0o600
        assert server.socket.parent.stat().st_mode & 0o777 == 0o700
    assert not server.socket.parent.exists()
    server.close()
    named = tmp_path / "a named one.sock"
    with serve(planted.view(), DISK, named) as server:
        assert server.uri.endswith("a%20named%20one.sock")
        assert named.lstat().st_mode & 0o777 == 0o600
        assert json.loads(tool("nbdinfo", "--json", server.uri))["exports"][0]["export-size"] == SIZE
        with pytest.raises(UsageError, match="file exists"):
            serve(planted.view(), DISK, named)
    assert os.listdir(tmp_path) == []


def test_where_a_socket_cannot_be(planted: Planted, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(UsageError, match="others can change"):
        serve(planted.view(), DISK, open_to_all / "s")
    with pytest.raises(UsageError, match="no such directory"):
        serve(planted.view(), DISK, tmp_path / "none" / "s")
    with pytest.raises(UsageError, match="too long"):
        serve(planted.view(), DISK, tmp_path / ("s" * 108))
    with pytest.raises(UsageError, match="no such region"):
        serve(planted.view(), "disk:vdz")


def test_closing_while_clients_read(planted: Planted) -> None:
    ends: list[str] = []

    def read(path: Path) -> None:
        try:
            with Client(path) as client:
                client.go()
                while True:
                    client.ask(c.Command.READ, 0, 8 << 20)
                    client.simple(8 << 20)
        except (EOFError, OSError) as error:
            ends.append(type(error).__name__)

    before = set(threading.enumerate())
    server = serve(planted.view(), DISK)
    readers = [threading.Thread(target=read, args=(server.socket,)) for _ in range(4)]
    for each in readers:
        each.start()
    idle = Client(server.socket)
    while server.clients() < 5:
        time.sleep(0.01)
    server.close()
    for each in readers:
        each.join(60)
    assert len(ends) == 4
    with pytest.raises((EOFError, OSError)):
        idle.take(1)
    idle.socket.close()
    assert server.clients() == 0
    assert not [each for each in set(threading.enumerate()) - before if each.name.startswith("nbd-")]


def test_one_too_many_is_sent_away(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbd, "MOST_CLIENTS", 2)
    with serve(planted.view(), DISK) as server:
        with Client(server.socket), Client(server.socket), pytest.raises((EOFError, OSError)):
            Client(server.socket)
        while server.clients():
            time.sleep(0.01)
        still_serves(server)


# Liars and sluggards.


def test_a_client_that_does_not_take_its_reply_or_stops_in_the_middle(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nbd_wire, "STALL_S", 10.0)
    monkeypatch.setattr(nbd_wire, "HANDSHAKE_S", 10.0)
    with serve(planted.view(), DISK) as server:
        with (
            Client(server.socket) as greets_only,
            talking(server) as deaf,
            talking(server) as half,
            talking(server) as idle,
        ):
            deaf.ask(c.Command.READ, 0, 16 << 20)
            half.socket.sendall(b"\x25\x60\x95")
            still_serves(server)
            while server.clients() > 1:
                time.sleep(0.05)
            for each in (greets_only, half):
                with pytest.raises((EOFError, OSError)):
                    each.take(1)
            idle.ask(c.Command.READ, 0, 512)  # being silent between requests is no fault
            assert idle.simple(512) == (0, planted.read(0, 512))
        assert server.damage() == []


HANDSHAKE_LIES = {
    "unknown client flags": struct.pack(">I", 0xFFFF),
    "no option": struct.pack(">I", 3) + b"GET / HTTP/1.1\r\n\r\n",
    "huge option": struct.pack(">I", 3) + c.OPTION.pack(c.OPTION_MAGIC, 7, 2**32 - 1),
    "unknown export": struct.pack(">I", 3) + c.OPTION.pack(c.OPTION_MAGIC, 1, 3) + b"vdz",
}


@pytest.mark.parametrize("lie", HANDSHAKE_LIES.values(), ids=HANDSHAKE_LIES.keys())
def test_who_lies_in_the_handshake_is_hung_up_on(server: Server, lie: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(server.socket))
        client.sendall(lie)
        assert hung_up(client)
    still_serves(server)


def hung_up(client: socket.socket) -> bool:
    """Read to the end, which must come."""
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


OPTION_LIES = {
    "name longer than the option": (c.Option.GO, struct.pack(">I", 1000) + b"vda" + bytes(2), c.Reply.INVALID),
    "name too long": (c.Option.GO, struct.pack(">I", 5000) + bytes(5002), c.Reply.TOO_BIG),
    "empty GO": (c.Option.GO, b"", c.Reply.INVALID),
    "more requests than told": (c.Option.GO, bytes(4) + struct.pack(">HH", 0, 3), c.Reply.INVALID),
    "fewer requests than told": (c.Option.INFO, bytes(4) + struct.pack(">HH", 9, 3), c.Reply.INVALID),
    "queries without end": (c.Option.LIST_META_CONTEXT, bytes(4) + b"\xff" * 4, c.Reply.TOO_BIG),
    "query past the end": (c.Option.LIST_META_CONTEXT, bytes(4) + struct.pack(">II", 1, 9), c.Reply.INVALID),
    "no count": (c.Option.LIST_META_CONTEXT, bytes(6), c.Reply.INVALID),
    "something left": (c.Option.LIST_META_CONTEXT, bytes(4) + bytes(4) + b"x", c.Reply.INVALID),
    "name not text": (c.Option.GO, struct.pack(">I", 2) + b"\xff\xfe" + bytes(2), c.Reply.UNKNOWN),
}


@pytest.mark.parametrize(("option", "data", "reply"), OPTION_LIES.values(), ids=OPTION_LIES.keys())
def test_an_option_that_cannot_be_is_refused(server: Server, option: int, data: bytes, reply: int) -> None:
    with Client(server.socket) as client:
        assert client.option(option, data) == [(reply, b"")]
        assert client.go()[-1] == (c.Reply.ACK, b"")  # and the talk goes on


def test_options_without_end_end(server: Server) -> None:
    with Client(server.socket) as client:
        one = c.OPTION.pack(c.OPTION_MAGIC, c.Option.LIST, 0)
        with pytest.raises((EOFError, OSError)):
            ask_forever(client, one)


def ask_forever(client: Client, option: bytes) -> None:
    while True:
        client.socket.sendall(option)
        client.take(2 * c.OPTION_REPLY.size + 4 + len(DISK))


@pytest.mark.parametrize(
    "lie", [b"\0" * 28, c.REQUEST.pack(c.REQUEST_MAGIC, 0, c.Command.WRITE, 77, 0, 2**32 - 1)], ids=["magic", "write"]
)
def test_who_lies_in_transmission_is_hung_up_on(server: Server, lie: bytes) -> None:
    with talking(server) as client:
        client.socket.sendall(lie)
        assert hung_up(client.socket)
    still_serves(server)


def options() -> st.SearchStrategy[bytes]:
    made = st.builds(
        lambda option, data, lie: c.OPTION.pack(c.OPTION_MAGIC, option, max(0, len(data) + lie)) + data,
        st.integers(0, 12),
        st.one_of(st.binary(max_size=40), st.just(bytes(6)), st.just(bytes(4) + b"\0\0\0\1\0\0\0\x0fbase:allocation")),
        st.sampled_from([0, 0, 0, 0, 1, -1, 2**20]),
    )
    return st.one_of(made, st.binary(max_size=40))


def requests() -> st.SearchStrategy[bytes]:
    made = st.builds(
        c.REQUEST.pack,
        st.just(c.REQUEST_MAGIC),
        st.integers(0, 2**16 - 1),
        st.integers(0, 9),
        st.integers(0, 2**64 - 1),
        st.one_of(st.integers(0, SIZE), st.integers(0, 2**64 - 1)),
        st.one_of(st.integers(0, 70000), st.integers(0, 2**32 - 1)),
    )
    return st.one_of(made, st.binary(max_size=60))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(options(), max_size=5), st.booleans(), st.lists(requests(), max_size=5))
def test_any_stream_of_bytes(server: Server, first: list[bytes], go: bool, then: list[bytes]) -> None:
    said = struct.pack(">I", 3) + b"".join(first) + c.OPTION.pack(c.OPTION_MAGIC, 7, 6) * go + bytes(6) * go
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(server.socket))
        taking = threading.Thread(target=hung_up, args=(client,))
        taking.start()
        try:
            client.sendall(said + b"".join(then))
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        taking.join(60)
        assert not taking.is_alive()  # the server let go
    assert server.damage() == []  # and nothing in it broke
