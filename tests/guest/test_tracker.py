"""Written pages: none missed against full comparison, and a guest unharmed whatever becomes of the tracker."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import libvirt
import numpy as np
import pytest
from numpy.typing import NDArray
from waiting import until

from workbench.demo import DemoGuest, DemoSpec
from workbench.errors import GuestGoneError, UnsupportedError, UsageError
from workbench.guest.connection import Guest, Hypervisor
from workbench.guest.memory import MemoryBlock, MemoryMap, read_memory_map
from workbench.guest.pagemap import PRESENT, SOFT_DIRTY, SWAPPED, Pagemap, expand_runs, soft_dirty_pages
from workbench.guest.reader import open_reader, read_block
from workbench.guest.softdirty import SoftDirtyTracker, kernel_has_soft_dirty
from workbench.guest.tracker import CompareTracker, Tracker, open_tracker, writers_past_page_tables
from workbench.model import PAGE

Boot = Callable[[DemoSpec], DemoGuest]


def test_runs_become_page_indices() -> None:
    runs = np.array([[100, 101], [103, 106], [200, 201]]) * PAGE
    assert expand_runs(runs, 90 * PAGE).tolist() == [10, 13, 14, 15, 110]
    assert expand_runs(np.zeros((0, 2), np.int64), 0).tolist() == []


def test_soft_dirty_bits_are_decoded() -> None:
    entries = np.array([0, SOFT_DIRTY | PRESENT, PRESENT, SWAPPED, SWAPPED | SOFT_DIRTY, np.uint64(1 << 61)], np.uint64)
    nothing = np.zeros(6, np.bool_)
    assert soft_dirty_pages(entries, nothing).tolist() == [1, 4]
    dropped = np.array([True, True, True, True, True, False])
    assert soft_dirty_pages(entries, dropped).tolist() == [0, 1, 4]


def test_page_map_entries_tell_what_is_there() -> None:
    with mmap.mmap(-1, 8 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        view = np.frombuffer(area, np.uint8)
        view[3 * PAGE] = 1
        pagemap = Pagemap(os.getpid())
        entries = pagemap.entries(view.ctypes.data, 8)
        pagemap.close()
        assert bool(entries[3] & PRESENT)
        del view


def test_soft_dirty_is_believed_only_if_seen() -> None:
    process = SimpleNamespace(pid=os.getpid(), name="ourselves", require=lambda _what: None, close=lambda: None)
    if not kernel_has_soft_dirty():
        with pytest.raises(UnsupportedError, match="soft-dirty"):
            SoftDirtyTracker(process, MemoryMap((), ()))  # type: ignore[arg-type]
        return
    with mmap.mmap(-1, 8 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        view = np.frombuffer(area, np.uint8)
        view[:] = 1
        tracker = SoftDirtyTracker(process, MemoryMap((MemoryBlock("ram", view.size, view.ctypes.data),), ()))  # type: ignore[arg-type]
        tracker.arm()
        assert len(tracker.collect()["ram"]) == 8
        view[5 * PAGE] = 2
        assert tracker.collect()["ram"].tolist() == [5]
        area.madvise(mmap.MADV_DONTNEED, 0, 2 * PAGE)
        assert tracker.collect()["ram"].tolist() == [0, 1]
        tracker.close()
        del view


def test_comparison_names_every_page() -> None:
    process: Any = SimpleNamespace(require=lambda _what: None, close=lambda: None)
    tracker = CompareTracker(process, MemoryMap((MemoryBlock("rom", PAGE + 1, 0),), ()))
    tracker.arm()
    assert tracker.collect()["rom"].tolist() == tracker.peek()["rom"].tolist() == [0, 1]
    assert not tracker.exact_pages
    tracker.close()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="userfaultfd"):
        open_tracker(SimpleNamespace(), MemoryMap((), ()), prefer="magic")  # type: ignore[arg-type]


def test_memory_shared_with_another_writer_is_noticed() -> None:
    descriptor = os.memfd_create("ram")
    os.ftruncate(descriptor, PAGE)
    with mmap.mmap(descriptor, PAGE) as area:
        view = np.frombuffer(area, np.uint8)
        # Seen from another process: this one plays QEMU there, and its child the backend that shares its memory.
        memory = MemoryMap((MemoryBlock("ram", PAGE, view.ctypes.data),), ())
        assert writers_past_page_tables(os.getpid(), memory) == ""
        program = f"import mmap; area = mmap.mmap({descriptor}, {PAGE}); print(1, flush=True); input()"
        words = [sys.executable, "-c", program]
        with subprocess.Popen(words, stdin=-1, stdout=-1, pass_fds=[descriptor]) as child:
            assert child.stdout is not None
            child.stdout.readline()
            assert f"process {child.pid} shares" in writers_past_page_tables(os.getpid(), memory)
            child.kill()
        del view
    os.close(descriptor)


@contextmanager
def opened(demo: DemoGuest) -> Iterator[tuple[Guest, MemoryMap]]:
    with Hypervisor(demo.uri) as hypervisor:
        guest = hypervisor.guest(demo.name)
        yield guest, read_memory_map(guest)


@contextmanager
def paused(guest: Guest) -> Iterator[None]:
    guest.monitor.execute("stop")
    try:
        yield
    finally:
        guest.monitor.execute("cont")


class Truth:
    """The guest's whole memory as it was at the last pause."""

    def __init__(self, guest: Guest, memory: MemoryMap) -> None:
        self.memory, self.reader = memory, open_reader(guest, memory)
        self.before = {block.name: read_block(self.reader, block) for block in memory.blocks}

    def changed(self) -> dict[str, NDArray[np.int64]]:
        found = {}
        for block in self.memory.blocks:
            now = read_block(self.reader, block)
            old, new = (each.view(np.uint64).reshape(-1, PAGE // 8) for each in (self.before[block.name], now))
            found[block.name] = np.flatnonzero((old != new).any(axis=1))
            self.before[block.name] = now
        return found


def rounds(guest: Guest, memory: MemoryMap, tracker: Tracker, count: int) -> tuple[int, int]:
    """Return how many pages were named and how many really changed, and assert that none was missed."""
    with paused(guest):
        tracker.arm()
        assert {name: len(pages) for name, pages in tracker.collect().items()} == {
            b.name: b.pages for b in memory.blocks
        }
        truth = Truth(guest, memory)
    named = really = 0
    for _ in range(count):
        time.sleep(0.7)
        with paused(guest):
            seen = tracker.peek()
            dirty = tracker.collect()
            changed = truth.changed()
        for name, pages in changed.items():
            assert np.setdiff1d(pages, dirty[name]).tolist() == [], name
            assert np.array_equal(seen[name], dirty[name])
            named, really = named + len(dirty[name]), really + len(pages)
    truth.reader.close()
    return named, really


@pytest.mark.parametrize("shape", [{"vcpus": 2, "vga": True}, {"iothread": True, "cache": "none", "io": "native"}])
def test_no_page_is_missed_under_load(boot_guest: Boot, shape: dict[str, Any]) -> None:
    demo = boot_guest(DemoSpec("mem-track", **shape))
    with opened(demo) as (guest, memory):
        tracker = open_tracker(guest, memory)
        if tracker.name != "userfaultfd":
            pytest.skip(tracker.why)
        for kind in ("memory", "disk", "off"):
            demo.load(kind, 48)
            named, really = rounds(guest, memory, tracker, 3)
            assert 0 < really <= named < 3 * sum(block.pages for block in memory.blocks) // 2
        tracker.close()
        assert demo.health().ok


def test_pages_named_by_a_failed_call_are_not_lost(guest: DemoGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(guest) as (domain, memory):
        tracker: Any = open_tracker(domain, memory)
        if tracker.name != "userfaultfd":
            pytest.skip(tracker.why)
        with pytest.raises(UsageError):
            tracker.collect()
        with paused(domain):
            tracker.arm()
            tracker.collect()
        guest.ping()  # it writes where it answers
        with paused(domain):
            expected = tracker.peek()
            with monkeypatch.context() as broken:
                broken.setattr(tracker._process, "require", lambda _what: 1 // 0)
                with pytest.raises(ZeroDivisionError):
                    tracker.collect()
            again = tracker.collect()
            assert sum(map(len, expected.values())) > 0
            for name, pages in expected.items():
                assert np.setdiff1d(pages, again[name]).tolist() == []
                assert (np.diff(again[name]) > 0).all()
        tracker.close()


def test_one_tracker_at_a_time_and_nothing_left_after_it(guest: DemoGuest) -> None:
    with opened(guest) as (domain, memory):
        first = open_tracker(domain, memory)
        if first.name != "userfaultfd":
            pytest.skip(first.why)
        second = open_tracker(domain, memory)
        assert second.name in ("soft-dirty", "compare")
        assert "EBUSY" in second.why
        with pytest.raises(UnsupportedError, match="EBUSY"):
            open_tracker(domain, memory, prefer="userfaultfd")
        second.close()
        first.close()
        third = open_tracker(domain, memory)
        assert (third.name, third.why) == ("userfaultfd", "")
        third.close()
        assert userfaultfds(domain) == 0
        assert guest.health().ok


def userfaultfds(guest: Guest) -> int:
    handles = f"/proc/{guest.pid}/fd"
    return sum("userfaultfd" in os.readlink(f"{handles}/{name}") for name in os.listdir(handles))


def test_a_guest_that_ended_is_told_and_not_called_clean(boot_guest: Boot) -> None:
    demo = boot_guest(DemoSpec("mem-gone"))
    with opened(demo) as (guest, memory):
        tracker: Any = open_tracker(guest, memory)
        tracker.arm()
        tracker.collect()
        os.kill(guest.pid, signal.SIGKILL)
        select.select([tracker._process.pidfd], [], [])
        for act in (tracker.collect, tracker.peek):
            with pytest.raises(GuestGoneError):
                act()
        tracker.close()

        def over() -> bool:
            """libvirt has noticed too."""
            with contextlib.suppress(libvirt.libvirtError):
                return not demo.domain.isActive()
            return True

        until(over)
        with pytest.raises(GuestGoneError):
            open_tracker(guest, memory)


_KILLED = """
import json, os, signal, sys
from workbench.guest.memory import MemoryMap
from workbench.guest.process import HeldProcess
from workbench.guest.userfaultfd import UserfaultfdTracker
from workbench.errors import UnsupportedError

pid, uuid, layout = int(sys.argv[1]), sys.argv[2], MemoryMap.from_json(json.loads(sys.argv[3]))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _line in sys.stdin:
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    while True:
        try:
            tracker = UserfaultfdTracker(HeldProcess(pid, uuid, "victim"), layout)
        except UnsupportedError:
            continue  # the one before is still being cleared away
        tracker.arm()
        for _ in range(3):
            tracker.collect()
        tracker.close()
"""


@pytest.mark.timeout(900)
def test_killed_two_hundred_times_and_the_guest_lives(boot_guest: Boot) -> None:
    demo = boot_guest(DemoSpec("mem-kill", vcpus=2))
    chance = random.Random(1)
    with opened(demo) as (guest, memory):
        probe = open_tracker(guest, memory)
        probe.close()
        if probe.name != "userfaultfd":
            pytest.skip(probe.why)
        demo.load("memory", 32)
        words = [sys.executable, "-c", _KILLED, str(guest.pid), str(guest.id), json.dumps(memory.to_json())]
        with subprocess.Popen(words, stdin=-1, stdout=-1, text=True, bufsize=1) as nursery:
            assert nursery.stdin is not None
            assert nursery.stdout is not None
            for turn in range(200):
                print("next", file=nursery.stdin, flush=True)
                victim = int(nursery.stdout.readline())
                time.sleep(chance.uniform(0, 0.25))
                os.kill(victim, signal.SIGKILL)
                assert guest.monitor.execute("query-status")["running"], turn
                if turn % 20 == 0:
                    demo.ping()
            nursery.stdin.close()
        demo.load("off")
        assert demo.health().ok

        def tracked() -> bool:
            with contextlib.closing(open_tracker(guest, memory)) as tracker:
                return bool(tracker.name == "userfaultfd")

        until(tracked, "the memory can be tracked again")
