"""Code held against the disk: nothing on clean captures; what is changed in memory alone, in a copy, is found."""

from __future__ import annotations

import pandas as pd
import pytest

from workbench.disk.mounted import open_disks
from workbench.disk.pagecache import PageCache
from workbench.instant.code import REASONS, altered_code

from .conftest import Lying, Unsynced

SHELL = "/usr/bin/busybox"
HOOK = bytes.fromhex("48b8ffffffffffffff7fffe0")  # mov rax, ADDRESS; jmp rax
AT = 0x123


def page_of(executed: pd.DataFrame) -> pd.Series:
    """Return a page of the shell's code, in the middle of its file."""
    mine = executed[(executed["path"] == SHELL) & ~executed["copy"]].sort_values("offset")
    return mine.iloc[len(mine) // 2]


@pytest.mark.parametrize("when", ["synced", "written", "settled"])
def test_code_that_came_from_the_disk_is_no_finding(unsynced: Unsynced, when: str) -> None:
    found = unsynced.case.moment(when).altered_code()
    assert found.empty
    assert found.attrs["compared"] > 100
    assert found.attrs["error"] == ""


def test_a_page_of_a_program_changed_in_memory_alone(lying: Lying) -> None:
    page = page_of(lying.case.moment("written").vol("workbench.executed"))
    moment = lying.plant({int(page["address"]) + AT: HOOK})
    row = moment.altered_code().iloc[0]
    assert (row["finding"], row["weight"], row["pfn"]) == ("disk_page_differs", "high", page["pfn"])
    assert (row["path"], row["file_offset"]) == (SHELL, page["offset"])
    assert row["reason"] == REASONS["disk_page_differs"]
    assert f"{AT:#x}" in row["evidence"]
    assert HOOK.hex() in row["evidence"]
    with moment.open(SHELL) as seen, moment.open(SHELL, source="disk") as stored:
        seen.seek(page["offset"] + AT)
        stored.seek(page["offset"] + AT)
        assert seen.read(len(HOOK)) == HOOK  # what the guest executes and reads
        assert stored.read(len(HOOK)) != HOOK
    for name, expected in (("written", True), (moment.id, False)):
        findings = lying.case.diff(name, moment.id).findings()
        assert ("disk_page_differs" in set(findings["finding"])) is expected
        assert findings.attrs["error"] == ""
    files = lying.case.diff("written", moment.id).files().set_index("path")
    assert files.loc[SHELL, ["change", "source"]].tolist() == ["modified", "page cache"]


def test_a_page_that_waits_to_be_written_back_is_no_finding(lying: Lying) -> None:
    page = page_of(lying.case.moment("written").vol("workbench.executed"))
    base = lying.kernel.structures.symbol("vmemmap_base")
    assert base is not None
    at = lying.kernel.word(base) + int(page["pfn"]) * lying.kernel.structures.size("page")
    at += lying.kernel.structures.offset("page", "flags")
    dirty = lying.kernel.word(at) | 1 << lying.kernel.structures.enumeration("pageflags")["PG_dirty"]
    found = lying.plant({int(page["address"]) + AT: HOOK, **lying.word(at, dirty)}).altered_code()
    assert found.empty
    assert found.attrs["not_compared"]["newer than the disk"] == 1


def test_private_copies_are_held_against_the_disk_too(lying: Lying) -> None:
    moment = lying.case.moment("written")
    executed, view = moment.vol("workbench.executed"), lying.case.store.view(moment.id)
    mine = executed[executed["path"] == SHELL].sort_values("offset").iloc[[2, 3]].assign(copy=True)
    changed = int(mine["address"].iloc[1])

    def read(address: int, length: int) -> bytes:
        found = lying.kernel.frames.memory.read(address, length)
        return HOOK + found[len(HOOK) :] if address == changed else found

    cache = PageCache(moment.vol("workbench.cached"), read, lambda at: at)
    found = altered_code(mine, cache, open_disks(view, cache=cache))
    assert found[["finding", "address"]].to_numpy().tolist() == [["disk_copy_differs", changed]]
    assert found.attrs["same"] == [int(mine["pfn"].iloc[0])]


def test_a_deleted_program_has_nothing_to_compare_with(lying: Lying) -> None:
    moment = lying.case.moment("written")
    executed = moment.vol("workbench.executed").assign(links=pd.array([0], "Int64")[0])
    cache = PageCache(moment.vol("workbench.cached"), lying.kernel.frames.memory.read, lambda at: at)
    found = altered_code(executed, cache, open_disks(lying.case.store.view(moment.id), cache=cache))
    assert found.empty
    assert sum(found.attrs["not_compared"].values()) == len(executed)
    assert found.attrs["not_compared"]["the file is deleted"] > 0
