"""A case over HTTP: the same bytes as from the directory, fetched once, and nothing taken from a server that lies."""

from __future__ import annotations

import gc
import gzip
import logging
import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from casebuilder import DISK, GUEST, RAM, Built, build_case
from filesserver import FilesServer, Handler, certificate, packed

from workbench.errors import (
    DamagedError,
    MissingError,
    OutcomeUnknownError,
    StoreError,
    UnsupportedError,
    UsageError,
    WorkbenchError,
)
from workbench.model import Mark
from workbench.store import link, opening, plan_prune
from workbench.store.address import Access, checked_address, is_address
from workbench.store.blockcache import BlockCache
from workbench.store.link import Link
from workbench.store.local import LocalBackend
from workbench.store.opening import grant, open_remote, open_store
from workbench.store.remote import BLOCK, RemoteBackend

SECRET = "wb_this-is-a-secret"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    for name in ("WORKBENCH_TOKEN", "WORKBENCH_TOKEN_FILE", "WORKBENCH_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(link, "_WAITS", (0.01, 0.01))
    monkeypatch.setattr(opening, "_links", {})
    monkeypatch.setattr(opening, "_granted", {})


@pytest.fixture
def server(built: Built) -> Iterator[FilesServer]:
    made = FilesServer(built.path)
    yield made
    made.close()


@pytest.fixture
def backend(server: FilesServer, tmp_path: Path) -> Iterator[RemoteBackend]:
    with_link = Link(server.address, Access(SECRET))
    yield RemoteBackend(with_link, BlockCache(tmp_path / "blocks"))
    with_link.close()


@pytest.fixture
def big(built: Built) -> str:
    """A pack of several blocks; its content is for whoever reads bytes only."""
    name = f"packs/ab/ab{'cd' * 15}.pack"
    (built.path / name).parent.mkdir(exist_ok=True)
    (built.path / name).write_bytes(np.random.default_rng(5).bytes(21 * BLOCK + 777))
    return name


def files(root: Path) -> list[str]:
    return [
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.suffix in (".json", ".mark", ".capture", ".delta", ".pack", ".pruned")
    ]


# The same as from the directory.


def test_every_file_range_and_list_is_the_directorys(built: Built, backend: RemoteBackend, big: str) -> None:
    local = LocalBackend(built.path)
    for name in files(built.path):
        whole = local.get(name)
        assert backend.size(name) == local.size(name)
        assert backend.get(name) == whole
        middle = len(whole) // 2
        for offset, length in ((0, 1), (middle, len(whole) - middle), (len(whole) - 1, 1), (len(whole), 0)):
            assert backend.get(name, offset, length) == local.get(name, offset, length), (name, offset, length)
    for prefix in ("guests", f"guests/{GUEST}/captures", f"guests/{GUEST}/marks", "packs", "packs/ab", "packs/none"):
        assert sorted(backend.list(prefix)) == sorted(local.list(prefix))


def test_ranges_across_blocks_are_the_files_own(built: Built, backend: RemoteBackend, big: str) -> None:
    whole = (built.path / big).read_bytes()
    for offset in (0, BLOCK - 1, BLOCK, 17 * BLOCK + 5, len(whole) - 800):
        for length in (1, 2, BLOCK, 3 * BLOCK + 1):
            wanted = whole[offset : offset + length]
            assert backend.get(big, offset, len(wanted)) == wanted


def test_what_is_not_there_or_too_short_is_told_as_of_a_directory(backend: RemoteBackend, big: str) -> None:
    size = backend.size(big)
    for name in (f"packs/ab/ab{'00' * 15}.pack", f"guests/{GUEST}/deltas/{'0' * 64}.delta"):
        with pytest.raises(MissingError):
            backend.get(name)
        with pytest.raises(MissingError):
            backend.size(name)
    for offset, length in ((size - 1, 2), (size, 1), (size + 9 * BLOCK, 1), (0, size + 1)):
        with pytest.raises(DamagedError):
            backend.get(big, offset, length)
    with pytest.raises(DamagedError):
        backend.get("case.json", 0, 10_000)
    with pytest.raises(UsageError):
        backend.get("../case.json")


def test_a_whole_case_reads_as_it_does_from_its_directory(built: Built, server: FilesServer) -> None:
    local, remote = built.open(), open_remote(Link(server.address, Access()))
    assert (remote.id, remote.guests(), remote.marks(GUEST)) == (local.id, local.guests(), local.marks(GUEST))
    assert list(remote.captures(GUEST)) == list(local.captures(GUEST))
    for capture, content in built.content.items():
        assert remote.record(capture) == local.record(capture)
        view = remote.view(capture)
        assert {each.spec.name: each.read(0, each.spec.length) for each in view.regions} == content
    changed = {name: list(found) for name, found in remote.diff(built.ids[0], built.ids[-1]).items()}
    assert changed == {name: list(found) for name, found in local.diff(built.ids[0], built.ids[-1]).items()}
    assert remote.check() == []


def test_writing_is_refused_and_says_what_does_instead(backend: RemoteBackend, server: FilesServer) -> None:
    acts = (
        lambda: backend.put("case.json", b"x"),
        lambda: backend.delete("case.json"),
        lambda: backend.delete_many(["case.json"]),
        lambda: backend.stage("x"),
        lambda: backend.sweep("x"),
        lambda: backend.lock("x"),
        lambda: backend.holder("x"),
        lambda: open_remote(Link(server.address, Access())).writer(GUEST),
    )
    for act in acts:
        with pytest.raises(UnsupportedError) as caught:
            act()
        assert "record" in caught.value.cure


def test_one_word_opens_a_case_wherever_it_is(built: Built, server: FilesServer) -> None:
    assert open_store(str(built.path)).id == open_store(server.address).id
    grant(server.address, Access(SECRET))
    open_store(server.address)
    assert [each[2] for each in server.asked] == ["", f"Bearer {SECRET}"]


# What is fetched, and how often.


def test_what_cannot_change_is_fetched_once_for_all_processes(
    server: FilesServer, backend: RemoteBackend, big: str, tmp_path: Path
) -> None:
    record = next(name for name in files(server.root) if name.endswith(".capture"))
    wanted = [backend.get(name) for name in (big, record)]
    asked = len(server.asked)
    assert asked == 4  # a block that tells the size, sixteen blocks, the rest; and a record
    other = RemoteBackend(backend.link, BlockCache(tmp_path / "blocks"))
    assert [other.get(name) for name in (big, record)] == wanted
    assert len(server.asked) == asked


def test_lists_and_deltas_are_asked_for_each_time(server: FilesServer, backend: RemoteBackend) -> None:
    delta = next(name for name in files(server.root) if name.endswith(".delta"))
    for _ in range(2):
        backend.get(delta)
        backend.list("guests")
    assert len(server.asked) == 4


def test_records_that_are_read_one_after_another_come_many_at_once(tmp_path: Path) -> None:
    built = build_case(tmp_path / "long", captures=100)
    server = FilesServer(built.path)
    try:
        remote = open_remote(Link(server.address, Access()))
        assert [remote.record(ref.id) for ref in remote.captures(GUEST)] == built.records
        assert len(server.asked) < 15
        asked = len(server.asked)
        again = open_remote(Link(server.address, Access()))
        assert [again.record(ref.id) for ref in again.captures(GUEST)] == built.records
        assert len(server.asked) == asked + 2  # the case, the list
    finally:
        server.close()


@pytest.mark.parametrize(
    "body",
    [
        b"\0",
        packed("x.capture", b"x")[:-1],
        packed("../x.capture", b"x"),
        packed("a/x.capture", b"x"),
        packed("x.delta", b"x"),
        packed("\xff.capture", b"x"),
        packed("x.capture", b"x") + b"\xff" * 6,
    ],
)
def test_many_files_that_make_no_sense_are_refused(server: FilesServer, backend: RemoteBackend, body: bytes) -> None:
    first, second = sorted(name for name in files(server.root) if name.endswith(".capture"))[:2]
    backend.get(first)
    server.odd = lie(200, body)
    with pytest.raises(StoreError, match="make no sense"):
        backend.get(second)


def test_lists_of_many_pages_are_whole(server: FilesServer, backend: RemoteBackend) -> None:
    server.page = 2
    assert sorted(backend.list(f"guests/{GUEST}/captures")) == sorted(
        path.name for path in (server.root / "guests" / GUEST / "captures").iterdir()
    )
    assert len(server.asked) == 3


def test_a_prune_meanwhile_is_followed(built: Built, server: FilesServer) -> None:
    """It puts other deltas in the place of the old and removes packs: a reader of before goes on."""
    remote = open_remote(Link(server.address, Access()))
    last = built.ids[-1]
    view = remote.view(last)
    view.region(RAM.name).read(0, 4096)
    plan_prune(built.open(), GUEST, set(built.ids[1:-1])).execute()
    remote.packs.forget()
    for region in (RAM, DISK):
        assert view.region(region.name).read(0, region.length) == built.content[last][region.name]


def test_a_damaged_entry_of_the_cache_is_not_there(backend: RemoteBackend, big: str, tmp_path: Path) -> None:
    wanted = backend.get(big)
    for number, path in enumerate((tmp_path / "blocks").glob("??/*")):
        data = path.read_bytes()
        path.write_bytes((data[:30], data[:-1], data[:-1] + bytes([data[-1] ^ 1]), b"")[number % 4])
    assert RemoteBackend(backend.link, BlockCache(tmp_path / "blocks")).get(big) == wanted


def test_the_cache_stays_within_its_bound_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path / "blocks", limit=64 * 10_000)
    for number in range(300):
        cache.put("a", number, bytes(10_000), 300 * 10_000)
        cache.get("a", 0)
        os.utime(cache._path("a", number), ns=(number * 10**9,) * 2)  # as if a second had gone by
        os.utime(cache._path("a", 0), ns=(number * 10**9 + 1,) * 2)
    used = sum(path.stat().st_size for path in (tmp_path / "blocks").glob("??/*"))
    assert used <= 1.2 * 64 * 10_000
    assert cache.get("a", 0) is not None
    assert cache.get("a", 299) is not None
    assert cache.get("a", 1) is None


