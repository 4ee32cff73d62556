"""The case's files over HTTP: who may read which, which names there are, and what ranges give."""

from __future__ import annotations

import os
import shutil
import struct
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from workbench.model import CaptureMode, CaptureRecord, GuestId, Mark, RegionKind, RegionSpec
from workbench.server.app import create_app
from workbench.service.hub import Service
from workbench.service.settings import Limits
from workbench.store import CaseStore
from workbench.store.packs import listed_packs, pack_name

OURS, THEIRS = GuestId("aaaaaaaa-1111-4111-8111-111111111111"), GuestId("bbbbbbbb-2222-4222-8222-222222222222")
NAMES = {OURS: "web1", THEIRS: "db1"}
RAM = RegionSpec("pc.ram", RegionKind.MEMORY, 1024 * 4096, 4096)


def record(store: CaseStore, guest: GuestId, seed: int) -> CaptureRecord:
    """Write one capture of noise, which does not compress: a pack of 4 MiB."""
    store.add_guest(guest, NAMES[guest])
    noise = np.random.default_rng(seed).integers(0, 256, (1024, 4096), np.uint8)
    with store.writer(guest) as writer:
        writer.move_to(None)
        with writer.begin([RAM]) as transaction:
            transaction.put("pc.ram", np.arange(1024), noise)
            made = transaction.commit(time_ns=10**18 + seed, mode=CaptureMode.MANUAL, reason="", facts={})
    store.add_mark(Mark("here", guest, made.time_ns, made.id))
    return made


def files_of(store: CaseStore, made: CaptureRecord) -> list[str]:
    """Return every file that a guest's only capture stands on."""
    before, owner = f"guests/{made.guest}", uuid.UUID(made.guest).bytes
    numbers = {pack: store.packs.table.number(pack) for pack in listed_packs(store.backend)}
    packs = [pack for pack, number in numbers.items() if store.packs.pack(number).guest == owner]
    return [
        f"{before}/guest.json",
        store.record_name(made),
        f"{before}/deltas/{made.id}.delta",
        f"{before}/marks/{store.backend.list(f'{before}/marks')[0]}",
        *map(pack_name, packs),
    ]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[str]]:
    """A case of two guests: its path, and the files of each."""
    store = CaseStore.create(tmp_path_factory.mktemp("two") / "case")
    made = [record(store, guest, seed) for seed, guest in enumerate((OURS, THEIRS))]
    ours, theirs = (files_of(store, each) for each in made)
    return store.path, ours, theirs


@pytest.fixture
def service(two: tuple[Path, list[str], list[str]], service_of: Callable[..., Service]) -> Service:
    return service_of(two[0])


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(create_app(service), raise_server_exceptions=False) as made:
        yield made


