"""One planted damage per test: check names it in exact words, and a read through it raises instead of lying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from casebuilder import GUEST, RAM, START_NS, Built, read_all, touched

from workbench.errors import DamagedError, FormatError, MissingError, WorkbenchError
from workbench.model import CaptureId, CaptureMode, Damage, Mark
from workbench.store import CaseStore
from workbench.store.format import DELTA_HEAD, TRAILER
from workbench.store.packs import Pack, Packs, pack_name


def flip(path: Path, offset: int) -> None:
    """Flip the lowest bit of one byte."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def only_damage(built: Built, store: CaseStore | None = None) -> Damage:
    damages = (store or built.open()).check()
    assert len(damages) == 1, damages
    return damages[0]


def pack_of(built: Built, capture: int) -> Path:
    """The file of the one pack that a capture wrote."""
    store = built.open()
    delta = store.maps.delta(GUEST, built.ids[capture])
    place = delta.regions[RAM.name].place
    newest = max(
        place >> np.uint64(32), key=lambda n: (built.path / pack_name(store.packs.table.id(int(n)))).stat().st_mtime_ns
    )
    return built.path / pack_name(store.packs.table.id(int(newest)))


def raises_or_equal(built: Built, touched: set[CaptureId], error: type[WorkbenchError] = DamagedError) -> None:
    """Captures that are touched cannot be read whole; the others are byte-equal."""
    for capture in built.ids:
        store = built.open()
        if capture in touched:
            with pytest.raises(error):
                read_all(store, capture)
        else:
            assert read_all(store, capture) == built.content[capture]


def test_a_whole_case_has_no_damage(built: Built) -> None:
    assert built.open().check() == []
    raises_or_equal(built, set())


def test_case_json(built: Built) -> None:
    store = built.open()
    text = (built.path / "case.json").read_bytes()
    at = text.index(b'"case":"') + 10
    flip(built.path / "case.json", at)
    damage = only_damage(built, store)
    assert damage.path == "case.json"
    assert damage.what.startswith("file is damaged; offset 0; expected '")
    with pytest.raises(DamagedError, match="file is damaged"):
        built.open()


@pytest.mark.parametrize("key", [b'"guest":"', b'"name":"', b'"digest":"'])
def test_guest_json(built: Built, key: bytes) -> None:
    path = built.path / f"guests/{GUEST}/guest.json"
    flip(path, path.read_bytes().index(key) + len(key) + 1)
    damage = only_damage(built)
    assert damage.path == f"guests/{GUEST}/guest.json"
    assert damage.what.startswith("file is damaged; offset 0; expected '")
    with pytest.raises(DamagedError, match="file is damaged"):
        built.open().guests()


def test_record(built: Built) -> None:
    record = built.records[3]
    name = CaseStore.record_name(record)
    data = (built.path / name).read_bytes()
    flip(built.path / name, data.index(b'"number 3"') + 3)
    found = blake3((built.path / name).read_bytes()[8:]).hexdigest()
    damage = only_damage(built)
    assert damage == Damage(
        name, f"capture's record is damaged; offset 8; expected {record.id!r}; found {found!r}", (record.id,)
    )
    raises_or_equal(built, {record.id})


def test_record_that_is_gone(built: Built) -> None:
    (built.path / CaseStore.record_name(built.records[2])).unlink()
    damage = only_damage(built)
    assert damage.path == CaseStore.record_name(built.records[3])
    assert damage.what == f"parent's record is missing; parent {built.ids[2]!r}"


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_delta(built: Built, depth: int) -> None:
    name = f"guests/{GUEST}/deltas/{built.ids[depth]}.delta"
    data = bytearray((built.path / name).read_bytes())
    at = DELTA_HEAD.size + 20
    data[at] ^= 1
    found = blake3(bytes(data[:-32])).hexdigest()
    flip(built.path / name, at)
    touched = {0: range(6), 1: [1], 4: [4, 5]}[depth]
    captures = tuple(built.ids[each] for each in touched)
    expected = f"delta is damaged; offset 0; expected '{data[-32:].hex()}'; found '{found}'"
    assert only_damage(built) == Damage(name, expected, captures)
    raises_or_equal(built, set(captures))


def test_delta_that_is_gone(built: Built) -> None:
    name = f"guests/{GUEST}/deltas/{built.ids[5]}.delta"
    (built.path / name).unlink()
    assert only_damage(built) == Damage(name, "cannot read: no such file", (built.ids[5],))
    raises_or_equal(built, {built.ids[5]}, MissingError)


