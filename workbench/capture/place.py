"""Where a case may lie: not in the volumes of the guest that it records.

A case inside the guest's own disk or shared folder would be rewound with the guest, and every capture would make the
next one larger. Refuses to guess about remote storage: only what this host can see is judged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from workbench.errors import UsageError

__all__ = ["refuse_own_volume"]


def refuse_own_volume(case: Path, xml: str) -> None:
    """Raise if `case` lies in a folder shared with the guest or on a file system that one of its disks holds.

    Raises
    ------
    UsageError
        Naming the volume.
    """
    place = case.resolve()
    root = ET.fromstring(xml)
    for source in root.iterfind("./devices/filesystem/source"):
        shared = source.get("dir")
        if shared and place.is_relative_to(Path(shared).resolve()):
            _refuse(case, f"the folder {shared} that is shared with the guest")
    volumes = set(_backing(os.stat(place).st_dev))
    for source in root.iterfind("./devices/disk/source"):
        volume = source.get("file") or source.get("dev")
        if volume and os.path.realpath(volume) in volumes:
            _refuse(case, f"the guest's own disk {volume}")


def _refuse(case: Path, volume: str) -> None:
    raise UsageError(f"the case {case} lies in {volume}", cure="Put it elsewhere, or allow it with --allow-own-volume")


def _backing(device: int) -> Iterator[str]:
    """Yield the block devices and loop files under a device number, as /sys knows them."""
    entry = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if not entry.exists():
        return
    entry = entry.resolve()
    yield f"/dev/{entry.name}"
    if (entry / "partition").exists():
        yield f"/dev/{entry.parent.name}"
        entry = entry.parent
    backing = entry / "loop" / "backing_file"
    if backing.exists():
        yield os.path.realpath(backing.read_text().strip())
    for slave in (entry / "slaves").glob("*"):
        number = (slave / "dev").read_text().strip().split(":")
        yield from _backing(os.makedev(int(number[0]), int(number[1])))
