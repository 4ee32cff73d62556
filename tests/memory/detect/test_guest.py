"""Planted in a guest: each detector finds what the guest says that it did, and nothing in the capture before."""

from __future__ import annotations

import pytest

from workbench.memory.detect.all import DETECTORS
from workbench.memory.detect.findings import COLUMNS

from .conftest import Asking, Watched, said

pytestmark = pytest.mark.guest


@pytest.mark.parametrize("name", [*DETECTORS, "detect"])
def test_a_clean_capture_has_no_finding(watched: Watched, answer: Asking, name: str) -> None:
    found = answer(watched.case.store, watched.view("clean"), name)
    assert found.error == ""
    assert found.frame.empty
    assert {column: str(kind) for column, kind in found.frame.dtypes.items()} == COLUMNS


@pytest.mark.parametrize("name", ["hidden_processes", "hidden_modules", "hooks"])
def test_programs_of_a_user_are_not_the_kernels_matter(watched: Watched, answer: Asking, name: str) -> None:
    found = answer(watched.case.store, watched.view("planted"), name)
    assert (found.error, len(found.frame)) == ("", 0)


def test_a_program_whose_file_was_deleted(watched: Watched, answer: Asking) -> None:
    found = answer(watched.case.store, watched.view("planted"), "deleted_binaries")
    assert found.error == ""
    assert said(found.frame, "pid", "subject") == [(watched.pids["deleted"], watched.path)]
    (row,) = found.frame.itertuples()
    assert row.finding == "deleted_binary"
    assert "deleted or replaced" in row.reason
    assert ", 0 names, name in use: no" in row.evidence


def test_a_program_that_never_was_a_file(watched: Watched, answer: Asking) -> None:
    found = answer(watched.case.store, watched.view("planted"), "memfd_executables")
    assert found.error == ""
    assert said(found.frame, "finding", "pid", "subject") == [
        ("memfd_executable", watched.pids["memory"], "/memfd:payload")
    ]
    assert "memfd_create" in found.frame.reason[0]


def test_processes_that_are_called_like_threads_of_the_kernel(watched: Watched, answer: Asking) -> None:
    found = answer(watched.case.store, watched.view("planted"), "mimics")
    assert found.error == ""
    assert set(found.frame.finding) == {"kernel_thread_mimic"}
    reasons = {row.pid: (row.subject, row.reason) for row in found.frame.itertuples()}
    pids = watched.pids
    assert {pid: subject for pid, (subject, _) in reasons.items()} == {
        pids["name"]: "kworker/0:7",
        pids["argument"]: "[kswapd9]",
        pids["twin"]: "mm_percpu_wq",
    }
    assert "families" in reasons[pids["name"]][1]
    assert "brackets" in reasons[pids["argument"]][1]
    assert "that runs" in reasons[pids["twin"]][1]


def test_all_of_them_in_one_table(watched: Watched, answer: Asking) -> None:
    found = answer(watched.case.store, watched.view("planted"), "detect")
    assert found.error == ""
    assert said(found.frame, "finding", "pid") == sorted(
        [("deleted_binary", watched.pids["deleted"]), ("memfd_executable", watched.pids["memory"])]
        + [("kernel_thread_mimic", watched.pids[kind]) for kind in ("name", "argument", "twin")]
    )
    assert {column: str(kind) for column, kind in found.frame.dtypes.items()} == COLUMNS
