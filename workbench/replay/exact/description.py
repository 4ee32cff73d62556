"""What a recording says of itself: `description.json` in its directory, with the digest of every other file.

Written last when a recording is made, so a directory without one is not a recording. A case may come from a stranger:
everything is checked on reading, and files are held against their digests before QEMU is given them. Refuses paths:
every file has its fixed name.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import blake3

from workbench.errors import DamagedError, FormatError, MissingError, WorkbenchError
from workbench.replay.exact.machine import Machine

__all__ = ["FILES", "Description", "file_digest", "plain_file"]

FORMAT = 1
FILES = ("kernel", "initrd", "base.qcow2", "log", "state.qcow2", "disk.qcow2", "console")
"""What a recording may hold; kernel, `initrd` and the two disk files only where it has them."""
_NAME = "description.json"
_MOST = 1 << 20
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Description:
    """A recording.

    Attributes
    ----------
    id : str
        UUID; also the directory's name and the UUID of its guest in the case.
    time_ns : int
        Host clock (UTC, ns) at its beginning.
    icount : int
        Instructions run from its beginning to its end.
    begins : int
        Instruction count at which its first state was saved: 0 for a boot.
    machine : Machine
    snapshot : str
        Name of the VM state that it begins with.
    ram_digest : str
        BLAKE3-256 (hexadecimal) over the digests of its RAM blocks at the end, in the order of their names.
    qemu : str
        Version of the QEMU that recorded it; another one need not replay it.
    files : dict of str to str
        BLAKE3-256 of every file.
    parent : str
        The recording whose end this one goes on from; empty for another beginning.
    capture : str
        The capture of the case whose moment it begins at; empty for another beginning.
    """

    id: str
    time_ns: int
    icount: int
    begins: int
    machine: Machine
    snapshot: str
    ram_digest: str
    qemu: str
    files: dict[str, str]
    parent: str = ""
    capture: str = ""

    @property
    def disk(self) -> bool:
        """Whether it has a disk."""
        return "base.qcow2" in self.files

    def write(self, place: Path) -> None:
        """Write it; the recording is one from then on."""
        beside = place / f"{_NAME}.part"
        beside.write_text(json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, indent=1) + "\n")
        beside.replace(place / _NAME)

    @classmethod
    def read(cls, place: Path) -> Description:
        """Read the description in the directory of a recording.

        Raises
        ------
        MissingError
            If there is none.
        FormatError
            If it is not one, or of another format.
        """
        path = place / _NAME
        try:
            with path.open("rb") as file:
                text = file.read(_MOST + 1)
        except OSError as error:
            raise MissingError(f"no recording: {error.strerror}", path=str(path), cure="See the recordings.") from error
        try:
            if len(text) > _MOST:
                raise ValueError("too long")
            return _checked(json.loads(text), place.name)
        except (KeyError, TypeError, ValueError, RecursionError, WorkbenchError) as error:
            raise FormatError(f"not the description of a recording: {error}", path=str(path)) from error

    def verify(self, place: Path) -> None:
        """Hold every file against its digest.

        Raises
        ------
        DamagedError
            Naming the file.
        """
        for name, expected in self.files.items():
            found = file_digest(place / name)
            if found != expected:
                raise DamagedError(
                    "a file of the recording is not what was recorded",
                    path=str(place / name), expected=expected, found=found, cure="Record again.",
                )  # fmt: skip


def _checked(told: Any, name: str) -> Description:
    if told.pop("format") != FORMAT:
        raise ValueError("another format")
    machine = _checked_machine(told.pop("machine"))
    found = Description(machine=machine, **told)
    if str(UUID(found.id)) != found.id or found.id != name:
        raise ValueError("its id is not its directory's name")
    _check_numbers(found)
    if not re.fullmatch(r"[a-z0-9-]{1,64}", found.snapshot) or not _HEX.fullmatch(found.ram_digest):
        raise ValueError("snapshot or digest")
    if not set(found.files) <= set(FILES) or not {"log", "state.qcow2"} <= set(found.files):
        raise ValueError("files")
    if not all(_HEX.fullmatch(each) for each in found.files.values()) or not isinstance(found.qemu, str):
        raise ValueError("digests")
    if not re.fullmatch(r"[0-9A-Za-z-]{0,64}", found.capture):
        raise ValueError("capture")
    if found.parent and str(UUID(found.parent)) != found.parent:
        raise ValueError("parent")
    return found


def _check_numbers(found: Description) -> None:
    for field in ("time_ns", "icount", "begins"):
        if type(getattr(found, field)) is not int or not 0 <= getattr(found, field) < 1 << 63:
            raise ValueError(field)
    if found.begins > found.icount or found.icount << found.machine.shift >= 1 << 63:
        raise ValueError("more instructions than time")


def _checked_machine(told: Any) -> Machine:
    machine = Machine(**told)
    machine = replace(machine, arguments=tuple(str(each) for each in machine.arguments))
    for field, kind in (("name", str), ("memory_mib", int), ("kernel_line", str), ("shift", int)):
        if type(getattr(machine, field)) is not kind:
            raise ValueError(f"machine: {field}")
    machine.check()
    return machine


def plain_file(path: Path) -> Path:
    """Return the path of a file of a recording that is a plain file: a link could lead anywhere on this host.

    Raises
    ------
    MissingError
    """
    if path.is_symlink() or not path.is_file():
        raise MissingError("a file of the recording is not there", path=str(path), cure="Record again.")
    return path


def file_digest(path: Path) -> str:
    """Return the BLAKE3-256 of a file, hexadecimal; what is no plain file has none.

    Raises
    ------
    MissingError
    """
    return blake3.blake3().update_mmap(plain_file(path)).hexdigest()