def bearer(service: Service, *guests: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {service.tokens.make(f'x{len(service.tokens.all())}', 'viewer', guests)}"}


def test_a_viewer_of_all_guests_reads_every_file_as_it_is(service, client, two) -> None:
    case, ours, theirs = two
    viewer = bearer(service)
    for name in ("case.json", *ours, *theirs):
        answer = client.get(f"/content/{name}", headers=viewer)
        assert (answer.status_code, answer.content) == (200, (case / name).read_bytes()), name


@pytest.mark.parametrize("known_by", [NAMES[OURS], OURS])
def test_a_viewer_of_one_guest_reads_its_files_and_no_other_ones(service, client, two, known_by) -> None:
    _, ours, theirs = two
    viewer = bearer(service, known_by)
    assert len(ours) == len(theirs) == 5
    assert ours[-1].startswith("packs/")
    for name in ("case.json", *ours):
        assert client.get(f"/content/{name}", headers=viewer).status_code == 200, name
    for name in theirs:
        for _ in range(2):  # also when whose it is has been learnt
            answer = client.get(f"/content/{name}", headers=viewer)
            assert (answer.status_code, answer.json()["error"]["kind"]) == (404, "HTTPError"), name


def test_what_is_not_for_a_caller_answers_as_what_is_not_there(service, client, two) -> None:
    viewer = bearer(service, "web1")
    absent = two[2][-1][:-6] + ("0" if two[2][-1][-6] != "0" else "1") + ".pack"
    hidden, none = (client.get(f"/content/{name}", headers=viewer) for name in (two[2][-1], absent))
    assert (hidden.status_code, hidden.json()) == (none.status_code, none.json())


def test_lists_hide_the_guests_of_others(service, client, two) -> None:
    def names(caller: dict[str, str], prefix: str) -> list[str] | None:
        answer = client.get("/content", params={"prefix": prefix}, headers=caller)
        return answer.json()["names"] if answer.status_code == 200 else None

    all_, one = bearer(service), bearer(service, "web1")
    assert names(all_, "guests") == [OURS, THEIRS]
    assert names(one, "guests") == [OURS]
    assert names(one, f"guests/{OURS}/captures") == [two[1][1].rpartition("/")[2]]
    assert names(one, f"guests/{THEIRS}/captures") is None
    assert names(one, "packs") is names(one, two[2][-1].rpartition("/")[0]) is None
    assert sorted(names(all_, "packs") or []) == sorted({each[-1].split("/")[1] for each in two[1:]})


def test_many_files_at_once_are_those_that_may_be_read(service, client, two) -> None:
    case, ours, theirs = two
    for name, known_by, status in ((ours[1], "web1", 200), (theirs[1], "web1", 404), (theirs[1], "db1", 200)):
        prefix, _, last = name.rpartition("/")
        answer = client.get("/contents", params={"prefix": prefix}, headers=bearer(service, known_by))
        assert answer.status_code == status
        data = (case / name).read_bytes()
        whole = struct.pack("<HI", len(last), len(data)) + last.encode() + data
        assert answer.content == whole or status == 404
        asked = {"prefix": prefix, "begin": "~"}
        assert client.get("/contents", params=asked, headers=bearer(service)).content == b""
    packs = client.get("/contents", params={"prefix": ours[-1].rpartition("/")[0]}, headers=bearer(service))
    assert (packs.status_code, len(packs.content)) == (200, 0)  # a pack is more than what comes at once


def test_lists_come_in_pages_and_hold_only_what_the_store_names(service, client, two) -> None:
    case, viewer = two[0], bearer(service)
    place = case / "guests" / OURS / "marks"
    for number in range(25):
        (place / f"{number:020d}-{'ab' * 32}.mark").write_bytes(b"x")
    for odd in ("notes.txt", ".hidden", "1-ab.mark"):
        (place / odd).write_bytes(b"x")
    try:
        seen: list[str] = []
        more, after = True, ""
        while more:
            asked = {"prefix": f"guests/{OURS}/marks", "after": after, "limit": 10}
            told = client.get("/content", params=asked, headers=viewer).json()
            more, seen = told["more"], seen + told["names"]
            after = seen[-1]
        assert seen == sorted(name for name in os.listdir(place) if len(name) == 90)
        assert len(seen) == 26
    finally:
        for path in place.iterdir():
            if path.read_bytes() == b"x":
                path.unlink()


@pytest.mark.parametrize(
    "name",
    [
        "../outside", "%2e%2e/outside", "..%2foutside", "/etc/passwd", "%2fetc%2fpasswd", "case.json/", "%2e/case.json",
        "case.json%00", "CASE.JSON", "tmp/put.1", "cache/answers/x", "clones/x/clone.json", f"guests/{OURS}",
        f"guests/{OURS}/lock", f"guests/{OURS}/turn", f"guests/{OURS}/prune.lock",
        f"guests/{OURS}/%2e%2e/{THEIRS}/guest.json",
        f"guests/{OURS.upper()}/guest.json", "guests/not-one/guest.json", f"packs/ab/{'cd' * 16}.pack",
        f"guests/{OURS}/marks/{'1' * 20}-{'g' * 64}.mark", "packs//x", "",
    ],
)  # fmt: skip
def test_names_that_the_store_does_not_give_are_not_there(service, client, two, name) -> None:
    (two[0].parent / "outside").write_text("secret")
    (two[0] / "guests" / OURS / "turn").write_text("secret")
    for caller in (bearer(service), bearer(service, "web1")):
        answer = client.get(f"/content/{name}", headers=caller, follow_redirects=False)
        assert answer.status_code in ((404, 422, 307) if not name else (404,))
        assert "secret" not in answer.text


def test_links_pipes_and_directories_are_no_files(service, client, two) -> None:
    place, viewer = two[0] / "guests" / OURS / "captures", bearer(service)
    link, pipe, folder = (place / f"{number:020d}-{'ab' * 32}.capture" for number in range(3))
    (two[0].parent / "outside").write_text("secret")
    link.symlink_to(two[0].parent / "outside")
    os.mkfifo(pipe)
    folder.mkdir()
    try:
        for path in (link, pipe, folder):
            assert client.get(f"/content/{path.relative_to(two[0])}", headers=viewer).status_code == 404
    finally:
        link.unlink()
        pipe.unlink()
        folder.rmdir()


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=5-", 5, -1),
        ("bytes=-7", -7, -1),
        ("bytes=10-99999999999", 10, -1),
        ("bytes=-99999999999", 0, -1),
        ("bytes=100-2000000", 100, 2_000_000),
    ],
)
def test_a_range_is_that_part_of_the_file(service, client, two, asked, first, last) -> None:
    name = two[1][-1]
    whole = (two[0] / name).read_bytes()
    first, last = first % len(whole), last % len(whole)
    answer = client.get(f"/content/{name}", headers={**bearer(service), "Range": asked})
    assert answer.status_code == 206
    assert answer.content == whole[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(whole)}"
    assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_a_range_outside_is_refused_and_one_that_makes_no_sense_is_none(service, client, two) -> None:
    name, viewer = two[1][-1], bearer(service)
    size = (two[0] / name).stat().st_size
    for asked in (f"bytes={size}-", "bytes=-0"):
        answer = client.get(f"/content/{name}", headers={**viewer, "Range": asked})
        assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{size}")
        assert answer.json()["error"]["message"]
    for asked in ("bytes=5-1", "bytes=-", "lines=1-2", "bytes=0-1,5-6", "bytes=a-b"):
        answer = client.get(f"/content/{name}", headers={**viewer, "Range": asked})
        assert (answer.status_code, len(answer.content)) == (200, size), asked


