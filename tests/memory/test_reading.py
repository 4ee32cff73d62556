"""Virtual memory by planted page tables, and a guest's processes held against what the guest said of them."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from workbench.case import Case
from workbench.demo import DemoGuest, DemoSpec
from workbench.errors import AnalysisError, UnreadableError, UsageError
from workbench.memory import paging
from workbench.memory.corefile import NoteFile, Segment, core_size, write_core
from workbench.memory.paging import Run, VirtualMemory
from workbench.memory.questions import Scene, ask
from workbench.memory.reading import process
from workbench.memory.symbols.cache import SymbolCache
from workbench.memory.symbols.walk import Memory
from workbench.memory.volatility.opening import Opener
from workbench.model import PAGE

PRESENT, LARGE, PROTNONE = 1, 1 << 7, 1 << 8
KERNEL = -1 << 47


class Planted(Memory):
    """Physical memory of 64 MiB, a hole after it, and page tables that tests fill."""

    def __init__(self, levels: int = 4) -> None:
        self.data = bytearray(64 << 20)
        self.levels = levels
        self.free = itertools.count(1)
        self.root = self.table()

    def table(self) -> int:
        return next(self.free) * PAGE

    def read(self, address: int, length: int) -> bytes:
        if not self.holds(address, length):
            raise UnreadableError("no memory")
        return bytes(self.data[address : address + length])

    def holds(self, address: int, length: int = 1) -> bool:
        return address >= 0 and address + length <= len(self.data)

    def runs(self, *, most: int = 1) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        yield from ()

    def entry(self, table: int, index: int) -> int:
        return int(struct.unpack_from("<Q", self.data, table + 8 * index)[0])

    def put(self, table: int, index: int, value: int) -> None:
        struct.pack_into("<Q", self.data, table + 8 * index, value % (1 << 64))

    def map(self, virtual: int, value: int, at_level: int = 1) -> None:
        """Write an entry, and the tables above it."""
        table = self.root
        for level in range(self.levels, at_level, -1):
            index = virtual >> (12 + 9 * (level - 1)) & 511
            if not self.entry(table, index):
                self.put(table, index, self.table() | PRESENT)
            table = self.entry(table, index) & -PAGE
        self.put(table, virtual >> (12 + 9 * (at_level - 1)) & 511, value)

    @property
    def virtual(self) -> VirtualMemory:
        return VirtualMemory(self, self.root, self.levels)


@pytest.fixture(params=[4, 5])
def planted(request: pytest.FixtureRequest) -> Planted:
    return Planted(request.param)


def test_pages_are_where_the_tables_say_in_both_halves(planted: Planted) -> None:
    planted.data[0x200000:0x200006] = b"lower "
    planted.data[0x300000:0x300006] = b"upper "
    top = 1 << (56 if planted.levels == 5 else 47)
    planted.map(0x5000, 0x200000 | PRESENT)
    planted.map((1 << 64) - top + 0x7000, 0x300000 | PRESENT)
    assert planted.virtual.read(0x5000, 6) == b"lower "
    assert planted.virtual.read((1 << 64) - top + 0x7000, 6) == b"upper "
    assert planted.virtual.translate((1 << 64) - top + 0x7002) == 0x300002
    assert planted.virtual.translate(0x6000) is None
    assert list(planted.virtual.mapped_runs((1 << 64) - top, 1 << 64)) == [
        Run((1 << 64) - top + 0x7000, 0x300000, PAGE)
    ]


def test_runs_join_what_goes_on_in_both_addresses(planted: Planted) -> None:
    for number, frame in enumerate((0x200000, 0x201000, 0x300000, 0x303000)):
        planted.map(0x1FF000 + number * PAGE, frame | PRESENT)
    assert list(planted.virtual.mapped_runs(0, 1 << 30)) == [
        Run(0x1FF000, 0x200000, 2 * PAGE),
        Run(0x201000, 0x300000, PAGE),
        Run(0x202000, 0x303000, PAGE),
    ]
    assert list(planted.virtual.mapped_runs(0x1FF800, 0x200800)) == [Run(0x1FF800, 0x200800, PAGE)]
    assert [len(data) for _, data in planted.virtual.pieces(0, 1 << 30)] == [4 * PAGE]


def test_large_pages_of_both_sizes_and_the_small_ones_between_come_in_order(planted: Planted) -> None:
    planted.map(0x200000, 0x800000 | PRESENT | LARGE, at_level=2)
    planted.map(0x400000, 0x600000 | PRESENT)
    planted.map(0x600000, 0xA00000 | PRESENT | LARGE, at_level=2)
    planted.map(1 << 30, 0 | PRESENT | LARGE, at_level=3)
    found = list(planted.virtual.mapped_runs(0, 1 << 40))
    assert [run.address for run in found] == [0x200000, 0x400000, 0x600000, 1 << 30]
    assert [run.length for run in found] == [2 << 20, PAGE, 2 << 20, 1 << 30]
    assert planted.virtual.translate(0x2ABCDE) == 0x8ABCDE


def test_pages_without_access_are_in_memory_and_swapped_ones_are_not(planted: Planted) -> None:
    planted.data[0x200000:0x200006] = b"hidden"
    planted.map(0x5000, ~0x200000 & 0x000F_FFFF_FFFF_F000 | PROTNONE)
    planted.map(0x6000, 0x123456 << 12 | 0x200)  # of swap
    assert planted.virtual.read(0x5000, 6) == b"hidden"
    assert planted.virtual.translate(0x5001) == 0x200001
    assert planted.virtual.translate(0x6000) is None


def test_what_is_missing_is_said_and_never_zeros_in_silence(planted: Planted) -> None:
    planted.map(0x5000, 0x200000 | PRESENT)
    planted.map(0x7000, 0x40000000 | PRESENT)  # of a device
    planted.data[0x200000:0x201000] = b"x" * PAGE
    found = planted.virtual.read_padded(0x4800, 0x3000)
    assert found.data == bytes(0x800) + b"x" * PAGE + bytes(0x1800)
    assert found.holes == ((0, 0x800), (0x1800, 0x1800))
    assert found.missing == 0x2000
    with pytest.raises(UnreadableError, match="0x6000"):
        planted.virtual.read(0x5FFF, 2)


@pytest.mark.parametrize(("address", "length"), [(0, -1), (0, 1 << 40), (1 << 60, 8), ((1 << 64) - 4, 8), (-5, 2)])
def test_reads_that_cannot_be_are_refused(planted: Planted, address: int, length: int) -> None:
    with pytest.raises(UnreadableError):
        planted.virtual.read(address, length)


def test_tables_that_point_at_themselves_come_to_an_end(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "_MOST_TABLES", 2000)
    for index in range(512):
        planted.put(planted.root, index, planted.root | PRESENT)
    with pytest.raises(UnreadableError, match="without end"):
        for _ in planted.virtual.mapped_runs(0, planted.virtual.half):
            pass
    assert planted.virtual.translate(0x5000) is not None


def test_random_tables_end_in_an_answer_or_an_error(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "_MOST_TABLES", 500)
    rng = np.random.default_rng(3)
    for _ in range(20):
        planted.data[: 64 * PAGE] = (rng.integers(0, 1 << 27, 64 * 512).astype("<u8") | PRESENT).tobytes()
        try:
            assert sum(1 for _ in itertools.islice(planted.virtual.held_runs(0, planted.virtual.half), 1000)) >= 0
            planted.virtual.read_padded(0x7F00_0000_0000, 1 << 16)
        except UnreadableError:
            pass


# Core files.


def test_a_core_file_has_what_is_there_and_says_what_is_not(tmp_path: Path) -> None:
    segments = [Segment(0x1000, 0x3000, "r-xp", present=True), Segment(0x3000, 0x4000, "rw-p", present=False)]
    files = [NoteFile(0x1000, 0x3000, 0x1000, b"/bin/na\0me")]
    path = tmp_path / "core"
    with path.open("wb") as out:
        digest = write_core(out, 77, [5], segments, files, [b"a" * 0x1000, b"b" * 0x1000])
    data = path.read_bytes()
    assert (len(data), digest) == (core_size(segments, files), hashlib.sha256(data).hexdigest())
    told = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=True).stdout
    loads = [line.split() for line in told.splitlines() if line.lstrip().startswith("LOAD")]
    assert [(int(each[2], 16), int(each[4], 16), int(each[5], 16)) for each in loads] == [
        (0x1000, 0x2000, 0x2000),
        (0x3000, 0, 0x1000),
    ]
    assert data[int(loads[0][1], 16) :] == b"a" * 0x1000 + b"b" * 0x1000
    assert b"/bin/name\0" in data


def test_a_core_file_of_very_many_pieces_counts_them_where_elf_says(tmp_path: Path) -> None:
    segments = [Segment(at * PAGE, (at + 1) * PAGE, "r--p", present=False) for at in range(70_000)]
    with (tmp_path / "core").open("wb") as out:
        write_core(out, 1, [], segments, [], [])
    told = subprocess.run(["readelf", "-hW", tmp_path / "core"], capture_output=True, text=True, check=True).stdout
    assert "65535 (70001)" in told


# A guest's processes.


@dataclass(frozen=True, slots=True)
class Truth:
    """What the guest said of a process."""

    pid: int
    maps: str
    environment: int
    other: int


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[Scene, Truth]]:
    """A captured guest in which a process has a marker in its environment, and what the guest says of the process."""
    place = Path(tempfile.mkdtemp(prefix="read-test-"))
    place.chmod(0o711)
    case = Case.create(place / "case")
    with DemoGuest.boot(DemoSpec(f"read-{os.getpid()}", memory_mib=128)) as guest, case.record(guest.name) as recording:
        start = (
            "setsid env -i MARK=planted-marker-7c1f sleep 1000000 </dev/null >/dev/null 2>&1 & echo $!;"
            "until tr '\\0' ' ' </proc/$!/cmdline | grep -q '^sleep'; do usleep 20000; done"
        )
        pid = int(guest.run(start).stdout)
        maps = guest.run(f"cat /proc/{pid}/maps").stdout
        # proc(5): fields 50 and 51 of stat are where the environment is.
        environment = int(guest.run(f"cat /proc/{pid}/stat").stdout.rsplit(") ", 1)[1].split()[47])
        capture = recording.capture("a process with a marker").id
    opener = Opener(place / "kernels", SymbolCache(place / "symbols"))
    view = case.store.view(capture)
    sight = opener.open(view)
    yield Scene(case.store, view, sight, lambda percent, words: None), Truth(pid, maps, environment, 1)
    opener.close()
    case.close()
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.guest
def test_mappings_are_those_that_the_guest_listed(told: tuple[Scene, Truth]) -> None:
    scene, truth = told
    answer = ask(scene, "workbench.process_maps", {"pid": truth.pid})
    found = answer.frame
    lines = [line.split(None, 5) for line in truth.maps.splitlines() if "[vsyscall]" not in line]
    spans = [[int(part, 16) for part in line[0].split("-")] for line in lines]
    assert found[["start", "end"]].to_numpy().tolist() == spans
    assert found["protection"].tolist() == [line[1] for line in lines]
    assert found["offset"].tolist() == [int(line[2], 16) for line in lines]
    paths = [line[5].strip() if len(line) == 6 else None for line in lines]
    named = [(mine, theirs) for mine, theirs in zip(found["path"], paths, strict=True) if theirs and theirs[0] == "/"]
    assert named
    assert all(mine == theirs for mine, theirs in named)
    assert answer.error == ""
    assert (found["present"] + found["missing"] == (found["end"] - found["start"]).astype("Int64")).all()


@pytest.mark.guest
def test_the_marker_is_where_the_guest_said(told: tuple[Scene, Truth], tmp_path: Path) -> None:
    scene, truth = told
    marker = b"MARK=planted-marker-7c1f\0"
    assert process(scene.sight, truth.pid).read(truth.environment, len(marker)) == marker
    (row,) = ask(
        scene, "workbench.read", {"address": hex(truth.environment), "length": len(marker), "pid": truth.pid}
    ).frame.to_dict("records")
    assert (row["data"], row["missing"], row["holes"]) == (marker, 0, "")
    physical = process(scene.sight, truth.pid).memory.translate(truth.environment)
    asked = {"address": hex(physical or 0), "length": len(marker), "physical": True}
    assert ask(scene, "workbench.read", asked).frame["data"][0] == marker
    with pytest.raises(UnreadableError):
        process(scene.sight, truth.other).read(truth.environment, len(marker))


@pytest.mark.guest
def test_a_dump_has_the_marker_at_its_address_and_no_name_of_the_guests(
    told: tuple[Scene, Truth], tmp_path: Path
) -> None:
    scene, truth = told
    answer = ask(scene, "workbench.process_dump", {"pid": truth.pid, "directory": str(tmp_path)})
    (row,) = answer.frame.to_dict("records")
    core = Path(row["path"])
    data = core.read_bytes()
    assert [core] == list(tmp_path.iterdir())
    assert core.name == f"{scene.view.record.id[:12]}-{truth.pid}.core"
    assert (len(data), hashlib.sha256(data).hexdigest()) == (row["size"], row["sha256"])
    loads = [each for each in program_headers(data) if each[0] == 1]
    (found,) = [each for each in loads if each[2] <= truth.environment < each[2] + each[3]]
    assert data[found[1] + truth.environment - found[2] :].startswith(b"MARK=planted-marker-7c1f\0")
    assert sum(each[3] for each in loads) == row["present"]
    assert sum(each[4] - each[3] for each in loads) == row["missing"]


def program_headers(data: bytes) -> list[tuple[int, int, int, int, int]]:
    """Type, offset, address, bytes in the file and in memory of each."""
    (count,) = struct.unpack_from("<H", data, 56)
    heads = [struct.unpack_from("<IIQQQQQQ", data, 64 + 56 * number) for number in range(count)]
    return [(head[0], head[2], head[3], head[5], head[6]) for head in heads]


@pytest.mark.guest
def test_gdb_reads_the_dump(told: tuple[Scene, Truth], tmp_path: Path) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed")
    scene, truth = told
    frame = ask(scene, "workbench.process_dump", {"pid": truth.pid, "directory": str(tmp_path)}).frame
    command = ["gdb", "-nx", "-batch", "-ex", f"x/s {truth.environment:#x}", "-c", frame["path"][0]]
    assert "MARK=planted-marker-7c1f" in subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.mark.guest
def test_what_is_only_partly_in_memory_says_which(told: tuple[Scene, Truth]) -> None:
    scene, truth = told
    maps = ask(scene, "workbench.process_maps", {"pid": truth.pid}).frame
    stack = maps[maps["path"] == "[stack]"].iloc[0]
    assert stack["missing"] > 0
    whole = {"address": hex(stack["start"]), "length": int(stack["end"] - stack["start"]), "pid": truth.pid}
    row = ask(scene, "workbench.read", whole).frame.iloc[0]
    assert row["missing"] == stack["missing"]
    assert row["holes"].startswith("0x0+")


@pytest.mark.guest
@pytest.mark.parametrize(
    ("name", "arguments", "error", "said"),
    [
        ("process_maps", {"pid": 999_999}, UsageError, "no process"),
        ("process_maps", {}, UsageError, "named"),
        ("process_maps", {"pid": 2}, AnalysisError, "kernel thread"),
        ("process_maps", {"task": "0xffff800000000000"}, AnalysisError, "cannot be read"),
        ("process_maps", {"task": "elsewhere"}, UsageError, "not an address"),
        ("read", {"address": "0x1000", "length": 1 << 40}, UsageError, "length"),
        ("read", {"address": "0x1000", "length": 8}, UnreadableError, "nothing"),
        ("read", {"address": "0x100000000000", "length": 8, "physical": True}, UnreadableError, "nothing"),
    ],
)
def test_what_cannot_be_read_is_an_error(
    told: tuple[Scene, Truth], name: str, arguments: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        ask(told[0], f"workbench.{name}", arguments)
