"""Formats: old ones open, foreign and newer ones are told apart, hostile ones cost nothing."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import zstandard
from blake3 import blake3
from casebuilder import DISK, GUEST, RAM, START_NS, Built, read_all

from workbench.errors import DamagedError, FormatError, UsageError
from workbench.model import CaptureId, CaptureMode, GuestId, Mark
from workbench.store import CaseStore
from workbench.store import format as bytes_of
from workbench.store.documents import canonical, encode_case
from workbench.store.maps import delta_name
from workbench.store.packing import PackWriter

DATA = Path(__file__).parents[1] / "data"
V1_GUEST = GuestId("3f2b8c1a-7d4e-4f60-9a51-c0ffee000001")


def test_the_first_format_opens(tmp_path: Path) -> None:
    expected = json.loads((DATA / "case-v1.json").read_text())
    shutil.copytree(DATA / "case-v1", tmp_path / "case")
    store = CaseStore.open(tmp_path / "case")
    assert [(guest.id, guest.name) for guest in store.guests()] == [(V1_GUEST, "first")]
    assert {ref.id for ref in store.captures(V1_GUEST)} == set(expected)
    for capture, regions in expected.items():
        found = read_all(store, capture)
        assert {name: blake3(content).hexdigest() for name, content in found.items()} == regions
    assert [(mark.name, mark.kind, mark.note) for mark in store.marks(V1_GUEST)] == [
        ("seen", "note", "a note"),
        ("alert", "alert", ""),
    ]
    assert store.record(store.captures(V1_GUEST)[7].id).reason == "capture 7: naïve"
    assert store.check() == []


def test_the_first_format_can_be_gone_on_with(tmp_path: Path) -> None:
    shutil.copytree(DATA / "case-v1", tmp_path / "case")
    store = CaseStore.open(tmp_path / "case")
    last = store.captures(V1_GUEST)[-1].id
    with store.writer(V1_GUEST) as writer:
        writer.move_to(last)
        record = writer.begin([region.spec for region in store.record(last).regions]).commit(
            time_ns=START_NS * 2, mode=CaptureMode.MANUAL, reason="", facts={}
        )
    assert read_all(store, record.id) == read_all(store, last)
    assert store.check() == []


# What is not a case.


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no case is here: the path does not exist"):
        CaseStore.open(tmp_path / "none")


def test_foreign_places(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"not a case: no case\.json"):
        CaseStore.open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(FormatError, match="not a case: not a directory"):
        CaseStore.open(tmp_path / "file")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"null", b"[" * 100_000])
def test_a_foreign_case_json(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "case.json").write_bytes(text)
    with pytest.raises(FormatError, match="file is not of a case of the workbench"):
        CaseStore.open(tmp_path)


def test_a_newer_case(tmp_path: Path) -> None:
    (tmp_path / "case.json").write_bytes(canonical({"format": 2, "case": "x"}))
    with pytest.raises(FormatError, match=r"does not know; path 'case.json'; expected 1; found 2"):
        CaseStore.open(tmp_path)


def test_newer_files(built: Built) -> None:
    record = CaseStore.record_name(built.records[5])
    delta = delta_name(GUEST, built.ids[4])
    for name, capture in ((record, 5), (delta, 4)):
        data = bytearray((built.path / name).read_bytes())
        data[7] = 2
        (built.path / name).write_bytes(data)
        with pytest.raises(FormatError, match=r"file is of a newer format; path .*; expected 1; found 2"):
            read_all(built.open(), built.ids[capture])


def test_create_needs_an_empty_place(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    CaseStore.create(tmp_path / "empty")
    for path in (tmp_path / "empty", tmp_path):
        with pytest.raises(UsageError, match="the path is in use"):
            CaseStore.create(path)


# Hostile files.


def forged_delta(
    built: Built, capture: int, body: bytes, plain: int, *, base: bytes | None = None, depth: int = 0
) -> CaptureId:
    identity = built.ids[capture]
    data = bytes_of.encode_delta(bytes.fromhex(identity), base, depth, body, plain)
    (built.path / delta_name(GUEST, identity)).write_bytes(data)
    return identity


def region_head(name: bytes, *numbers: int) -> bytes:
    return struct.pack("<I", 1) + struct.pack("<HIIIII", len(name), *numbers) + name


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (b"", "columns are cut short"),
        (struct.pack("<I", 2**32 - 1), "delta has too many regions"),
        (region_head(b"pc.ram", 4096, 300, 300, 2**32 - 1, 0), "columns are cut short"),
        (region_head(b"pc.ram", 4096, 300, 300, 0, 2**32 - 1), "columns are cut short"),
        (region_head(b"pc.ram", 4096, 300, 301, 0, 0), "delta contradicts itself"),
        (region_head(b"\xff\xfe", 4096, 300, 300, 0, 0), "is not UTF-8"),
        (region_head(b"pc.ram", 4096, 300, 300, 0, 0) + b"x", "columns are followed by something"),
        (region_head(b"pc.ram", 4096, 299, 299, 0, 0), "delta does not fit its record"),
        (region_head(b"pc.ram", 4096, 300, 300, 1, 0) + struct.pack("<3I", 300, 0, 0), "delta contradicts itself"),
        (region_head(b"pc.ram", 4096, 300, 300, 1, 0) + struct.pack("<3I", 3, 1, 0), "delta contradicts itself"),
        (region_head(b"pc.ram", 4096, 300, 300, 2, 0) + bytes(24), "delta contradicts itself"),
    ],
)
def test_forged_deltas(built: Built, plain: bytes, message: str) -> None:
    capture = forged_delta(built, 5, zstandard.compress(plain), len(plain))
    with pytest.raises(DamagedError, match=message):
        read_all(built.open(), capture)


def test_a_delta_that_would_fill_the_memory(built: Built) -> None:
    bomb = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(64 << 20))
    capture = forged_delta(built, 5, bomb, 1 << 50)
    with pytest.raises(DamagedError, match="state a wrong size"):
        read_all(built.open(), capture)
    huge = struct.pack("<I", 0xFD2FB528) + bytes([0xE0]) + struct.pack("<Q", 1 << 50)
    capture = forged_delta(built, 5, huge, 1 << 50)
    with pytest.raises(DamagedError, match=r"state a wrong size.*limit"):
        read_all(built.open(), capture)


def test_deltas_in_a_circle(built: Built) -> None:
    body, plain = bytes_of.encode_delta_body([])
    capture = forged_delta(built, 5, body, plain, base=bytes.fromhex(built.ids[4]), depth=5)
    forged_delta(built, 4, body, plain, base=bytes.fromhex(built.ids[5]), depth=5)
    with pytest.raises(DamagedError, match="does not get nearer to its root"):
        built.open().maps.chain(GUEST, capture)


def test_a_map_that_names_slots_that_are_not_there(built: Built) -> None:
    pack = next(built.path.glob("packs/*/*.pack"))
    identity = bytes.fromhex(pack.stem)
    column = np.array([0], np.uint32)
    for slot in (2**32 - 1, 40_000):
        region = bytes_of.RegionDelta(RAM.name, 4096, 300, 0, column, column + 1, column + np.uint32(slot), (identity,))
        body, plain = bytes_of.encode_delta_body([region])
        forged_delta(built, 5, body, plain)
        view = built.open().view(built.ids[5]).region(RAM.name)
        no_slot = pytest.raises(DamagedError, match="names a slot that the pack does not have")
        with no_slot:
            view.read(0, 10)
        with no_slot:
            view.read_blocks(np.array([0]))
        with no_slot:
            view.verify()


def test_a_map_that_names_blocks_of_another_size(built: Built) -> None:
    store = built.open()
    cluster = store.maps.delta(GUEST, built.ids[0]).regions[DISK.name].place[:1]
    packs, column, slot = store.packs.table.table(cluster)
    region = bytes_of.RegionDelta(RAM.name, 4096, 300, 0, np.array([0], np.uint32), column, slot, packs)
    body, plain = bytes_of.encode_delta_body([region])
    forged_delta(built, 5, body, plain)
    view = built.open().view(built.ids[5]).region(RAM.name)
    with pytest.raises(DamagedError, match="blocks have another size"):
        view.read_blocks(np.array([0]))
    with pytest.raises(DamagedError, match="names a slot that the pack does not have"):
        view.read(0, 10)


def test_chains_that_do_not_get_shorter(built: Built) -> None:
    """A block that says its base is plain, and whose base has a base itself."""
    store = built.open()
    staging = store.backend.stage("forged")
    table, places = store.packs.table, [np.zeros(1, np.uint64)]
    blocks, ids = np.ones((1, 4096), np.uint8), np.ones((1, 32), np.uint8)
    for depth in (0, 1, 1):
        writer = PackWriter(staging, table, bytes(16))
        places.append(writer.add(blocks, ids, np.array([depth], np.uint8), places[-1]))
        writer.finish()
        ((file, name),) = writer.files
        store.backend.put(name, (built.path / "tmp" / file.path.parent.name / file.path.name).read_bytes())
    out = np.zeros((1, 4096), np.uint8)
    store.packs.read(places[2], out)
    for act in (lambda: store.packs.read(places[3], out), lambda: store.packs.block(int(places[3][0]), 4096)):
        with pytest.raises(DamagedError, match="chain of blocks does not get shorter"):
            act()


def footer_of(
    depth: list[int], *, frames: list[tuple[int, int, int, int, int]], base: list[int] | None = None
) -> bytes:
    rows = np.array(frames, np.uint64).T
    columns = bytes_of.FrameColumns(
        rows[0], *(row.astype(np.uint32) for row in rows[1:]), np.zeros((len(frames), 32), np.uint8)
    )
    bases = np.array(base or [0] * len(depth), np.uint32)
    slots = bytes_of.SlotColumns(np.zeros((len(depth), 32), np.uint8), np.array(depth, np.uint8), bases, bases)
    return bytes_of.encode_footer(bytes_of.Footer(bytes(16), columns, slots, (bytes(16),)))


@pytest.mark.parametrize(
    ("depth", "frames", "base", "fact"),
    [
        ([0], [(8, 100, 4096, 0, 1)], None, "frames lie one after the other"),
        ([0], [(9, 91, 4096, 0, 1)], None, "frames lie one after the other"),
        ([0] * 2, [(8, 92, 4096, 0, 3)], None, "slots are in order"),
        ([0], [(8, 92, 4096, 0, 0)], None, "slots are in order"),
        ([0] * 65, [(8, 92, 4096, 0, 65)], None, "frames are small"),
        ([0], [(8, 92, 0, 0, 1)], None, "frames are small"),
        ([0], [(8, 92, 2**32 - 1, 0, 1)], None, "frames are small"),
        ([9], [(8, 92, 4096, 0, 1)], [1], "chains are short"),
        ([1], [(8, 92, 4096, 0, 1)], [0], "bases are named"),
        ([0], [(8, 92, 4096, 0, 1)], [1], "bases are named"),
        ([1], [(8, 92, 4096, 0, 1)], [2], "bases are named"),
    ],
)
def test_forged_footers(
    depth: list[int], frames: list[tuple[int, int, int, int, int]], base: list[int] | None, fact: str
) -> None:
    data = footer_of(depth, frames=frames, base=base)
    with pytest.raises(DamagedError, match=f"contradicts itself; path 'x'; offset 100; expected '{fact}'"):
        bytes_of.decode_footer(data, 100, blake3(data).digest(), "x")


def test_a_footer_that_is_sound_decodes() -> None:
    data = footer_of([0, 1], frames=[(8, 92, 4096, 0, 2)], base=[0, 1])
    footer = bytes_of.decode_footer(data, 100, blake3(data).digest(), "x")
    assert footer.slots.depth.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b\0c", "disk:vda/../..", "ü" * 100])
def test_names_of_regions_are_data(tmp_path: Path, name: str) -> None:
    from dataclasses import replace

    store = CaseStore.create(tmp_path / "case")
    store.add_guest(GUEST, name)
    with store.writer(GUEST) as writer, writer.begin([replace(RAM, name=name)]) as transaction:
        transaction.put(name, np.array([3]), np.ones((1, 4096), np.uint8))
        record = transaction.commit(time_ns=START_NS, mode=CaptureMode.MANUAL, reason=name, facts={name: name})
    store = CaseStore.open(tmp_path / "case")
    assert store.guests()[0].name == name
    assert store.view(record.id).region(name).read(3 * 4096, 2) == b"\1\1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case"]


@pytest.mark.parametrize(
    "guest", ["../../x", "", "3F2B8C1A-7D4E-4F60-9A51-C0FFEE000001", "3f2b8c1a7d4e4f609a51c0ffee000001"]
)
def test_guests_are_uuids(built: Built, guest: str) -> None:
    store = built.open()
    for act in (
        lambda: store.add_guest(GuestId(guest), "x"),
        lambda: store.captures(GuestId(guest)),
        lambda: store.writer(GuestId(guest)),
        lambda: store.marks(GuestId(guest)),
        lambda: store.remove_mark(Mark("x", GuestId(guest), 5)),
    ):
        with pytest.raises(UsageError, match="a guest is named by a UUID"):
            act()


def test_a_region_that_claims_to_be_huge(tmp_path: Path) -> None:
    """A record and a delta may claim 16 EiB: opening, reading and checking cost what is stored."""
    from dataclasses import replace

    store = CaseStore.create(tmp_path / "case")
    store.add_guest(GUEST, "x")
    wide = replace(DISK, length=(1 << 27) * 65536)
    with store.writer(GUEST) as writer, writer.begin([wide]) as transaction:
        transaction.put(wide.name, np.array([(1 << 27) - 1]), np.ones((1, 65536), np.uint8))
        record = transaction.commit(time_ns=START_NS, mode=CaptureMode.MANUAL, reason="", facts={})
    store = CaseStore.open(tmp_path / "case")
    region = store.view(record.id).region(wide.name)
    assert region.read(wide.length - 1, 5) == b"\1"
    assert region.nonzero().tolist() == [(1 << 27) - 1]
    region.write_sparse(tmp_path / "out")
    assert (tmp_path / "out").stat().st_size == wide.length
    assert (tmp_path / "out").stat().st_blocks * 512 < 1 << 20
    assert store.check() == []


def test_files_that_are_not_ours_are_passed_over(built: Built) -> None:
    guest = built.path / "guests" / GUEST
    (guest / "captures" / "README").write_text("x")
    (guest / "captures" / f"{'0' * 20}-{'Z' * 64}.capture").write_text("x")
    (built.path / "guests" / "lost+found").mkdir()
    (built.path / "packs" / "README").write_text("x")
    store = built.open()
    assert [ref.id for ref in store.captures(GUEST)] == built.ids
    assert len(store.guests()) == 1
    assert store.check() == []


def test_case_json_is_what_the_design_says(built: Built) -> None:
    document = json.loads((built.path / "case.json").read_bytes())
    assert set(document) == {"format", "case", "digest"}
    assert encode_case(document["case"]) == (built.path / "case.json").read_bytes()