def test_a_cache_that_cannot_be_written_costs_only_time(backend: RemoteBackend, big: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    blind = RemoteBackend(backend.link, BlockCache(tmp_path / "file" / "blocks"))
    assert blind.get(big) == (backend.get(big))


def test_the_cache_is_for_its_user_alone(built: Built, server: FilesServer, tmp_path: Path) -> None:
    store = open_remote(Link(server.address, Access()))
    store.view(built.ids[0]).region(RAM.name).read(0, 4096)
    assert store.path.stat().st_mode & 0o777 == 0o700
    written = [path for path in (tmp_path / "user").rglob("*") if path.is_file()]
    assert written
    assert all(store.path in path.parents for path in written)


# A connection that is lost.


def test_a_lost_connection_is_made_again(server: FilesServer, backend: RemoteBackend, big: str) -> None:
    lost: list[str] = []

    def odd(handler: Handler) -> bool:
        if len(lost) % 3 == 2:
            lost.append("")
            return False
        lost.append(handler.path)
        handler.hang_up()
        return True

    server.odd = odd
    assert backend.get(big) == (server.root / big).read_bytes()


def test_an_answer_that_breaks_off_is_asked_again_and_then_given_up(
    server: FilesServer, backend: RemoteBackend
) -> None:
    def odd(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x" * 10)
        handler.hang_up()
        return True

    server.odd = odd
    with pytest.raises(StoreError, match="cannot be reached"):
        backend.get("case.json")
    assert len(server.asked) == 3


def test_a_service_that_asks_for_patience_gets_it(server: FilesServer, backend: RemoteBackend) -> None:
    def odd(handler: Handler) -> bool:
        if len(server.asked) > 2:
            return False
        handler.say(429, b"", {"Retry-After": "0"})
        return True

    server.odd = odd
    assert backend.get("case.json") == (server.root / "case.json").read_bytes()
    assert len(server.asked) == 3


def test_an_act_is_asked_once_and_its_outcome_unknown_if_no_answer_comes(server: FilesServer) -> None:
    def odd(handler: Handler) -> bool:
        handler.hang_up()
        return True

    server.odd = odd
    with pytest.raises(OutcomeUnknownError):
        Link(server.address, Access()).act("POST", "/captures", {"guest": "web1"})
    assert len(server.asked) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library leaves a socket to gc
def test_nobody_there_is_said_as_that(built: Built, tmp_path: Path) -> None:
    gone = FilesServer(built.path)
    gone.close()
    for address in (gone.address, f"unix://{tmp_path}/none.sock"):
        cannot_be_reached(address)
    gc.collect()


def cannot_be_reached(address: str) -> None:
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        open_remote(Link(address, Access(SECRET)))
    assert caught.value.facts["service"] == address
    with pytest.raises(StoreError, match="cannot be reached"):  # nothing was done: the outcome is known
        Link(address, Access()).act("POST", "/captures", {})


# A server that lies.


def lie(status: int, body: bytes, **headers: str):
    def odd(handler: Handler) -> bool:
        handler.say(status, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return odd


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (lie(302, b"", Location="http://127.0.0.1:1/"), "redirect"),
        (lie(200, gzip.compress(bytes(1 << 20)), Content_Encoding="gzip"), "encoding"),
        (lie(200, b"x" * (21 * BLOCK + 777)), "longer|ranges"),
        (lie(206, b"x" * 10), "ranges"),
        (lie(206, b"x" * 10, Content_Range="bytes 0-9/*"), "ranges"),
        (lie(206, b"x" * 10, Content_Range="bytes 0-9/4000"), "another part"),
        (lie(206, b"x" * BLOCK, Content_Range=f"bytes 1-{BLOCK}/{10 * BLOCK}"), "another part"),
        (lie(206, b"x" * 9, Content_Range="bytes 0-9/10"), "another part"),
        (lie(206, b"", Content_Range="bytes 0-99999999999999999999/1"), "ranges"),
        (lie(401, b"?"), "does not know who asks"),
        (lie(500, b"\xff{"), "answers with an error"),
        (lie(503, b'{"error": [1]}'), "answers with an error"),
        (lie(400, b"[" * 60_000), "answers with an error"),
        (lie(400, b'{"error": {"kind": "__class__", "message": "odd"}}'), "odd"),
        (lie(400, b'{"error": {"kind": "UsageError", "message": "odd", "facts": {"self": 1, "cure": 2}}}'), "odd"),
        (lie(400, b'{"error": {"kind": "RewindError", "message": "odd", "facts": {"guest_is": 1}}}'), "odd"),
    ],
)
def test_an_answer_that_is_not_as_agreed_is_refused(server, backend, big, odd, said) -> None:
    server.odd = odd
    with pytest.raises(WorkbenchError, match=said) as caught:
        backend.get(big, 0, 10)
    assert SECRET not in str(caught.value)
    assert list((backend.cache.directory).glob("??/*")) == []


@pytest.mark.parametrize(
    "told",
    [
        b'{"names": ["../x"], "more": false}',
        b'{"names": ["a/b"], "more": false}',
        b'{"names": ["b", "a"], "more": false}',
        b'{"names": ["a", "a"], "more": false}',
        b'{"names": "abc", "more": false}',
        b'{"names": [], "more": true}',
        b'{"names": ["a"], "more": true}',
        b'["a"]',
        b"\xff",
    ],
)
def test_a_list_that_makes_no_sense_or_no_end_is_refused(server, backend, told) -> None:
    server.odd = lie(200, told)
    with pytest.raises(StoreError):
        backend.list("guests")
    assert len(server.asked) <= 2


def test_an_endless_answer_ends_at_its_bound(server: FilesServer, backend: RemoteBackend) -> None:
    def odd(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        part = bytes(1 << 20)
        while True:
            handler.wfile.write(b"100000\r\n" + part + b"\r\n")

    server.odd = odd
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match="longer than was agreed"):
            backend.get("case.json")
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_an_answer_that_trickles_is_given_up(server, backend, monkeypatch) -> None:
    monkeypatch.setattr(link, "_CALL_S", 0.3)
    monkeypatch.setattr(link, "_SLOWEST", 1e12)
    ended = threading.Event()

    def odd(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not ended.wait(0.02):
            handler.wfile.write(b" ")
        return True

    server.odd = odd
    try:
        with pytest.raises(StoreError, match="takes too long"):
            backend.get("case.json")
    finally:
        ended.set()


def read_all(built: Built, address: str) -> None:
    """Read and compare everything that a case holds."""
    remote = open_remote(Link(address, Access()))
    remote.guests()
    remote.marks(GUEST)
    for capture, content in built.content.items():
        for each in remote.view(capture).regions:
            each.verify()
            assert each.read(0, each.spec.length) == content[each.spec.name]


def test_other_content_is_caught_by_its_digest(built: Built, server: FilesServer, tmp_path, monkeypatch) -> None:
    """Whatever a server says, a byte that was changed is never returned: of any file."""
    built.open().add_mark(Mark("here", GUEST, built.records[0].time_ns, built.ids[0]))
    for number, name in enumerate(files(built.path)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"user-{number}"))
        path = built.path / name
        sound = path.read_bytes()
        middle = len(sound) // 2
        path.write_bytes(sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :])
        with pytest.raises(StoreError):
            read_all(built, server.address)
        path.write_bytes(sound)
        RemoteBackend(Link(server.address, Access()), BlockCache(tmp_path / f"user-{number}")).forget()
        read_all(built, server.address)


