r"""Read what a guest's `/etc/fstab` wants mounted, and tell which volume a source means.

Refuses to guess: a device that another guest's kernel would name otherwise ("/dev/sda1" for "vda1") is nobody here.
Source: fstab(5) (fields, octal escapes such as `\040`), udev's names below `/dev/disk`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from workbench.disk.volumes import Volume

__all__ = ["Wanted", "is_meant", "wanted"]

_ESCAPE = re.compile(r"\\([0-3][0-7]{2})")
_MOST = 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """A line of fstab.

    Attributes
    ----------
    source, point, kind : str
    """

    source: str
    point: str
    kind: str


def wanted(raw: bytes) -> Iterator[Wanted]:
    """Yield the lines that mount something at a path."""
    for line in raw.decode("utf-8", "surrogateescape").splitlines()[:_MOST]:
        fields = [_ESCAPE.sub(lambda found: chr(int(found[1], 8)), field) for field in line.split()]
        if len(fields) < 3 or fields[0].startswith("#") or not fields[1].startswith("/"):
            continue
        parts = [part for part in fields[1].split("/") if part and part != "."]
        if ".." not in parts:
            yield Wanted(fields[0], "/" + "/".join(parts), fields[2])


def is_meant(source: str, volume: Volume) -> bool:
    """Tell whether a source of fstab means this volume."""
    key, equals, value = source.partition("=")
    if equals:
        return _matches(key.upper(), value.strip("\"'"), volume)
    if source.startswith("/dev/disk/by-"):
        key, _, value = source.removeprefix("/dev/disk/by-").partition("/")
        return _matches(key.upper(), value, volume)
    names = {f"/dev/{volume.name}"}
    group, slash, name = volume.name.partition("/")
    if slash:
        names.add("/dev/mapper/" + "-".join(part.replace("-", "--") for part in (group, name)))
    return source in names


def _matches(key: str, value: str, volume: Volume) -> bool:
    of = {"UUID": volume.uuid, "LABEL": volume.label, "PARTUUID": volume.part_uuid, "PARTLABEL": volume.part_label}
    has = of.get(key, "")
    return bool(has) and (has == value or (key.endswith("UUID") and has.lower() == value.lower()))
