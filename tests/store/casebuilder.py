"""Small cases with known content, for the tests of the store; nothing random that a seed does not fix."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench.model import CaptureId, CaptureMode, CaptureRecord, GuestId, RegionKind, RegionSpec
from workbench.store import CaseStore, Writer

GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
OTHER = GuestId("0e7f3a52-9b1c-4e6d-8f00-ba9876543210")
RAM = RegionSpec("pc.ram", RegionKind.MEMORY, 300 * 4096, 4096)
DISK = RegionSpec("disk:vda", RegionKind.DISK, 9 * 65536 + 1000, 65536)
XML = RegionSpec("state:xml", RegionKind.STATE, 0, 4096)
START_NS = 1_700_000_000_000_000_000

Content = dict[str, bytes]


@dataclass
class Built:
    """A case and what its captures must hold."""

    path: Path
    content: dict[CaptureId, Content] = field(default_factory=dict)
    records: list[CaptureRecord] = field(default_factory=list)

    @property
    def ids(self) -> list[CaptureId]:
        return [record.id for record in self.records]

    def open(self) -> CaseStore:
        return CaseStore.open(self.path)


def blocks_of(rng: np.random.Generator, count: int, size: int) -> NDArray[np.uint8]:
    """Blocks that compress a little, none alike."""
    blocks = np.zeros((count, size), np.uint8)
    blocks[:, : size // 8] = rng.integers(0, 256, (count, size // 8), dtype=np.uint8)
    blocks[:, -1] = 0
    return blocks


def touched(rng: np.random.Generator, blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The blocks with a few bytes changed."""
    blocks = blocks.copy()
    blocks[:, 40:60] = rng.integers(1, 256, (len(blocks), 20), dtype=np.uint8)
    return blocks


def build_case(path: Path, captures: int = 6, seed: int = 1) -> Built:
    """A guest with memory, a disk and a state region, `captures` captures on one line."""
    store = CaseStore.create(path)
    store.add_guest(GUEST, "demo")
    built = Built(path)
    with store.writer(GUEST) as writer:
        extend(built, writer, captures, seed)
    return built


def extend(built: Built, writer: Writer, captures: int, seed: int = 2) -> None:
    """More captures after the writer's parent."""
    rng = np.random.default_rng(seed)
    parent = built.content.get(writer.parent) if writer.parent is not None else None
    ram = shaped(RAM, parent)
    disk = shaped(DISK, parent)
    for number in range(captures):
        pages = np.sort(rng.choice(RAM.blocks, 200 if parent is None else 12, replace=False))
        clusters = np.sort(rng.choice(DISK.blocks - 1, 5 if parent is None else 2, replace=False))
        ram[pages] = blocks_of(rng, len(pages), 4096) if parent is None else touched(rng, ram[pages])
        disk[clusters] = blocks_of(rng, len(clusters), 65536) if parent is None else touched(rng, disk[clusters])
        xml = b"<domain>" + rng.bytes(int(rng.integers(100, 9000))).hex().encode()
        with writer.begin([RAM, DISK, XML]) as transaction:
            transaction.put(RAM.name, pages, ram[pages])
            transaction.put(DISK.name, clusters, disk[clusters])
            transaction.put_stream(XML.name, xml)
            record = transaction.commit(
                time_ns=built.records[-1].time_ns + 2_000_000_000 if built.records else START_NS,
                mode=CaptureMode.CONTINUOUS if parent else CaptureMode.BASELINE,
                reason=f"number {number}",
                facts={"pause_ns": 1000 * number, "dirty_pages": len(pages)},
            )
        parent = {RAM.name: ram.tobytes(), DISK.name: disk.tobytes()[: DISK.length], XML.name: xml}
        built.content[record.id] = parent
        built.records.append(record)


def build_hot_case(path: Path, captures: int) -> Built:
    """A guest that writes the same 30 pages again and again, and in each capture one more that then stays."""
    store = CaseStore.create(path)
    store.add_guest(GUEST, "demo")
    built = Built(path)
    rng = np.random.default_rng(11)
    ram = blocks_of(rng, RAM.blocks, 4096)
    disk = np.zeros((DISK.blocks, DISK.block_size), np.uint8)
    with store.writer(GUEST) as writer:
        writer.move_to(None)
        for number in range(captures):
            pages = np.arange(RAM.blocks) if number == 0 else np.append(np.arange(30), 30 + number % 270)
            ram[pages] = touched(rng, ram[pages]) if number % 5 else blocks_of(rng, len(pages), 4096)
            with writer.begin([RAM, DISK, XML]) as transaction:
                transaction.put(RAM.name, pages, ram[pages])
                transaction.put_stream(XML.name, b"<domain/>")
                when, mode = START_NS + number * 2_000_000_000, CaptureMode.CONTINUOUS
                record = transaction.commit(time_ns=when, mode=mode, reason="", facts={})
            content = {RAM.name: ram.tobytes(), DISK.name: disk.tobytes()[: DISK.length], XML.name: b"<domain/>"}
            built.content[record.id] = content
            built.records.append(record)
    return built


def shaped(spec: RegionSpec, content: Content | None) -> NDArray[np.uint8]:
    """A region's content as blocks that can be written to."""
    blocks = np.zeros((spec.blocks, spec.block_size), np.uint8)
    if content is not None:
        data = content[spec.name]
        blocks.reshape(-1)[: len(data)] = np.frombuffer(data, np.uint8)
    return blocks


def read_all(store: CaseStore, capture: CaptureId) -> Content:
    """A whole capture, every region verified against its record."""
    view = store.view(capture)
    for region in view.regions:
        region.verify()
    return {region.spec.name: region.read(0, region.spec.length) for region in view.regions}


def assert_whole(built: Built) -> None:
    """Every committed capture is byte-equal, and nothing is damaged."""
    store = built.open()
    for capture, content in built.content.items():
        assert read_all(store, capture) == content
    assert store.check() == []