def test_a_file_that_changes_its_length_is_refused(server: FilesServer, backend: RemoteBackend, big: str) -> None:
    backend.get(big, 0, 10)
    with (server.root / big).open("ab") as file:
        file.write(b"more")
    with pytest.raises(DamagedError, match="changed its length"):
        backend.get(big, 5 * BLOCK, 10)


# Addresses, tokens, certificates.


@pytest.mark.parametrize(
    "address",
    [
        "http://192.0.2.1:8737", "http://example.org", "ftp://x", "https://", "https://a:b@host", "https://host/path",
        "https://host?x=1", "unix://relative", "unix:///a?b", "https://host:99999", "https://ho\nst", "/a/path", "",
    ],
)  # fmt: skip
def test_an_address_that_is_none_or_not_safe_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        Link(address, Access(SECRET))


def test_addresses_are_told_from_paths() -> None:
    assert is_address("unix:///run/x")
    assert is_address("https://host")
    assert not is_address("/run/x")
    assert not is_address(Path("unix:/run/x"))
    assert checked_address("https://host:8737/") == "https://host:8737"
    with pytest.raises(UsageError) as caught:
        checked_address(f"https://user:{SECRET}@host")
    assert SECRET not in str(caught.value)


def test_a_token_is_sent_and_is_in_no_text(server, caplog, tmp_path, monkeypatch) -> None:
    caplog.set_level(logging.DEBUG)
    with_link = Link(server.address, Access(SECRET))
    backend = RemoteBackend(with_link)
    backend.get("case.json")
    assert server.asked[-1][2] == f"Bearer {SECRET}"
    server.odd = lie(401, b"")
    with pytest.raises(UsageError) as caught:
        backend.get("case.json")
    texts = [
        caplog.text,
        str(caught.value),
        repr(with_link),
        repr(with_link.access),
        repr(backend),
        repr(vars(backend)),
    ]
    assert not [text for text in texts if SECRET in text]
    with pytest.raises(UsageError) as caught:
        Link(server.address, Access(f"{SECRET}\r\nX: y"))
    assert SECRET not in str(caught.value)