def test_delta_of_another_capture(built: Built) -> None:
    first, second = (built.path / f"guests/{GUEST}/deltas/{built.ids[each]}.delta" for each in (4, 5))
    second.write_bytes(first.read_bytes())
    damage = only_damage(built)
    assert damage.what == f"delta is of another capture; offset 8; expected '{built.ids[5]}'; found '{built.ids[4]}'"
    raises_or_equal(built, {built.ids[5]})


def touched_by(built: Built, pack: Path, slots: set[int] | None) -> set[CaptureId]:
    """The captures that need a slot of a pack, found block by block and not as `check` does."""
    store = built.open()
    number = store.packs.table.number(bytes.fromhex(pack.stem))

    def needs(packs: Packs, place: int) -> bool:
        while place:
            if place >> 32 == number and (slots is None or place & 0xFFFFFFFF in slots):
                return True
            place = int(packs.pack(place >> 32).base[place & 0xFFFFFFFF])
        return False

    found = set()
    for record in built.records:
        for region in record.regions:
            places = store.maps.region(GUEST, record.id, region.spec).place.tolist()
            if any(needs(store.packs, place) for place in places):
                found.add(record.id)
    return found


@pytest.mark.parametrize("capture", [0, 1, 5])
def test_frame(built: Built, capture: int) -> None:
    pack = pack_of(built, capture)
    store = built.open()
    frames = store.packs.pack(store.packs.table.number(bytes.fromhex(pack.stem))).frames
    first, count, offset = int(frames.first[0]), int(frames.count[0]), int(frames.offset[0])
    touched = touched_by(built, pack, set(range(first, first + count)))
    flip(pack, offset + int(frames.length[0]) // 2)
    damage = only_damage(built)
    assert damage.path == str(pack.relative_to(built.path))
    found = blake3(pack.read_bytes()[offset : offset + int(frames.length[0])]).hexdigest()
    assert damage.what == (
        f"frame of a pack is damaged; offset {offset}; expected '{frames.digest[0].tobytes().hex()}'; found '{found}'"
    )
    assert set(damage.captures) == touched
    raises_or_equal(built, touched)


def test_a_base_is_needed_by_what_rests_on_it(tmp_path: Path) -> None:
    """The second and third capture refer to no block of the damaged frame, but theirs are XORed against one."""
    store = CaseStore.create(tmp_path / "case")
    store.add_guest(GUEST, "demo")
    rng, ids = np.random.default_rng(1), []
    page = rng.integers(0, 256, (1, 4096), dtype=np.uint8)
    with store.writer(GUEST) as writer:
        for number in range(4):
            with writer.begin([RAM]) as transaction:
                transaction.put(RAM.name, np.array([0]), page)
                ids.append(transaction.commit(time_ns=number, mode=CaptureMode.MANUAL, reason="", facts={}).id)
            page = touched(rng, page) if number < 2 else rng.integers(0, 256, (1, 4096), dtype=np.uint8)
    place = store.maps.region(GUEST, ids[0], RAM).place[0]
    flip(store.path / pack_name(store.packs.table.id(int(place) >> 32)), 100)
    (damage,) = CaseStore.open(store.path).check()
    assert damage.what.startswith("frame of a pack is damaged; offset 8; ")
    assert damage.captures == tuple(ids[:3])
    for capture in ids[:3]:
        with pytest.raises(DamagedError, match="frame of a pack is damaged"):
            read_all(CaseStore.open(store.path), capture)
    read_all(CaseStore.open(store.path), ids[3])


def test_footer(built: Built) -> None:
    pack = pack_of(built, 2)
    touched = touched_by(built, pack, None)
    size = pack.stat().st_size
    offset, length, digest = TRAILER.unpack(pack.read_bytes()[-TRAILER.size :])
    flip(pack, offset + length // 2)
    found = blake3(pack.read_bytes()[offset : offset + length]).hexdigest()
    damage = only_damage(built)
    assert damage.path == str(pack.relative_to(built.path))
    assert damage.what == f"pack's footer is damaged; offset {offset}; expected '{digest.hex()}'; found '{found}'"
    assert set(damage.captures) == touched
    assert size == pack.stat().st_size
    raises_or_equal(built, touched)


@pytest.mark.parametrize("byte", range(TRAILER.size))
def test_any_byte_of_the_trailer(built: Built, byte: int) -> None:
    pack = pack_of(built, 2)
    flip(pack, pack.stat().st_size - TRAILER.size + byte)
    damage = only_damage(built)
    assert damage.path == str(pack.relative_to(built.path))
    assert damage.what.startswith("pack's ")


@pytest.mark.parametrize("byte", range(8))
def test_any_byte_of_a_packs_magic(built: Built, byte: int) -> None:
    pack = pack_of(built, 2)
    touched = touched_by(built, pack, None)
    flip(pack, byte)
    damage = only_damage(built)
    assert damage.path == str(pack.relative_to(built.path))
    assert damage.what.startswith("file has the wrong magic; offset 0; expected b'RWpack")
    assert set(damage.captures) == touched
    raises_or_equal(built, touched)


def test_pack_that_is_gone(built: Built) -> None:
    pack = pack_of(built, 1)
    touched = touched_by(built, pack, None)
    pack.unlink()
    damage = only_damage(built)
    assert (damage.path, damage.what) == (str(pack.relative_to(built.path)), "cannot look at: no such file")
    assert set(damage.captures) == touched
    raises_or_equal(built, touched, MissingError)


@pytest.mark.parametrize("kind", ["record", "delta", "pack", "case.json", "guest.json", "mark"])
@pytest.mark.parametrize("cut", ["half", "last byte", "empty", "longer"])
def test_files_of_another_length(built: Built, kind: str, cut: str) -> None:
    store = built.open()
    mark = Mark("here", GUEST, START_NS)
    store.add_mark(mark)
    path = {
        "record": lambda: built.path / CaseStore.record_name(built.records[4]),
        "delta": lambda: built.path / f"guests/{GUEST}/deltas/{built.ids[4]}.delta",
        "pack": lambda: pack_of(built, 4),
        "case.json": lambda: built.path / "case.json",
        "guest.json": lambda: built.path / f"guests/{GUEST}/guest.json",
        "mark": lambda: next((built.path / f"guests/{GUEST}/marks").iterdir()),
    }[kind]()
    data = path.read_bytes()
    path.write_bytes(
        {"half": data[: len(data) // 2], "last byte": data[:-1], "empty": b"", "longer": data + b"\0"}[cut]
    )
    damage = only_damage(built, store)
    assert damage.path == str(path.relative_to(built.path))
    if kind in {"record", "delta", "pack"}:
        raises_or_equal(built, set(damage.captures))
        assert built.ids[4] in damage.captures


def test_mark(built: Built) -> None:
    store = built.open()
    store.add_mark(Mark("here", GUEST, START_NS, built.ids[0], "note", "text"))
    path = next((built.path / f"guests/{GUEST}/marks").iterdir())
    flip(path, path.read_bytes().index(b"text"))
    damage = only_damage(built)
    expected = path.name[21:85]
    found = blake3(path.read_bytes()).hexdigest()
    assert damage == Damage(
        str(path.relative_to(built.path)), f"mark is damaged; offset 0; expected {expected!r}; found {found!r}"
    )
    with pytest.raises(DamagedError, match="mark is damaged"):
        store.marks(GUEST)


def every_byte(path: Path) -> list[int]:
    """Enough offsets to meet every field: all of a small file, a sample of a large one."""
    size = path.stat().st_size
    return sorted({*range(min(size, 160)), *range(max(0, size - 160), size), *range(0, size, max(1, size // 60))})


@pytest.mark.parametrize(
    "pick",
    [lambda b: b.path / f"guests/{GUEST}/deltas/{b.ids[3]}.delta", lambda b: pack_of(b, 3)],
    ids=["delta", "pack"],
)
def test_no_byte_may_change(built: Built, pick: Callable[[Built], Path]) -> None:
    """Whichever byte is flipped, the capture cannot be read whole any more."""
    path = pick(built)
    whole = path.read_bytes()
    for offset in every_byte(path):
        flip(path, offset)
        with pytest.raises((DamagedError, FormatError)):
            read_all(built.open(), built.ids[3])
        path.write_bytes(whole)
    assert read_all(built.open(), built.ids[3]) == built.content[built.ids[3]]


def test_wrong_content_behind_right_digests(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """A footer that claims another id: every digest of bytes fits, and yet a block is not what it is said to be."""
    forged = str(pack_of(built, 0).relative_to(built.path))
    load = Packs._load

    def load_forged(self: Packs, number: int) -> Pack:
        pack = load(self, number)
        if pack.name == forged:
            ids = pack.ids.copy()
            ids[5] ^= 1
            pack = replace(pack, ids=ids)
        return pack

    monkeypatch.setattr(Packs, "_load", load_forged)
    found = [(damage.path, damage.what) for damage in built.open().check()]
    assert (forged, "blocks of a pack are not what their ids say; slots [5]") in found
    with pytest.raises(DamagedError, match="region is not what its capture's record says"):
        built.open().view(built.ids[0]).region(RAM.name).verify()
