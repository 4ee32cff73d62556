"""What a guest may write to mislead whoever looks: detectors end, and say what they could not look at."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from workbench.errors import AnalysisError
from workbench.memory.detect.all import DETECTORS, detect
from workbench.memory.detect.modules import find_hidden_modules
from workbench.memory.detect.processes import find_hidden, live_processes
from workbench.memory.detect.reading import Reader
from workbench.memory.questions import Scene
from workbench.memory.volatility.opening import Opener
from workbench.memory.volatility.sight import Sight

from .conftest import Watched
from .copying import Changes

pytestmark = pytest.mark.guest

_UNMAPPED = 0xFFFF_8000_DEAD_0000


class Altered:
    """A capture's memory with other bytes in places, without a copy of it."""

    def __init__(self, memory: Any, changed: dict[int, bytes]) -> None:
        self._memory = memory
        self._changed = sorted(changed.items())

    def holds(self, address: int, length: int = 1) -> bool:
        return bool(self._memory.holds(address, length))

    def read(self, address: int, length: int) -> bytes:
        return self._lay(address, bytearray(self._memory.read(address, length)))

    def runs(self, *, most: int = 16 << 20) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for address, content in self._memory.runs(most=most):
            yield address, np.frombuffer(self._lay(address, bytearray(content.tobytes())), np.uint8)

    def _lay(self, address: int, content: bytearray) -> bytes:
        for at, changed in self._changed:
            begin, end = max(at, address), min(at + len(changed), address + len(content))
            if begin < end:
                content[begin - address : end - address] = changed[begin - at : end - at]
        return bytes(content)


@pytest.fixture
def changes(watched: Watched, eyes: Opener) -> Changes:
    return Changes(Reader(eyes.open(watched.view("planted"))))


def altered(changes: Changes) -> Sight:
    sight = changes.reader.sight
    seen = SimpleNamespace(
        memory=Altered(sight.memory, changes.bytes),
        kernel=sight.kernel,
        module=sight.module,
        canonical=sight.canonical,
        capture=sight.capture,
    )
    return cast("Sight", seen)


def first_task(changes: Changes) -> int:
    return changes.reader.must("init_task")


def link(changes: Changes, member: str) -> int:
    return first_task(changes) + changes.reader.offset("task_struct", member)


@pytest.mark.parametrize("target", ["ring", "nowhere"])
def test_a_task_list_that_does_not_end_is_no_answer(changes: Changes, target: str) -> None:
    second = changes.reader.word(link(changes, "tasks"))
    third = changes.reader.word(second)
    changes.word(third, second if target == "ring" else _UNMAPPED)
    with pytest.raises(AnalysisError, match="task list broke off"):
        find_hidden(Reader(altered(changes)))


def test_what_breaks_one_detector_does_not_silence_the_others(changes: Changes) -> None:
    second = changes.reader.word(link(changes, "tasks"))
    changes.word(changes.reader.word(second), second)
    scene = cast("Scene", SimpleNamespace(sight=altered(changes), progress=lambda _percent, _words: None))
    frame = detect(scene)
    assert "hidden_processes: the task list broke off" in frame.attrs["error"]
    assert {"deleted_binary", "memfd_executable", "kernel_thread_mimic"} == set(frame.finding)


def test_numbers_that_lead_nowhere_prove_nothing(changes: Changes) -> None:
    reader = changes.reader
    root = reader.must("init_pid_ns") + reader.offset("pid_namespace", "idr") + reader.offset("xarray", "xa_head")
    node = reader.word(root) - 2
    changes.word(node + reader.offset("xa_node", "shift"), 64, 1)
    report = find_hidden(Reader(altered(changes)))
    assert report.findings == []
    (told,) = report.unseen
    assert "process numbers broke off" in told


def test_a_slab_that_is_none_is_told(changes: Changes) -> None:
    changes.word(changes.reader.must("task_struct_cachep"), 0)
    report = find_hidden(Reader(altered(changes)))
    assert report.findings == []
    (told,) = report.unseen
    assert "slab of tasks could not be searched" in told


def test_a_module_that_leads_nowhere_is_told(changes: Changes) -> None:
    reader = changes.reader
    changes.word(reader.word(reader.must("module_kset")) + reader.offset("kset", "list"), _UNMAPPED)
    report = find_hidden_modules(Reader(altered(changes)))
    assert report.findings == []
    (told,) = report.unseen
    assert "kobjects of sysfs broke off" in told


def test_arguments_that_are_not_in_memory_are_told(changes: Changes, watched: Watched) -> None:
    (task,) = (task for task in live_processes(changes.reader)[0] if task.pid == watched.pids["argument"])
    changes.word(task.mm + changes.reader.offset("mm_struct", "arg_start"), 0x10000)
    report = DETECTORS["mimics"](Reader(altered(changes)))
    assert task.pid not in {each.pid for each in report.findings}
    assert [each for each in report.unseen if f"arguments of process {task.pid} cannot be read" in each]


def test_pointers_of_any_kind_end_in_an_answer_or_a_refusal(changes: Changes) -> None:
    """Words of the structures that are walked, replaced by other words: nothing hangs, nothing else is raised."""
    chance, reader = random.Random(20_250_101), changes.reader
    tasks = [task.address for task in live_processes(reader)[0]]
    places = [task + at for task in tasks for _, at in members(reader, "task_struct")]
    places += [each.mm + at for each in live_processes(reader)[0] if each.mm for _, at in members(reader, "mm_struct")]
    for _ in range(12):
        wild = Changes(reader)
        for place in chance.sample(places, 40):
            wild.word(place, chance.choice([0, 1, _UNMAPPED, chance.choice(tasks), chance.getrandbits(64), place]))
        began = time.process_time()
        for find in DETECTORS.values():
            try:
                assert find(Reader(altered(wild))).frame() is not None
            except AnalysisError:
                continue
        assert time.process_time() - began < 60


def members(reader: Reader, kind: str) -> list[tuple[str, int]]:
    wanted = {
        "task_struct": "tasks children sibling thread_node signal thread_pid mm real_parent pid_links sighand",
        "mm_struct": "exe_file pgd arg_start arg_end",
    }[kind].split()
    return [(name, reader.offset(kind, name)) for name in wanted]


def test_a_change_of_these_tests_is_seen_by_reads_and_runs(changes: Changes) -> None:
    at = link(changes, "comm")
    changes.word(at, 0x4142434445464748)
    memory = altered(changes).memory
    physical = changes.reader.physical(at)
    assert physical is not None
    assert memory.read(physical - 3, 8)[3:] == b"HGFED"
    (run,) = (part for start, part in memory.runs() if start <= physical < start + len(part))
    assert b"HGFEDCBA" in run.tobytes()
