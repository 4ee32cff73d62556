"""Reading a moment's memory: physical, the kernel's, and that of a process; maps and core files of processes.

Processes are found through the sight; their pages by their own page tables. Refuses to give bytes that are not in
memory, to trust a mapping that the kernel could not have made, and to name a file by anything of the guest's.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbench.errors import AnalysisError, StoreError, UnreadableError, UsageError
from workbench.memory.corefile import NoteFile, Segment, core_size, write_core
from workbench.memory.paging import Padded, VirtualMemory

if TYPE_CHECKING:
    from workbench.memory.questions import Scene
    from workbench.memory.volatility.sight import Sight

__all__ = ["Mapping", "Process", "kernel_memory", "number", "process", "process_dump", "process_maps", "read"]

_MOST_RUNS = 1 << 22
_MOST_SEGMENTS = 1 << 20
_MOST_CORE = 8 << 30
_MOST_READ = 64 << 20
_MAPS = {
    "start": "UInt64", "end": "UInt64", "protection": "str", "offset": "UInt64", "path": "str",
    "present": "Int64", "missing": "Int64",
}  # fmt: skip
_DUMPED = {
    "name": "str", "path": "str", "sha256": "str", "size": "Int64", "segments": "Int64", "present": "Int64",
    "missing": "Int64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping of a process, as the kernel's vm_area_struct says.

    Attributes
    ----------
    start, end : int
    protection : str
        "r-xp": as /proc/PID/maps has it.
    offset : int
        In the file, bytes.
    path : str or None
        The guest's; `[heap]`, `[stack]`, `[vdso]`; None if it has none.
    """

    start: int
    end: int
    protection: str
    offset: int
    path: str | None


def kernel_memory(sight: Sight) -> VirtualMemory:
    """Return the kernel's virtual memory."""
    return VirtualMemory(sight.memory, sight.kernel.page_table_root, sight.kernel.levels)


