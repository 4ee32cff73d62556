"""Images, pieces of them, and overlays: bytes as they are, whatever the way to them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from blake3 import blake3

from workbench.disk.image import Image, Overlay, Piece, Slice, joined_ranges
from workbench.errors import DiskError, UsageError

from . import images
from .images import CLUSTER, Raw

SIZE = 40 * CLUSTER + 5120


@pytest.fixture(scope="module")
def truth() -> bytes:
    made = random.Random(1)
    parts = [made.randbytes(CLUSTER) if number % 5 else bytes(CLUSTER) for number in range(41)]
    return b"".join(parts)[:SIZE]


@pytest.fixture(scope="module")
def image(truth: bytes, tmp_path_factory: pytest.TempPathFactory) -> Image:
    place = tmp_path_factory.mktemp("image")
    (place / "disk").write_bytes(truth)
    return Image(images.view_of(place / "case", vda=place / "disk"), "disk:vda", cache=8 * CLUSTER)


class TestImage:
    def test_any_range_reads_as_it_is(self, image: Image, truth: bytes) -> None:
        made = random.Random(2)
        ranges = [(made.randrange(SIZE), made.choice([1, 512, 4096, CLUSTER, 300_000, SIZE])) for _ in range(300)]
        for offset, length in [*ranges, (0, SIZE), (SIZE, 10), (SIZE + 5, 10), (SIZE - 1, 10), (7, 0)]:
            assert image.read(offset, length) == truth[offset : offset + length]

    def test_sequential_reads_are_the_same(self, image: Image, truth: bytes) -> None:
        assert b"".join(image.read(at, 4096) for at in range(0, SIZE, 4096)) == truth

    def test_stretches_hold_all_that_is_not_zero(self, image: Image, truth: bytes) -> None:
        covered = bytearray(SIZE)
        for offset, length in image.stretches(0, SIZE):
            covered[offset : offset + length] = truth[offset : offset + length]
        assert bytes(covered) == truth
        assert sum(length for _, length in image.stretches(0, SIZE)) < SIZE
        assert list(image.stretches(CLUSTER + 10, 20)) == [(CLUSTER + 10, 20)]
        assert list(image.stretches(0, CLUSTER)) == []

    def test_what_cannot_be_meant_is_refused(self, image: Image) -> None:
        for offset, length in ((-1, 5), (5, -1)):
            with pytest.raises(DiskError, match="negative"):
                image.read(offset, length)

    def test_a_region_that_is_not_there(self, truth: bytes, tmp_path: Path) -> None:
        (tmp_path / "disk").write_bytes(truth)
        with pytest.raises(UsageError, match="no such region"):
            Image(images.view_of(tmp_path / "case", vda=tmp_path / "disk"), "disk:vdb")


class TestOverlay:
    def test_reads_what_was_written_and_leaves_what_is_beneath(self, image: Image, truth: bytes) -> None:
        overlay, expected, made = Overlay(image), bytearray(truth), random.Random(3)
        for _ in range(60):
            data = made.randbytes(made.choice([1, 100, 4096, 9000]))
            offset = made.randrange(SIZE - len(data))
            overlay.write(offset, data)
            expected[offset : offset + len(data)] = data
        for _ in range(100):
            offset, length = made.randrange(SIZE), made.choice([1, 5000, 300_000])
            assert overlay.read(offset, length) == bytes(expected[offset : offset + length])
        assert overlay.read(0, SIZE) == bytes(expected)
        assert image.read(0, SIZE) == truth
        covered = bytearray(SIZE)
        for offset, length in overlay.stretches(0, SIZE):
            covered[offset : offset + length] = expected[offset : offset + length]
        assert covered == expected

    def test_the_digest_is_of_what_changed(self, image: Image, truth: bytes) -> None:
        overlay = Overlay(image)
        overlay.write(8192 + CLUSTER, b"new")
        number = (8192 + CLUSTER) // 4096
        old = truth[number * 4096 :][:4096]
        assert overlay.changed == [number]
        assert overlay.digest() == blake3(number.to_bytes(8, "little") + b"new" + old[3:]).hexdigest()
        assert overlay.digest_under() == blake3(number.to_bytes(8, "little") + old).hexdigest()

    def test_the_last_cluster_is_as_short_as_the_disk(self) -> None:
        overlay = Overlay(Raw(bytes(5000)))
        overlay.write(4990, b"end")
        assert overlay.read(4000, 9999) == bytes(990) + b"end" + bytes(7)

    def test_it_does_not_grow_past_its_bound(self, image: Image) -> None:
        overlay = Overlay(image, most=8192)
        overlay.write(0, bytes(8192))
        with pytest.raises(DiskError, match="more than it may"):
            overlay.write(8192, b"x")
        with pytest.raises(DiskError, match="outside"):
            overlay.write(SIZE - 1, b"xx")


class TestSlice:
    def test_pieces_read_one_after_the_other(self) -> None:
        disk = Raw(bytes(range(100)))
        volume = Slice(disk, [Piece(10, 50, 10), Piece(0, 80, 5)])
        assert volume.size == 20
        assert volume.read(0, 99) == bytes([80, 81, 82, 83, 84, 0, 0, 0, 0, 0, *range(50, 60)])
        assert list(volume.places(3, 10)) == [(3, 83, 2), (5, -1, 5), (10, 50, 3)]
        overlay = Overlay(disk, cluster=8)
        volume.patch(overlay, 11, b"xy")
        assert overlay.read(50, 4) == bytes([50, *b"xy", 53])
        with pytest.raises(DiskError, match="no place"):
            volume.patch(overlay, 6, b"x")

    @pytest.mark.parametrize(
        "pieces", [[Piece(0, 95, 10)], [Piece(0, 0, 10), Piece(5, 20, 10)], [Piece(0, -1, 5)], [Piece(0, 0, 0)]]
    )
    def test_pieces_that_cannot_be_are_refused(self, pieces: list[Piece]) -> None:
        with pytest.raises(DiskError, match="cannot be"):
            Slice(Raw(bytes(100)), pieces)


def test_ranges_that_touch_become_one() -> None:
    assert list(joined_ranges([(10, 5), (0, 3), (3, 2), (12, 9)])) == [(0, 5), (10, 11)]
