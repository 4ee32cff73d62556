"""Findings: nothing on clean pairs; each kind planted, in copies of captures or by a program in a guest, and found."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.memory.findings import REASONS
from workbench.memory.owning.image import read_modules
from workbench.memory.owning.owned import read_maps
from workbench.memory.owning.patching import Sites, read_sites
from workbench.memory.owning.paths import Paths
from workbench.memory.owning.structpages import State, read_struct_pages
from workbench.memory.owning.structures import Moment
from workbench.memory.questions import Scene, ask
from workbench.memory.symbols.cache import SymbolCache
from workbench.memory.volatility.opening import Opener
from workbench.memory.volatility.ownership import moment_of
from workbench.model import PAGE, CaptureId, CaptureMode
from workbench.store import CaseStore

from .conftest import Recorded

FROM = "new_user"
"""The moment that is planted in: nothing of the intrusion runs yet."""


def silent(percent: float, words: str) -> None:
    """Show nothing."""


def found(store: CaseStore, opener: Opener, against: str, capture: str) -> pd.DataFrame:
    view = store.view(CaptureId(capture))
    answer = ask(Scene(store, view, opener.open(view), silent), "workbench.findings", {"against": against})
    assert answer.error == ""
    assert set(answer.frame["finding"]) <= set(REASONS)
    return answer.frame


# Clean pairs.


@pytest.mark.parametrize(
    ("before", "after"),
    [("clean", "break_in"), ("break_in", "new_user"), ("new_user", "dropped_binary"), ("dropped_binary", "backdoor"),
     ("clean", "wiped_log"), ("clean", "clean")],
)  # fmt: skip
def test_what_only_runs_and_writes_files_is_no_finding(
    recorded: Recorded, opener: Opener, before: str, after: str
) -> None:
    frame = found(recorded.case.store, opener, recorded.capture(before), recorded.capture(after))
    assert set(frame["weight"]) <= {"low"}
    assert set(frame["finding"]) <= {"kernel_text_patched", "module_text_patched"}


# Planted in copies of a capture.


@dataclass
class Copy:
    """A copy of the recorded case that takes changed captures, and the moment that they are made of."""

    store: CaseStore
    base: CaptureId
    opener: Opener
    moment: Moment

    def plant(self, changes: dict[int, bytes], parent: CaptureId | None = None) -> CaptureId:
        """Commit a capture with bytes at physical addresses changed."""
        record = self.store.record(parent or self.base)
        memory = self.moment.frames.memory
        with self.store.writer(record.guest) as writer:
            writer.move_to(record.id)
            with writer.begin([region.spec for region in record.regions]) as transaction:
                for address, content in changes.items():
                    place = memory.place(address)
                    assert place is not None
                    assert address % PAGE + len(content) <= PAGE
                    page = self.store.view(record.id).region(place.region).read_blocks(np.array([place.page]))
                    page[0, address % PAGE : address % PAGE + len(content)] = np.frombuffer(content, np.uint8)
                    transaction.put(place.region, np.array([place.page]), page)
                made = transaction.commit(
                    time_ns=record.time_ns + 1, mode=CaptureMode(record.mode), reason="planted", facts={}
                )
        return made.id

    def findings(self, changes: dict[int, bytes]) -> pd.DataFrame:
        """Plant changes one page each, and return what is found against the base."""
        return found(self.store, self.opener, self.base, self.plant(changes))

    def physical(self, symbol: str) -> int:
        """Return the physical address of a symbol of the kernel's image."""
        address = self.moment.structures.symbol(symbol)
        assert address is not None
        return address + self.moment.delta