def test_the_environment_says_token_and_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Access.of_environment() == Access()
    (tmp_path / "token").write_text(f"{SECRET}\n")
    monkeypatch.setenv("WORKBENCH_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("WORKBENCH_CA", "/a/file")
    assert Access.of_environment() == Access(SECRET, "/a/file")
    monkeypatch.setenv("WORKBENCH_TOKEN", "wb_other")
    assert Access.of_environment().token == "wb_other"
    monkeypatch.setenv("WORKBENCH_TOKEN", "")
    monkeypatch.setenv("WORKBENCH_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(UsageError):
        Access.of_environment()


def test_a_certificate_is_trusted_only_where_it_was_named(built: Built, tmp_path: Path) -> None:
    made = certificate(tmp_path)
    server = FilesServer(built.path, made)
    try:
        with pytest.raises(StoreError, match="not to be trusted") as caught:
            open_remote(Link(server.address, Access(SECRET)))
        assert "WORKBENCH_CA" in caught.value.cure
        assert server.asked == []  # the token was not sent
        assert open_remote(Link(server.address, Access(SECRET, str(made[0])))).id == built.open().id
        with pytest.raises(UsageError, match="certificates"):
            Link(server.address, Access(SECRET, str(tmp_path / "none")))
    finally:
        server.close()


def test_a_certificate_of_another_name_is_not_trusted(built: Built, tmp_path: Path) -> None:
    made = certificate(tmp_path, "DNS:elsewhere.example")
    server = FilesServer(built.path, made)
    try:
        with pytest.raises(StoreError, match="not to be trusted"):
            open_remote(Link(server.address, Access(SECRET, str(made[0]))))
        assert server.asked == []
    finally:
        server.close()
