"""Whose a page is: read in bulk, equal to what Volatility reads one by one; trees and tables without an end are cut."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workbench.errors import UsageError, WorkbenchError
from workbench.memory.owning.frames import Frames
from workbench.memory.owning.owned import read_maps
from workbench.memory.owning.processes import read_processes
from workbench.memory.owning.tables import EXECUTABLE, WRITABLE, walk
from workbench.memory.questions import Scene, ask
from workbench.memory.volatility.opening import Opener
from workbench.memory.volatility.ownership import SightStructures, moment_of
from workbench.memory.volatility.sight import Sight
from workbench.model import PAGE

from .conftest import Recorded

LAST = "wiped_log"


@pytest.fixture
def scene(recorded: Recorded, opener: Opener) -> Scene:
    view = recorded.case.store.view(recorded.capture(LAST))
    return Scene(recorded.case.store, view, opener.open(view), lambda percent, words: None)


@pytest.fixture
def sight(scene: Scene) -> Sight:
    return scene.sight


def owners(scene: Scene, **arguments: Any) -> pd.DataFrame:
    answer = ask(scene, "workbench.owners", arguments)
    assert answer.error == ""
    return answer.frame


def tasks(sight: Sight) -> list[Any]:
    """Processes with an address space, one by one, as Volatility reads them."""
    module = sight.module
    first = module.object_from_symbol("init_task")
    listed = first.tasks.to_list(f"{module.symbol_table_name}!task_struct", "tasks")
    return [task for task in listed if task.mm]


def test_every_frame_has_one_row_and_an_owner(scene: Scene) -> None:
    frame = owners(scene)
    assert frame["pfn"].is_unique
    assert frame["pfn"].is_monotonic_increasing
    assert (frame["address"] == frame["pfn"] * PAGE).all()
    assert frame["owner"].notna().all()
    assert len(frame) >= (256 << 20) // PAGE - 1
    for owner in ("process", "page cache", "kernel text", "kernel rodata", "module text", "slab", "free", "page table"):
        assert (frame["owner"] == owner).sum() > 10, owner
    assert (frame["owner"] == "unknown").mean() < 0.03


def test_processes_and_mappings_are_those_of_volatility(scene: Scene, sight: Sight) -> None:
    moment = moment_of(sight, scene.view)
    maps = read_maps(moment)
    assert maps.error == ""
    assert {each.pid for each in maps.processes} == {int(task.tgid) for task in tasks(sight)}
    found = {
        (maps.processes[process].pid, start, end, flags)
        for process, start, end, flags in zip(
            maps.areas.process.tolist(), maps.areas.start.tolist(), maps.areas.end.tolist(),
            (maps.areas.flags & 0xF).tolist(), strict=True,
        )
    }  # fmt: skip
    expected = {
        (int(task.tgid), int(area.vm_start), int(area.vm_end), int(area.vm_flags) & 0xF)
        for task in tasks(sight)
        for area in task.mm.get_vma_iter()
    }
    assert found == expected


def test_pages_of_a_process_are_where_its_page_tables_say(scene: Scene, sight: Sight, recorded: Recorded) -> None:
    pid = recorded.truth["dropped_binary"]["pid"]
    task = next(task for task in tasks(sight) if task.tgid == pid)
    layer = sight.context.layers[task.add_process_layer()]
    every = owners(scene, every=True)
    mine = every[(every["pid"] == pid) & (every["owner"] == "process")]
    assert len(mine) > 50
    for row in mine.itertuples():
        assert layer.translate(row.virtual)[0] == row.address
        assert row.mapping_start <= row.virtual < row.mapping_end


def test_a_deleted_program_is_named_with_its_place_in_the_file(scene: Scene, recorded: Recorded) -> None:
    planted = recorded.truth["dropped_binary"]
    frame = owners(scene)
    mine = frame[(frame["owner"] == "process") & (frame["pid"] == planted["pid"])]
    code = mine[mine["protection"] == "r-x"]
    assert set(code["path"].dropna()) == {planted["path"]}
    assert code["detail"].str.contains("deleted").all()
    assert ((code["virtual"] - code["mapping_start"]) % PAGE == 0).all()
    rest = frame[(frame["owner"] == "page cache") & (frame["path"] == planted["path"])]
    offsets = pd.concat([code, rest])["file_offset"]
    assert offsets.is_unique
    assert (offsets % PAGE == 0).all()


def test_a_files_page_holds_what_the_file_holds(scene: Scene, recorded: Recorded) -> None:
    frame = owners(scene)
    log = frame[(frame["path"] == "/etc/passwd") & (frame["file_offset"] == 0)]
    content = scene.sight.memory.read(int(log["address"].iloc[0]), PAGE)
    assert content.startswith(b"root:")
    assert b"sysupd:x:0:0:" in content


def test_a_page_of_several_processes_has_a_row_for_each(scene: Scene) -> None:
    frame = owners(scene)
    shared = frame[(frame["owner"] == "page cache") & (frame["mappings"] > 2)]
    assert len(shared)
    assert shared["pid"].isna().all()
    wanted = shared["pfn"].tolist()[:5]
    every = owners(scene, pages=wanted, every=True)
    assert every.groupby("pfn").size().tolist() == shared["mappings"].tolist()[:5]
    assert (every["owner"] == "process").all()
    assert every["pid"].notna().all()


def test_free_pages_are_held_by_nobody(scene: Scene) -> None:
    frame = owners(scene)
    free = frame[frame["owner"] == "free"]
    assert (free["mappings"] == 0).all()
    assert free[["pid", "path", "mapping_start"]].isna().all(axis=None)


def test_kernel_text_and_modules_are_where_the_kernel_has_them(scene: Scene, sight: Sight) -> None:
    structures = SightStructures(sight)
    frame = owners(scene).set_index("pfn")
    text = structures.symbol("_text")
    assert text is not None
    assert frame.loc[(text + sight.kernel.delta) // PAGE, "owner"] == "kernel text"
    table = structures.symbol("sys_call_table")
    assert table is not None
    row = frame.loc[(table + sight.kernel.delta) // PAGE]
    assert row["owner"] == "kernel rodata"
    assert row["virtual"] == table & ~(PAGE - 1)
    modules = frame[frame["owner"] == "module text"]
    assert "virtio_blk" in set(modules["detail"])
    for row in modules.itertuples():
        assert (
            sight.layer.translate(
                row.virtual & (1 << 57) - 1 if sight.kernel.levels == 5 else row.virtual & (1 << 48) - 1
            )[0]
            == row.address
        )


def test_the_processors_variables_are_kernel_data(scene: Scene, sight: Sight) -> None:
    structures = SightStructures(sight)
    table = structures.symbol("__per_cpu_offset")
    assert table is not None
    base = int.from_bytes(sight.memory.read(table + sight.kernel.delta, 8), "little")
    frame = owners(scene)
    mine = frame[frame["detail"] == "processor 0's"]
    assert mine["mapping_start"].iloc[0] == base
    assert (mine["owner"] == "kernel data").all()
    current = mine[mine["virtual"] == base]["address"].iloc[0]
    assert sight.layer.translate(base & (1 << 48) - 1)[0] == current


def test_slabs_have_their_caches_name(scene: Scene) -> None:
    frame = owners(scene)
    caches = set(frame.loc[frame["owner"] == "slab", "detail"])
    assert {"dentry", "task_struct", "vm_area_struct"} <= caches


def test_some_frames_are_answered_as_all_are(scene: Scene) -> None:
    every = owners(scene)
    wanted = every["pfn"].sample(500, random_state=7).tolist()
    some = owners(scene, pages=wanted)
    expected = every[every["pfn"].isin(wanted)].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, expected)


@pytest.mark.parametrize("pages", [[-1], [1 << 50], ["x"], [1 << 70]], ids=str)
def test_what_is_no_frame_is_refused(scene: Scene, pages: list[Any]) -> None:
    with pytest.raises(UsageError, match="frame"):
        owners(scene, pages=pages)


def test_a_frame_without_memory_is_no_devices_secret(scene: Scene) -> None:
    frame = owners(scene, pages=[1 << 30])
    assert frame["owner"].tolist() == ["device"]


# Page tables of a hostile guest.


class Planted(Frames):
    """Frames made by a test; all others are there, and zeros."""

    def __init__(self, tables: dict[int, dict[int, int]], frames: int = 1024) -> None:
        self.numbers = np.arange(frames)
        self._tables = tables

    def holds(self, numbers: Any) -> Any:
        return (numbers >= 0) & (numbers < len(self.numbers))

    def take(self, numbers: Any) -> Any:
        content = np.zeros((len(numbers), 512), np.uint64)
        for row, number in enumerate(np.asarray(numbers).tolist()):
            for slot, entry in self._tables.get(number, {}).items():
                content[row, slot] = entry
        return content.view(np.uint8), self.holds(np.asarray(numbers))


def entry(frame: int, bits: int = 7) -> int:
    return frame << 12 | bits


NO_EXECUTE = 1 << 63


def test_small_and_large_pages_are_found_with_their_permissions() -> None:
    frames = Planted(
        {1: {0: entry(2)}, 2: {1: entry(3)}, 3: {0: entry(4), 5: entry(512, 0x83)}, 4: {7: entry(9, 5) | NO_EXECUTE}},
        frames=2048,
    )
    found = walk(frames, np.array([1 << 12]), 4, 0, 1 << 47)
    assert found.error == ""
    assert found.tables.tolist() == [1, 2, 3, 4]
    at = found.frame.tolist().index(9)
    assert (int(found.virtual[at]), int(found.bits[at])) == ((1 << 30) + 7 * PAGE, 0)
    large = found.frame != 9
    assert found.frame[large].tolist() == list(range(512, 1024))
    assert int(found.virtual[large][0]) == (1 << 30) + 5 * (2 << 20)
    assert set(found.bits[large].tolist()) == {WRITABLE | EXECUTABLE}


def test_five_levels_and_the_upper_half() -> None:
    frames = Planted({1: {511: entry(2)}, 2: {0: entry(3)}, 3: {0: entry(4)}, 4: {0: entry(5)}, 5: {0: entry(6)}})
    low = (1 << 64) - (1 << 48)
    found = walk(frames, np.array([1 << 12]), 5, low, (1 << 64) - 1)
    assert found.virtual.tolist() == [low]
    assert len(walk(frames, np.array([1 << 12]), 5, 0, 1 << 56).frame) == 0


def test_a_page_made_inaccessible_is_found_where_it_is() -> None:
    hidden = ~entry(9, 0) & 0x000F_FFFF_FFFF_F000 | 1 << 8
    frames = Planted({1: {0: entry(2)}, 2: {0: entry(3)}, 3: {0: entry(4)}, 4: {1: hidden}})
    found = walk(frames, np.array([1 << 12]), 4, 0, 1 << 47)
    assert (found.frame.tolist(), found.virtual.tolist()) == ([9], [PAGE])


def test_tables_that_point_at_themselves_come_to_an_end_and_are_told() -> None:
    frames = Planted({1: dict.fromkeys(range(512), entry(1))})
    found = walk(frames, np.array([1 << 12]), 4, 0, 1 << 47, most=10_000)
    assert len(found.frame) <= 10_000
    assert "cut" in found.error or "missing" in found.error


def test_huge_pages_beyond_the_limit_are_told() -> None:
    frames = Planted({1: {0: entry(2)}, 2: dict.fromkeys(range(64), entry(0, 0x87))})
    found = walk(frames, np.array([1 << 12]), 4, 0, 1 << 47, most=1 << 19)
    assert "missing" in found.error
    assert (found.frame < 1024).all()


# Lists of a hostile guest.


def test_a_list_of_tasks_that_breaks_off_is_told(scene: Scene, sight: Sight, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = moment_of(sight, scene.view)
    at = moment.structures.offset("task_struct", "tasks")
    gather, calls = moment.virtual.gather, []

    def torn(addresses: Any, length: int) -> Any:
        rows, whole = gather(addresses, length)
        calls.append(1)
        if len(calls) > 5 and length > at + 8:
            rows[:, at : at + 8] = 0
        return rows, whole

    monkeypatch.setattr(moment.virtual, "gather", torn)
    _, error = read_processes(moment)
    assert "breaks off" in error


def test_garbage_in_place_of_trees_is_no_mapping_and_no_hang(
    scene: Scene, sight: Sight, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = moment_of(sight, scene.view)
    size = moment.structures.size("maple_node")
    gather, rng = moment.virtual.gather, np.random.default_rng(3)
    node = int(moment.word(read_processes(moment)[0][0].space + moment.structures.offset("mm_struct", "mm_mt.ma_root")))

    def noise(addresses: Any, length: int) -> Any:
        rows, whole = gather(addresses, length)
        if length == size:  # every slot leads to the root again, or nowhere
            words = rng.choice(np.array([node, node | 8, 0, 1 << 63], np.uint64), (len(rows), size // 8))
            return words.view(np.uint8), np.ones(len(rows), bool)
        return rows, whole

    monkeypatch.setattr(moment.virtual, "gather", noise)
    maps = read_maps(moment)
    assert len(maps.areas.start) == 0 or maps.error


@pytest.mark.parametrize("seed", range(4))
def test_noise_in_what_is_read_ends_in_an_answer_or_a_clear_error(
    scene: Scene, recorded: Recorded, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng, take = np.random.default_rng(seed), Frames.take

    def noisy(self: Frames, numbers: Any) -> Any:
        content, present = take(self, numbers)
        words, count = content.view("<u8"), len(content) // 2 + 1
        if len(content):
            rows, columns = rng.integers(0, len(content), count), rng.integers(0, 512, count)
            others = words[rng.integers(0, len(content), count), rng.integers(0, 512, count)]
            noise = rng.integers(0, 1 << 64, count, dtype=np.uint64)
            words[rows, columns] = np.where(rng.integers(0, 2, count) == 1, others, noise)
        return content, present

    monkeypatch.setattr(Frames, "take", noisy)
    against = {"against": recorded.capture("clean")}
    for question, arguments in (("workbench.owners", {"every": True}), ("workbench.findings", against)):
        with contextlib.suppress(WorkbenchError):
            assert "owner" in ask(scene, question, arguments).frame