@pytest.fixture(scope="module")
def copy(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    place = tmp_path_factory.mktemp("planted")
    shutil.copytree(recorded.case.store.path, place / "case")
    store = CaseStore.open(place / "case")
    base = CaptureId(recorded.capture(FROM))
    opened = Opener(place / "kernels", SymbolCache(place / "symbols"))
    view = store.view(base)
    sight = opened.open(view)
    yield Copy(store, base, opened, moment_of(sight, view))
    opened.close()


@pytest.fixture(scope="module")
def sites(copy: Copy) -> Sites:
    return read_sites(copy.moment, read_modules(copy.moment)[0])


def the(frame: pd.DataFrame, finding: str) -> pd.Series:
    """Return the one finding, which must be of this kind and of high weight."""
    assert frame["finding"].tolist() == [finding]
    assert frame["weight"].tolist() == ["high"]
    assert frame["reason"].iloc[0] == REASONS[finding]
    return frame.iloc[0]


MODULES = 0xFFFF_FFFF_C000_0000
HOOK = bytes.fromhex("48b80010000000c9ffff50c3")  # mov rax, ADDRESS; push rax; ret


def test_a_system_call_with_its_first_bytes_overwritten(copy: Copy) -> None:
    address = copy.physical("__x64_sys_kill")
    row = the(copy.findings({address: HOOK}), "kernel_text_changed")
    assert (row["pfn"], row["owner"]) == (address // PAGE, "kernel text")
    assert row["virtual"] <= address - copy.moment.delta < row["virtual"] + PAGE
    assert HOOK[:10].hex() in row["evidence"]


def test_a_system_call_that_jumps_away_where_only_the_tracer_may_call(copy: Copy) -> None:
    address = copy.physical("__x64_sys_kill")
    away = jump(address - copy.moment.delta, MODULES)
    row = the(copy.findings({address: away}), "kernel_text_changed")
    assert f"function tracer: {away.hex()} is not what the kernel writes" in row["evidence"]


def test_a_system_call_with_bytes_in_its_middle_overwritten(copy: Copy, sites: Sites) -> None:
    virtual = copy.physical("__x64_sys_kill") - copy.moment.delta + 5
    while sites._of(np.arange(virtual, virtual + 12, dtype=np.uint64)).max() >= 0:
        virtual += 1
    row = the(copy.findings({virtual + copy.moment.delta: HOOK}), "kernel_text_changed")
    assert f"{virtual:#x} is no place that the kernel patches" in row["evidence"]
    assert HOOK.hex() in row["evidence"]


def test_an_entry_of_the_system_call_table_replaced(copy: Copy) -> None:
    address = copy.physical("sys_call_table") + 62 * 8
    row = the(copy.findings({address: (0xFFFFC90000001000).to_bytes(8, "little")}), "kernel_rodata_changed")
    assert (row["pfn"], row["owner"]) == (address // PAGE, "kernel rodata")


def module_part(copy: Copy, owner: str) -> tuple[str, int]:
    """Return a module's name and the physical address of bytes in a part of it that the kernel does not patch."""
    module = next(each for each in read_modules(copy.moment)[0] if each.name == "virtio_blk")
    span = next(span for span in module.spans if span.owner == owner)
    return module.name, int(copy.moment.virtual.locate(np.array([span.start + 0x20], np.uint64))[0])


@pytest.mark.parametrize("part", ["text", "rodata"])
def test_a_module_changed(copy: Copy, part: str) -> None:
    name, address = module_part(copy, f"module {part}")
    row = the(copy.findings({address: b"\xf4\xf4\xf4"}), f"module_{part}_changed")
    assert (row["pfn"], row["owner"], row["detail"]) == (address // PAGE, f"module {part}", name)


def site(copy: Copy, sites: Sites, kind: int, holds: bytes) -> tuple[int, int]:
    """Return virtual address and target of a site of the kernel's image, in the middle of a page, that holds bytes."""
    text, end = copy.moment.structures.symbol("_text"), copy.moment.structures.symbol("_etext")
    assert text is not None
    assert end is not None
    wanted = (sites.kind == kind) & (sites.address >= np.uint64(text)) & (sites.address < np.uint64(end))
    wanted &= sites.address % np.uint64(PAGE) < np.uint64(PAGE - 16)
    where = sites.address[wanted]
    code, _ = copy.moment.virtual.gather(where, len(holds))
    at = np.flatnonzero((code == np.frombuffer(holds, np.uint8)).all(axis=1))[0]
    return int(where[at]), int(sites.target[wanted][at])


IDLE = bytes.fromhex("0f1f440000")
KEY, TRACER = 0, 3


def jump(address: int, target: int, code: int = 0xE9) -> bytes:
    return bytes([code]) + ((target - address - 5) % (1 << 32)).to_bytes(4, "little")


def test_a_static_key_switched_on_is_the_kernels_own_doing(copy: Copy, sites: Sites) -> None:
    address, target = site(copy, sites, KEY, IDLE)
    frame = copy.findings({address + copy.moment.delta: jump(address, target)})
    assert frame["finding"].tolist() == ["kernel_text_patched"]
    assert frame["weight"].tolist() == ["low"]
    assert f"{address:#x} static key: on" in frame["evidence"].iloc[0]


def test_a_static_key_that_jumps_elsewhere_is_not(copy: Copy, sites: Sites) -> None:
    address, target = site(copy, sites, KEY, IDLE)
    row = the(copy.findings({address + copy.moment.delta: jump(address, target + 16)}), "kernel_text_changed")
    assert "static key" in row["evidence"]


def test_a_traced_function_is_told_with_what_it_calls(copy: Copy, sites: Sites) -> None:
    address, _ = site(copy, sites, TRACER, IDLE)
    called = copy.moment.structures.symbol("ftrace_caller")
    assert called is not None
    frame = copy.findings({address + copy.moment.delta: jump(address, called, 0xE8)})
    assert frame["finding"].tolist() == ["kernel_text_patched"]
    assert f"function tracer: calls {called:#x}" in frame["evidence"].iloc[0]


def code_page(copy: Copy) -> tuple[int, int, str]:
    """Return frame, page table entry's physical address and path of a page of libc that a process executes."""
    maps = read_maps(copy.moment)
    names = ["libc.so.6" in path for path in paths_of(copy, maps.areas.entry)]
    for leaf in np.flatnonzero(maps.area >= 0).tolist():
        area = int(maps.area[leaf])
        if names[area] and maps.areas.flags[area] & 4 and maps.pages.bits[leaf] & 2:
            process = maps.processes[int(maps.pages.space[leaf])]
            entry = entry_of(copy, process.tables, int(maps.pages.virtual[leaf]))
            return int(maps.pages.frame[leaf]), entry, paths_of(copy, maps.areas.entry[[area]])[0]
    raise AssertionError("no process executes libc")


def paths_of(copy: Copy, entries: np.ndarray) -> list[str]:  # type: ignore[type-arg]
    return [each.path for each in Paths(copy.moment).of_entries(entries)]


def entry_of(copy: Copy, tables: int, virtual: int) -> int:
    """Return the physical address of the entry that maps a page of 4 KiB."""
    memory = copy.moment.frames.memory
    table = int(copy.moment.virtual.locate(np.array([tables], np.uint64))[0])
    for level in range(copy.moment.levels, 1, -1):
        at = table + (virtual >> (12 + 9 * (level - 1)) & 511) * 8
        table = int.from_bytes(memory.read(at, 8), "little") & 0x000F_FFFF_FFFF_F000
    return table + (virtual >> 12 & 511) * 8


def test_a_librarys_page_changed_in_the_page_cache(copy: Copy) -> None:
    frame, _, path = code_page(copy)
    row = the(copy.findings({frame * PAGE + 100: b"\xeb\xfe"}), "file_page_changed")
    assert (row["pfn"], row["path"]) == (frame, path)
    assert row["file_offset"] % PAGE == 0


def test_a_page_mapped_in_place_of_a_librarys(copy: Copy) -> None:
    _, entry, path = code_page(copy)
    other = int(copy.moment.frames.numbers[np.flatnonzero(read_states(copy) == State.FILE)[0]])
    old = int.from_bytes(copy.moment.frames.memory.read(entry, 8), "little")
    new = old & ~0x000F_FFFF_FFFF_F000 | other << 12
    row = the(copy.findings({entry: new.to_bytes(8, "little")}), "file_page_replaced")
    assert row["owner"] == "process"
    assert row["pfn"] == other
    assert row["mapping_start"] <= row["virtual"] < row["mapping_end"]
    assert f"its mapping is of {path}" in row["evidence"]


def read_states(copy: Copy) -> np.ndarray:  # type: ignore[type-arg]
    return read_struct_pages(copy.moment, copy.moment.frames.numbers).state


def test_a_stack_made_executable_behind_its_mappings_back(copy: Copy) -> None:
    maps = read_maps(copy.moment)
    leaf = next(
        leaf for leaf in np.flatnonzero(maps.area >= 0).tolist() if maps.areas.label[int(maps.area[leaf])] == "[stack]"
    )
    process = maps.processes[int(maps.pages.space[leaf])]
    entry = entry_of(copy, process.tables, int(maps.pages.virtual[leaf]))
    old = int.from_bytes(copy.moment.frames.memory.read(entry, 8), "little")
    row = the(copy.findings({entry: (old & ~(1 << 63)).to_bytes(8, "little")}), "executable_beyond_mapping")
    assert (row["pid"], row["detail"], row["protection"]) == (process.pid, "[stack]", "rw-")


def test_another_kernel_before_is_said_and_nothing_of_it_is_compared(copy: Copy) -> None:
    banner = copy.physical("linux_banner")
    before = copy.plant({banner: b"Winux"})
    after = copy.plant({banner: b"Linux", copy.physical("__x64_sys_kill"): HOOK}, parent=before)
    view = copy.store.view(after)
    answer = ask(Scene(copy.store, view, copy.opener.open(view), silent), "workbench.findings", {"against": before})
    assert "different boots" in answer.error
    assert not answer.frame["finding"].str.startswith("kernel").any()


# Planted in a guest.

MADE_AT = 0x2000_0000
MARK = "rewind workbench planted code"
PROGRAM = r"""
static long call(long n, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "+a"(n) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return n;
}
__attribute__((noinline, noclone)) void victim(void) { __asm__ volatile("nop; nop; nop; nop; nop; nop; nop; nop"); }
void _start(void) {
    volatile char *made = (char *)call(9, %(at)d, 4096, 7, 0x32, -1, 0);
    const char *mark = "%(mark)s";
    for (int i = 0; mark[i]; i++) made[i] = mark[i];
    long page = (long)victim & ~4095L;
    call(10, page, 4096, 7, 0, 0, 0);
    *(volatile char *)((long)victim + 3) = (char)0xf4;
    call(10, page, 4096, 5, 0, 0, 0);
    for (;;) call(34, 0, 0, 0, 0, 0, 0);
}
"""


def build(place: Path) -> bytes:
    """Compile the program that makes code in memory."""
    source, program = place / "plant.c", place / "plant"
    source.write_text(PROGRAM % {"at": MADE_AT, "mark": MARK})
    flags = ["-Os", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-fno-stack-protector", "-fcf-protection=none",
             "-fno-asynchronous-unwind-tables", "-Wl,-z,noseparate-code,--build-id=none", "-s"]  # fmt: skip
    subprocess.run(["gcc", *flags, "-o", str(program), str(source)], check=True, timeout=60)
    return program.read_bytes()


@dataclass(frozen=True)
class Injected:
    """A case of a guest before, soon after and long after the program made its code; its process."""

    case: Case
    opener: Opener
    pid: int


@pytest.fixture(scope="module")
def injected(demo_image: DemoImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Injected]:
    place = tmp_path_factory.mktemp("injected")
    encoded = base64.b64encode(build(place)).decode()
    case = Case.create(place / "case")
    spec = DemoSpec(f"inj-{os.getpid()}", memory_mib=256)
    with DemoGuest.boot(spec, image=demo_image) as guest, case.record(guest.name) as recording:
        recording.capture("before", mark="before")
        script = f"echo {encoded} | base64 -d >/root/plant && chmod +x /root/plant && sync\n"
        script += "setsid /root/plant </dev/null >/dev/null 2>&1 &\necho $!; pid=$!\n"
        script += 'until [ "$(readlink /proc/$pid/exe)" = /root/plant ]; do usleep 20000; done\n'
        script += "until grep -q '^State:.S' /proc/$pid/status; do usleep 20000; done"
        pid = int(guest.run(script).stdout.split()[0])
        recording.capture("planted", mark="planted")
        guest.run("usleep 300000")
        recording.capture("later", mark="later")
    opened = Opener(place / "kernels", SymbolCache(place / "symbols"))
    yield Injected(case, opened, pid)
    opened.close()
    case.close()


def between(injected: Injected, before: str, after: str) -> pd.DataFrame:
    case = injected.case
    frame = found(case.store, injected.opener, case.moment(before).id, case.moment(after).id)
    return frame[frame["weight"] == "high"].set_index("finding")


def test_code_made_in_memory_by_a_process_is_found_and_all_of_it(injected: Injected) -> None:
    frame = between(injected, "before", "planted")
    assert sorted(frame.index) == ["executable_anonymous", "executable_copy_differs", "writable_executable_mapping"]
    assert set(frame["pid"]) == {injected.pid}
    assert set(frame["process"]) == {"plant"}

    made = frame.loc["executable_anonymous"]
    assert (made["virtual"], made["protection"]) == (MADE_AT, "rwx")
    assert MARK.encode().hex() in made["evidence"]

    mapping = frame.loc["writable_executable_mapping"]
    assert (mapping["mapping_start"], mapping["mapping_end"]) == (MADE_AT, MADE_AT + PAGE)
    assert pd.isna(mapping["pfn"])

    patched = frame.loc["executable_copy_differs"]
    assert (patched["path"], patched["protection"], patched["detail"]) == ("/root/plant", "r-x", "own copy")
    assert "1 bytes differ" in patched["evidence"]
    assert " 90909090" in patched["evidence"]
    assert "became f4" in patched["evidence"]


def test_what_was_there_before_is_not_told_again(injected: Injected) -> None:
    assert between(injected, "planted", "later").empty
