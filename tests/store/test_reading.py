"""Reading: bytes, blocks, ids, runs, files and sparse files, all of the same content."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from casebuilder import DISK, GUEST, RAM, XML, Built
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import UsageError
from workbench.model import CaptureMode, RegionKind, RegionSpec
from workbench.store import CaseStore, RegionView


@pytest.fixture(scope="module", params=[RAM.name, DISK.name, XML.name])
def region(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[RegionView, bytes]:
    from casebuilder import build_case

    built = build_case(tmp_path_factory.mktemp("reading") / "case", 5)
    capture = built.ids[-1]
    return built.open().view(capture).region(request.param), built.content[capture][request.param]


@given(offset=st.integers(0, 700_000), length=st.integers(0, 200_000))
def test_read(region: tuple[RegionView, bytes], offset: int, length: int) -> None:
    view, content = region
    assert view.read(offset, length) == content[offset : offset + length]


def test_read_refuses_negatives(region: tuple[RegionView, bytes]) -> None:
    for offset, length in ((-1, 1), (0, -1)):
        with pytest.raises(UsageError, match="must not be negative"):
            region[0].read(offset, length)


@given(data=st.data())
def test_read_blocks(region: tuple[RegionView, bytes], data: st.DataObject) -> None:
    view, content = region
    size = view.spec.block_size
    indices = data.draw(st.lists(st.integers(0, view.spec.blocks - 1), max_size=40))
    found = view.read_blocks(np.array(indices, np.int64))
    assert found.shape == (len(indices), size)
    for index, block in zip(indices, found, strict=True):
        assert block.tobytes() == content[index * size : (index + 1) * size].ljust(size, b"\0")


@pytest.mark.parametrize("indices", [[-1], [10**9], [[0]]])
def test_blocks_that_are_not_there(region: tuple[RegionView, bytes], indices: list[int]) -> None:
    for act in (region[0].read_blocks, region[0].ids):
        with pytest.raises(UsageError, match="region has no such blocks"):
            act(np.array(indices))


def test_ids_and_nonzero(region: tuple[RegionView, bytes]) -> None:
    view, content = region
    size = view.spec.block_size
    blocks = [content[at : at + size].ljust(size, b"\0") for at in range(0, len(content), size)]
    expected = [blake3(block).digest() if any(block) else bytes(32) for block in blocks]
    assert [row.tobytes() for row in view.ids()] == expected
    assert [row.tobytes() for row in view.ids(np.array([2, 0]))] == [expected[2], expected[0]]
    assert view.nonzero().tolist() == [index for index, block in enumerate(blocks) if any(block)]
    view.verify()


def test_runs(region: tuple[RegionView, bytes]) -> None:
    view, content = region
    for bound in (1 << 20, 3 * view.spec.block_size, 1):
        out = np.zeros((view.spec.blocks, view.spec.block_size), np.uint8)
        last = -1
        for first, blocks in view.stored_runs(bound):
            assert first > last
            assert blocks.any(axis=1).all()
            assert blocks.nbytes <= max(bound, view.spec.block_size)
            out[first : first + len(blocks)] = blocks
            last = first
        assert out.tobytes()[: len(content)] == content
    whole = np.zeros((view.spec.blocks, view.spec.block_size), np.uint8)
    view.read_into(whole)
    assert whole.tobytes()[: len(content)] == content


def test_as_a_file(region: tuple[RegionView, bytes]) -> None:
    view, content = region
    with view.open() as file:
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        assert file.read() == content
        assert file.read(1) == b""
        assert file.seek(-5, io.SEEK_END) == len(content) - 5
        assert file.read(100) == content[-5:]
        assert file.seek(3) == 3
        assert file.seek(4, io.SEEK_CUR) == 7
        assert file.read(10) == content[7:17]
        assert file.tell() == 17
        file.seek(10, io.SEEK_END)
        assert file.read(1) == b""
        with pytest.raises(ValueError, match="cannot seek"):
            file.seek(-1)
        file.seek(0)
        buffered = io.BufferedReader(file, 1 << 16)
        assert [buffered.read(999) for _ in range(5)] == [content[at : at + 999] for at in range(0, 4995, 999)]


def test_sparse_files(region: tuple[RegionView, bytes], tmp_path: Path) -> None:
    view, content = region
    view.write_sparse(tmp_path / "path")
    with (tmp_path / "open").open("wb") as file:
        view.write_sparse(file.fileno())
    for name in ("path", "open"):
        assert (tmp_path / name).read_bytes() == content
    with pytest.raises(UsageError, match="file exists"):
        view.write_sparse(tmp_path / "path")


def test_zero_runs_are_holes(tmp_path: Path) -> None:
    store = CaseStore.create(tmp_path / "case")
    store.add_guest(GUEST, "demo")
    spec = RegionSpec("disk:vda", RegionKind.DISK, 64 << 20, 65536)
    with store.writer(GUEST) as writer, writer.begin([spec]) as transaction:
        transaction.put(spec.name, np.array([500]), np.ones((1, 65536), np.uint8))
        record = transaction.commit(time_ns=0, mode=CaptureMode.MANUAL, reason="", facts={})
    store.view(record.id).region(spec.name).write_sparse(tmp_path / "out")
    status = os.stat(tmp_path / "out")
    assert status.st_size == 64 << 20
    assert status.st_blocks * 512 <= 256 << 10


def test_frames_are_cached_within_a_bound(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    store = built.open()
    region = store.view(built.ids[0]).region(RAM.name)
    region.read(int(region.nonzero()[0]) * 4096, 4096)
    reads: list[str] = []
    get = store.backend.get
    monkeypatch.setattr(store.backend, "get", lambda *a: (reads.append(a[0]), get(*a))[1])
    region.read(int(region.nonzero()[0]) * 4096, 4096)
    assert reads == []
    cache = store.packs._frames
    for number in range(1000):
        cache.put((99, number), np.zeros((4, 65536), np.uint8), 262144)
    assert sum(size for _, size in cache._entries.values()) == cache._used <= 32 << 20


def test_a_store_that_is_bound_keeps_less_and_reads_the_same(built: Built) -> None:
    store = built.open()
    views = {ref.id: store.view(ref.id).region(RAM.name) for ref in store.captures(GUEST)}
    before = {each: view.read(0, view.spec.length) for each, view in views.items()}
    store.bound(64 << 10)
    assert {each: store.view(each).region(RAM.name).read(0, RAM.length) for each in before} == before
    packs, maps = store.packs, store.maps
    for cache, part in ((packs._frames, 4), (packs._packs, 4), (maps._deltas, 4), (maps._maps, 8), (store._records, 8)):
        held = sum(size for _, size in cache._entries.values())  # type: ignore[attr-defined]
        assert held == cache._used <= (64 << 10) // part  # type: ignore[attr-defined]
