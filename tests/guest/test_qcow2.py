"""Our qcow2 images against qemu-img's own word, and images that lie."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import FormatError
from workbench.guest.qcow2 import SNAPSHOT_TAG, read_clusters, write_empty_image, write_state_image
from workbench.model import CLUSTER


@pytest.fixture
def image(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    path = tmp_path / "image.qcow2"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    yield path, descriptor
    os.close(descriptor)


def qemu_img(*words: object) -> str:
    done = subprocess.run(["qemu-img", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("size", [1 << 20, 512 << 20, (512 << 20) + 4096, 10 << 30, 3 << 40])
def test_an_empty_image_is_sound_and_of_its_size(image: tuple[Path, int], size: int) -> None:
    path, descriptor = image
    write_empty_image(descriptor, size)
    assert json.loads(qemu_img("info", "--output=json", path))["virtual-size"] == size
    assert json.loads(qemu_img("check", "--output=json", path))["check-errors"] == 0
    clusters = read_clusters(descriptor)
    assert len(clusters.data) == len(clusters.zeros) == 0


def test_what_qemu_writes_is_read_back(image: tuple[Path, int]) -> None:
    path, descriptor = image
    write_empty_image(descriptor, 3 << 30)
    last = (3 << 30) // CLUSTER - 1
    writes = [
        "write -q -P 7 0 64k",
        "write -q -P 8 1G 128k",
        "write -q -z 640k 64k",
        f"write -q -P 9 {last * CLUSTER} 64k",
    ]
    words = [word for each in writes for word in ("-c", each)]
    subprocess.run(["qemu-io", "-f", "qcow2", *words, str(path)], check=True, capture_output=True)
    clusters = read_clusters(descriptor)
    assert clusters.data.tolist() == [0, 16384, 16385, last]
    assert clusters.zeros.tolist() == [10]
    content = clusters.read(descriptor, slice(0, 4))
    assert [np.unique(block).tolist() for block in content] == [[7], [8], [8], [9]]


@pytest.mark.parametrize("length", [1, 100_000, CLUSTER, 5_000_000])
def test_a_state_image_holds_one_snapshot_of_that_state(image: tuple[Path, int], length: int) -> None:
    path, descriptor = image
    stream = np.random.default_rng(1).integers(1, 256, length, dtype=np.uint8).tobytes()
    write_state_image(descriptor, stream)
    [snapshot] = json.loads(qemu_img("info", "--output=json", path))["snapshots"]
    assert (snapshot["name"], snapshot["vm-state-size"]) == (SNAPSHOT_TAG, length)
    assert json.loads(qemu_img("check", "--output=json", path))["check-errors"] == 0
    assert stream in path.read_bytes()


def test_a_state_beyond_one_table_is_refused(image: tuple[Path, int]) -> None:
    with pytest.raises(FormatError, match="too large"):
        write_state_image(image[1], bytes((512 << 20) + 1))


def test_a_table_outside_the_image_is_an_error(image: tuple[Path, int]) -> None:
    _path, descriptor = image
    write_empty_image(descriptor, 1 << 30)
    os.pwrite(descriptor, struct.pack(">Q", 1 << 40), 3 * CLUSTER)
    with pytest.raises(FormatError, match="outside"):
        read_clusters(descriptor)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 4 * CLUSTER))
def test_garbage_is_an_error_or_an_answer_and_nothing_else(garbage: bytes, at: int) -> None:
    descriptor = os.memfd_create("image")
    try:
        write_empty_image(descriptor, 1 << 30)
        os.pwrite(descriptor, garbage, at)
        read_clusters(descriptor)
    except FormatError:
        pass
    finally:
        os.close(descriptor)