@dataclass(slots=True)
class Process:
    """The memory of one process.

    Attributes
    ----------
    pid : int
    memory : VirtualMemory
    mappings : list of Mapping
        By address, none overlapping.
    registers : list of int
        As user_regs_struct has them, at its last entry into the kernel; empty if they are not there.
    capture : str
    notes : list of str
        What is not as it should be.
    """

    pid: int
    memory: VirtualMemory
    mappings: list[Mapping]
    registers: list[int]
    capture: str
    notes: list[str] = field(default_factory=list)

    def read(self, address: int, length: int) -> bytes:
        """Return bytes of virtual memory.

        Raises
        ------
        UnreadableError
            If part of them is not in memory.
        StoreError
        """
        return self.memory.read(address, length)

    def read_padded(self, address: int, length: int) -> Padded:
        """Return bytes, and which of them are not in memory.

        Raises
        ------
        UnreadableError
            If they are too many.
        StoreError
        """
        return self.memory.read_padded(address, length)

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield what is in memory of the mappings: address and bytes.

        Raises
        ------
        UnreadableError, StoreError
        """
        for segment in self._segments(self._runs()):
            if segment.present:
                yield from self.memory.pieces(segment.start, segment.end)

    def maps(self) -> pd.DataFrame:
        """Return the mappings.

        Returns
        -------
        DataFrame
            start, end (UInt64), protection (str), offset (UInt64, bytes in the file), path (str, absent for
            anonymous memory), present, missing (Int64, bytes that are in memory, and that are not: never touched,
            swapped out, or gone back to their file). `attrs["error"]` says what is not as it should be, such as
            pages outside of every mapping.
        """
        runs = self._runs()
        present = dict.fromkeys((each.start for each in self.mappings), 0)
        for mapping, start, end in self._inside(runs):
            present[mapping.start] += end - start
        rows = [
            (m.start, m.end, m.protection, m.offset, m.path, present[m.start], m.end - m.start - present[m.start])
            for m in self.mappings
        ]
        return self._told(rows, _MAPS)

    def dump(self, directory: Path) -> pd.DataFrame:
        """Write the process as an ELF core file.

        Parameters
        ----------
        directory : Path
            Made if it is not there. The file is called by capture and pid, and is replaced if it exists.

        Returns
        -------
        DataFrame
            One row: name, path, sha256 (str), size (Int64, bytes of the file), segments (Int64), present, missing
            (Int64, bytes of the mappings that the file has, and has not).

        Raises
        ------
        AnalysisError
            If it is larger than 8 GiB.
        StoreError
            If it cannot be written, or the case not read.
        """
        segments = list(self._segments(self._runs()))
        files = [
            NoteFile(each.start, each.end, each.offset, each.path.encode("utf-8", "replace"))
            for each in self.mappings
            if each.path is not None and each.path.startswith("/")
        ]
        size = core_size(segments, files)
        if size > _MOST_CORE:
            raise AnalysisError("the process is larger than a dump may be", size=size, most=_MOST_CORE)
        target = directory / f"{self.capture[:12]}-{self.pid}.core"
        digest = self._write(target, segments, files)
        present = sum(each.length for each in segments if each.present)
        missing = sum(each.length for each in segments if not each.present)
        return self._told([(target.name, str(target), digest, size, len(segments), present, missing)], _DUMPED)

    def _write(self, target: Path, segments: Sequence[Segment], files: Sequence[NoteFile]) -> str:
        content = (data for each in segments if each.present for _, data in self.memory.pieces(each.start, each.end))
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".new-")
            try:
                with os.fdopen(descriptor, "wb") as out:
                    digest = write_core(out, self.pid, self.registers, segments, files, content)
                os.replace(temporary, target)
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"a core file cannot be written: {error.strerror}", path=str(target)) from error
        return digest

    def _runs(self) -> list[tuple[int, int]]:
        """Return start and end of what is in memory of the lower half, joined; one walk for all mappings."""
        found: list[tuple[int, int]] = []
        try:
            for run in self.memory.held_runs(0, self.memory.half):
                end = run.address + run.length
                if found and found[-1][1] == run.address:
                    found[-1] = (found[-1][0], end)
                else:
                    found.append((run.address, end))
                if len(found) > _MOST_RUNS:
                    raise UnreadableError("more runs of pages than a process has", most=_MOST_RUNS)
        except UnreadableError as error:
            self._note(str(error))
        return found

    def _inside(self, runs: Sequence[tuple[int, int]]) -> Iterator[tuple[Mapping, int, int]]:
        """Yield the parts of runs that are inside of mappings: mapping, start and end; note what is outside."""
        outside, at = sum(end - start for start, end in runs), 0
        for mapping in self.mappings:
            while at < len(runs) and runs[at][1] <= mapping.start:
                at += 1
            for start, end in itertools.takewhile(lambda run: run[0] < mapping.end, itertools.islice(runs, at, None)):  # noqa: B023  (used at once)
                outside -= min(end, mapping.end) - max(start, mapping.start)
                yield mapping, max(start, mapping.start), min(end, mapping.end)
        if outside:
            self._note(f"{outside} bytes are in memory outside of every mapping")

    def _segments(self, runs: Sequence[tuple[int, int]]) -> Iterator[Segment]:
        """Yield all of the mappings, in runs that are in memory or not.

        Raises
        ------
        AnalysisError
            If they are more than a file can have.
        """
        inside: dict[int, list[tuple[int, int]]] = {}
        for mapping, start, end in self._inside(runs):
            inside.setdefault(mapping.start, []).append((start, end))
        count = 0
        for mapping in self.mappings:
            at = mapping.start
            for start, end in [*inside.get(mapping.start, []), (mapping.end, mapping.end)]:
                if at < start:
                    yield Segment(at, start, mapping.protection, present=False)
                if start < end:
                    yield Segment(start, end, mapping.protection, present=True)
                at, count = end, count + 2
                if count > _MOST_SEGMENTS:
                    raise AnalysisError("the process is in more pieces than a core file has", most=_MOST_SEGMENTS)

    def _note(self, words: str) -> None:
        if words not in self.notes:
            self.notes.append(words)

    def _told(self, rows: list[tuple[Any, ...]], columns: dict[str, str]) -> pd.DataFrame:
        frame = pd.DataFrame({name: [row[at] for row in rows] for at, name in enumerate(columns)}).astype(columns)
        if self.notes:
            frame.attrs["error"] = "; ".join(self.notes)
        return frame


def process(sight: Sight, pid: int | None = None, *, task: int | None = None) -> Process:
    """Return the memory of a process.

    Parameters
    ----------
    sight : Sight
    pid : int, optional
        Of the process: a thread's own id is none.
    task : int, optional
        Address of its task_struct instead: of a process that is in no list.

    Raises
    ------
    UsageError
        If there is no such process.
    AnalysisError
        If it has no memory of its own, or cannot be read.
    StoreError
    """
    from workbench.memory.volatility.address_space import find_process

    return find_process(sight, pid, task)


def number(text: str | int | None) -> int | None:
    """Return an address given as a number or as text ("0x...").

    Raises
    ------
    UsageError
        If it is none.
    """
    try:
        found = int(text, 0) if isinstance(text, str) else text
    except ValueError as error:
        raise UsageError("not an address", found=text, cure='Give a number, or text such as "0x7f00".') from error
    if found is not None and not 0 <= found < 1 << 64:
        raise UsageError("not an address of 64 bits", found=text)
    return found


def read(
    scene: Scene,
    address: str | int,
    length: int,
    pid: int | None = None,
    task: str | None = None,
    physical: bool = False,
) -> pd.DataFrame:
    """Answer `workbench.read`: bytes of memory, and which of them are not there.

    Parameters
    ----------
    scene : Scene
    address : str or int
        "0x...": the kernel's virtual address, or a process's if one is named.
    length : int
        Bytes, at most 64 MiB.
    pid, task
        As for `process`.
    physical : bool
        The address is guest-physical.

    Returns
    -------
    DataFrame
        One row: address (UInt64), length, missing (Int64, bytes), data (object, bytes, zeros where it is missing),
        holes (str: offset+length of each missing run, hexadecimal, by commas).

    Raises
    ------
    UsageError
        If the request is none.
    UnreadableError
        If nothing of it is in memory.
    AnalysisError, StoreError
    """
    at = number(address) or 0
    if not 0 < length <= _MOST_READ:
        raise UsageError("a read of this length is refused", length=length, most=_MOST_READ)
    found = _physical(scene, at, length) if physical else _space(scene, pid, task).read_padded(at, length)
    if found.missing == length:
        raise UnreadableError("nothing of this is in memory", address=hex(at), length=length)
    holes = ",".join(f"{offset:#x}+{count:#x}" for offset, count in found.holes)
    row = {"address": [at], "length": [length], "missing": [found.missing], "data": [found.data], "holes": [holes]}
    return pd.DataFrame(row).astype({"address": "UInt64", "length": "Int64", "missing": "Int64", "holes": "str"})


def _space(scene: Scene, pid: int | None, task: str | None) -> VirtualMemory:
    if pid is None and task is None:
        return kernel_memory(scene.sight)
    return process(scene.sight, pid, task=number(task)).memory


def _physical(scene: Scene, address: int, length: int) -> Padded:
    memory, holes, at = scene.sight.memory, list[tuple[int, int]](), address
    for each in memory.ranges:
        start, end = max(at, each.start), min(address + length, each.start + each.length)
        if start < end:
            if start > at:
                holes.append((at - address, start - at))
            at = end
    if at < address + length:
        holes.append((at - address, address + length - at))
    return Padded(memory.read_padded(address, length), tuple(holes))


def process_maps(scene: Scene, pid: int | None = None, task: str | None = None) -> pd.DataFrame:
    """Answer `workbench.process_maps`: the mappings of a process, as `Process.maps` gives them.

    Raises
    ------
    UsageError, AnalysisError, StoreError
    """
    return process(scene.sight, pid, task=number(task)).maps()


def process_dump(scene: Scene, directory: str, pid: int | None = None, task: str | None = None) -> pd.DataFrame:
    """Answer `workbench.process_dump`: a process as an ELF core file in a directory, as `Process.dump` gives it.

    Raises
    ------
    UsageError, AnalysisError, StoreError
    """
    return process(scene.sight, pid, task=number(task)).dump(Path(directory))
