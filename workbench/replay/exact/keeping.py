"""Put the instant at which a replay stands into the case, as a capture like any other.

Memory of every block, the device state and the whole disk: analyses do not tell it from another capture.
Preconditions: the replay stands. On success the capture is committed and the replay stands as before. On failure
nothing is committed. The captures of a recording are those of a guest of its own, with the recording's UUID. Refuses
nothing else; such a moment cannot be cloned, since libvirt did not make its machine, and its XML says so.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from workbench.capture.session import DEVICES, LAYOUT, STATE_REGIONS, XML
from workbench.errors import MonitorError, UsageError
from workbench.guest.disks import Disk
from workbench.guest.memory import MemoryMap
from workbench.guest.reader import MemoryReader, read_block
from workbench.guest.stream import with_configuration
from workbench.model import CLUSTER, PAGE, CaptureMode, CaptureRecord, GuestId, RegionKind, RegionSpec
from workbench.replay.exact import images
from workbench.replay.exact.content import open_memory
from workbench.replay.exact.replaying import Replay
from workbench.replay.exact.scratch import Scratch
from workbench.store import CaseStore, Transaction

__all__ = ["keep_capture", "keep_disk"]

_BATCH = 256
"""Clusters put at a time: 16 MiB."""


def keep_capture(store: CaseStore, replay: Replay, reason: str = "") -> CaptureRecord:
    """Commit where the replay stands, or return the capture of this instruction that the case has already.

    Raises
    ------
    StoreBusyError
        If another process writes this recording's history.
    GuestError, StoreError
        Nothing is committed.
    """
    found, icount = replay.description, replay.icount
    guest = GuestId(found.id)
    store.add_guest(guest, found.machine.name)
    before = [store.record(ref.id) for ref in store.captures(guest)]
    for each in before:
        if each.facts.get("exact_icount") == icount:
            return each
    earlier = [each for each in before if int(each.facts.get("exact_icount", 0)) < icount]
    parent = max(earlier, key=lambda each: int(each.facts.get("exact_icount", 0)), default=None)
    with (
        store.writer(guest) as writer,
        open_memory(replay.qemu) as (memory, reader),
        Scratch() as beside,
    ):
        writer.move_to(parent.id if parent else None)
        disk = _flat_disk(replay, beside.path)
        with writer.begin(_specs(memory, disk)) as transaction:
            clusters = _put(transaction, memory, reader, disk)
            devices, why = _device_state(replay)
            _put_state(transaction, replay, memory, disk, devices)
            return transaction.commit(
                time_ns=_instant(replay),
                mode=CaptureMode.MANUAL,
                reason=reason or f"replayed to instruction {icount}",
                facts=_facts(replay, memory, clusters, why),
            )


def keep_disk(store: CaseStore, replay: Replay) -> CaptureRecord:
    """Commit only the disk of where the replay stands, for a question to it; a disk that is the same takes no room.

    Raises
    ------
    GuestError, StoreError
        Nothing is committed.
    """
    found = replay.description
    guest = GuestId(found.id)
    store.add_guest(guest, found.machine.name)
    with store.writer(guest) as writer, Scratch() as beside:
        disk = _flat_disk(replay, beside.path)
        if disk is None:
            raise UsageError("the recording has no disk", recording=found.id, cure="Record a machine with a disk.")
        writer.move_to(None)  # so what is a hole is zeros
        layout = RegionSpec(LAYOUT, RegionKind.STATE, 0, PAGE)
        with writer.begin([_disk_spec(disk), layout]) as transaction:
            _put_disk(transaction, disk, sparse=True)
            transaction.put_stream(LAYOUT, b"{}")
            return transaction.commit(time_ns=_instant(replay), mode=CaptureMode.MANUAL, reason="", facts={})


def _instant(replay: Replay) -> int:
    """Return when that is (UTC, ns). Idle time is not in it: instructions order moments, they are no clock."""
    found = replay.description
    return found.time_ns + (replay.icount - found.begins << found.machine.shift)


def _disk_spec(disk: Path) -> RegionSpec:
    return RegionSpec("disk:vda", RegionKind.DISK, disk.stat().st_size, CLUSTER)


def _specs(memory: MemoryMap, disk: Path | None) -> list[RegionSpec]:
    specs = [RegionSpec(block.name, RegionKind.MEMORY, block.size, PAGE) for block in memory.blocks]
    if disk is not None:
        specs.append(_disk_spec(disk))
    return [*specs, *(RegionSpec(name, RegionKind.STATE, 0, PAGE) for name in STATE_REGIONS)]


def _flat_disk(replay: Replay, place: Path) -> Path | None:
    """Return the disk of the instant as a sparse raw file."""
    if not replay.description.disk:
        return None
    copy, flat = place / "disk.qcow2", place / "disk.raw"
    images.copy_file(replay.settle_disk(), copy)
    images.qemu_img("convert", "-f", "qcow2", "-O", "raw", copy, flat)
    return flat


def _put(transaction: Transaction, memory: MemoryMap, reader: MemoryReader, disk: Path | None) -> int:
    for block in memory.blocks:
        content = read_block(reader, block)
        padded = np.zeros((block.pages, PAGE), np.uint8)
        padded.reshape(-1)[: len(content)] = content
        transaction.put(block.name, np.arange(block.pages), padded)
    return 0 if disk is None else _put_disk(transaction, disk)


def _put_disk(transaction: Transaction, disk: Path, *, sparse: bool = False) -> int:
    clusters = 0
    with disk.open("rb") as file:
        for start, end in _data(file) if sparse else [(0, disk.stat().st_size)]:
            for indices, blocks in _clusters(file, start, end):
                transaction.put("disk:vda", indices, blocks)
                clusters += len(indices)
    return clusters


def _data(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield where a sparse file has data, in whole clusters, none twice."""
    end = 0
    while True:
        try:
            data = os.lseek(file.fileno(), end, os.SEEK_DATA)
        except OSError:  # no data any more
            return
        start = data // CLUSTER * CLUSTER
        end = -(-os.lseek(file.fileno(), data, os.SEEK_HOLE) // CLUSTER) * CLUSTER
        yield start, end


def _clusters(file: BinaryIO, start: int, end: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    for offset in range(start, end, _BATCH * CLUSTER):
        file.seek(offset)
        data = file.read(min(_BATCH * CLUSTER, end - offset))
        blocks = np.zeros((-(-len(data) // CLUSTER), CLUSTER), np.uint8)
        blocks.reshape(-1)[: len(data)] = np.frombuffer(data, np.uint8)
        yield np.arange(offset // CLUSTER, offset // CLUSTER + len(blocks)), blocks


def _device_state(replay: Replay) -> tuple[bytes, str]:
    """Return the device stream, or nothing and why QEMU gives none under replay."""
    try:
        path = replay.run / "devices"
        path.unlink(missing_ok=True)
        replay.qemu.monitor.execute("xen-save-devices-state", filename=str(path), live=False)
        return with_configuration(path.read_bytes(), _machine(replay)), ""
    except MonitorError as error:
        return b"", error.message


def _machine(replay: Replay) -> str:
    """Return the versioned machine type."""
    asked = replay.description.machine.machine
    for each in replay.qemu.monitor.execute("query-machines"):
        if asked in (each["name"], each.get("alias")):
            return str(each["name"])
    return asked


def _put_state(transaction: Transaction, replay: Replay, memory: MemoryMap, disk: Path | None, devices: bytes) -> None:
    found = replay.description
    disks = []
    if disk is not None:
        size = disk.stat().st_size
        disks = [dataclasses.asdict(Disk("vda", "image", "root", size, "qcow2", "disk.qcow2"))]
    layout = {"machine": _machine(replay), "memory": memory.to_json(), "disks": disks, **_host(replay)}
    transaction.put_stream(DEVICES, devices)
    transaction.put_stream(XML, _xml(found.id, found.machine.name).encode())
    transaction.put_stream(LAYOUT, json.dumps(layout, sort_keys=True).encode())


def _xml(uuid: str, name: str) -> str:
    return f"<domain type='qemu'><name>{escape(name)}</name><uuid>{uuid}</uuid><!-- an exact replay --></domain>"


def _host(replay: Replay) -> dict[str, Any]:
    return {"versions": {"qemu": replay.description.qemu}, "accelerator": "tcg"}


def _facts(replay: Replay, memory: MemoryMap, clusters: int, why: str) -> dict[str, Any]:
    pages = sum(block.pages for block in memory.blocks)
    facts = {
        "pause_ns": 0, "pause_parts_ns": {}, "dirty_pages": pages, "dirty_clusters": clusters, "tracker": "compare",
        "tracker_why": "a replay", "reader": "proc-mem", "consistency": "crash", "monotonic_ns": time.monotonic_ns(),
        "exact_recording": replay.description.id, "exact_icount": replay.icount, **_host(replay),
    }  # fmt: skip
    return {**facts, "devices_missing": why} if why else facts