def test_reading_has_a_limit_of_its_own(service, client, two) -> None:
    slow = Service(service.settings.model_copy(update={"limits": Limits(requests_per_minute=20)}))
    now = 0.0
    with TestClient(create_app(slow, clock=lambda: now)) as other:
        viewer = bearer(slow)
        codes = [other.get("/content/case.json", headers=viewer).status_code for _ in range(101)]
        assert codes == [200] * 100 + [429]  # fifty times two, which is what others get at once
        assert [other.get("/capture-status", headers=viewer).status_code for _ in range(3)] == [200, 200, 429]
        now += 0.1  # 1000 a minute are more than one in this time, 20 are not
        assert other.get("/content/case.json", headers=viewer).status_code == 200
        assert other.get("/capture-status", headers=viewer).status_code == 429
    slow.close()


def test_a_link_to_a_moment_of_another_guest_is_refused(service, client, two) -> None:
    """A link names its guest itself: whoever may act on one guest must not reach another by it."""
    store = CaseStore.open(two[0])
    theirs = store.captures(THEIRS)[0].id
    secret = service.tokens.make("operator", "operator", ("web1",))
    caller = {"Authorization": f"Bearer {secret}"}
    for target in (f"wb://{store.id}/{theirs}", f"id:{theirs}"):
        for path, more in (("/clones", {}), ("/rewind", {"dry_run": True}), ("/marks", {"name": "x"})):
            answer = client.post(path, json={"guest": "web1", "target": target, **more}, headers=caller)
            assert answer.status_code == 404, (path, answer.text)
    assert [mark.name for mark in store.marks(THEIRS)] == ["here"]


def test_marks_are_set_held_and_released(service, client, two, tmp_path) -> None:
    copy = Path(shutil.copytree(two[0], tmp_path / "case"))
    own = Service(service.settings.model_copy(update={"case": copy, "state": tmp_path / "own"}))
    with TestClient(create_app(own)) as client:
        caller = {"Authorization": f"Bearer {own.tokens.make('o', 'operator')}"}
        asked = {"guest": "web1", "target": "latest", "name": "found", "note": "n"}
        made = client.post("/marks", json=asked, headers=caller)
        assert (made.status_code, made.json()["mark"]["name"]) == (201, "found")
        for kind in ("rewind", "safety", "look-back"):  # those say what happened: nobody sets them by hand
            assert client.post("/marks", json={**asked, "kind": kind}, headers=caller).status_code == 422
        client.post("/marks", json={**asked, "kind": "hold"}, headers=caller)
        ended = client.post("/marks/release", json={"guest": "web1", "target": "latest"}, headers=caller).json()
        assert [each["kind"] for each in ended["marks"]] == ["hold"]
        assert [mark.name for mark in CaseStore.open(copy).marks(OURS)] == ["found", "here"]
        noted = [(each["what"], each["result"]) for each in own.audit.lines()]
        assert noted == [(what, how) for what in ("mark", "mark", "release") for how in ("asked", "done")]
    own.close()
