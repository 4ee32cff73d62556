"""What is written down of clones, read back whole; a stranger's description says no more than a clone's could."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.case import Case
from workbench.errors import UsageError
from workbench.model import CaptureId
from workbench.rewind.clone_record import CloneRecord, clone_sockets, describe

IDENTITY = str(uuid.UUID(int=7 << 100))
TOLD = {"hostname": "copy.example", "mac": "52:54:00:12:34:56", "machine_id": "ab" * 16, "address": "10.0.2.77/24"}


@pytest.fixture
def record(tmp_path: Path) -> CloneRecord:
    place = tmp_path / "case" / "clones" / IDENTITY
    place.mkdir(parents=True)
    made = CloneRecord(
        "demo-clone",
        IDENTITY,
        "qemu:///session",
        CaptureId("c" * 64),
        str(place),
        str(clone_sockets(IDENTITY)),
        1_700_000_000_000_000_000,
        0.75,
        "mapped",
        "shared",
        "lab",
        TOLD,
        "now",
        "thawed",
    )
    describe(made)
    return made


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case.create(tmp_path / "case")


def records(case: Case) -> list[CloneRecord]:
    return [clone.record for clone in case.clones()]


def test_what_is_written_down_of_a_clone_is_read_back_whole(case: Case, record: CloneRecord) -> None:
    assert records(case) == [record]
    assert [each.name for each in Path(record.directory).iterdir()] == ["clone.json"]


def test_a_clone_of_an_older_workbench_was_cut_off_and_who_its_guest_was(case: Case, record: CloneRecord) -> None:
    path = Path(record.directory) / "clone.json"
    told = json.loads(path.read_text())
    for name in ("network", "segment", "identity", "clock", "thaw", "memory"):
        del told[name]
    path.write_text(json.dumps(told))
    [read] = records(case)
    assert (read.network, read.segment, dict(read.identity), read.clock) == ("none", "", {}, "kept")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network", "bridge"), ("network", ["shared"]), ("segment", "../other"), ("segment", "x" * 65), ("segment", 7),
        ("identity", {"hostname": "$(reboot)"}), ("identity", {"address": "999.0.0.1/24"}), ("identity", "new"),
        ("identity", {"address": "10.0.2.7/33"}), ("identity", {"login": "root"}), ("identity", {"mac": 7}),
        ("uuid", str(uuid.UUID(int=1))), ("capture", "../../x"), ("capture", 7), ("started_ns", -1),
        ("started_ns", 1 << 63), ("started_ns", "now"), ("seconds", float("nan")), ("seconds", float("inf")),
    ],
)  # fmt: skip
def test_a_description_that_no_clone_could_have_is_passed_over(
    case: Case, record: CloneRecord, name: str, value: object
) -> None:
    path = Path(record.directory) / "clone.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    assert records(case) == []


@pytest.mark.parametrize("name", ["name", "uuid", "uri", "capture", "started_ns", "seconds", "segment"])
def test_a_description_that_lacks_something_is_passed_over(case: Case, record: CloneRecord, name: str) -> None:
    path = Path(record.directory) / "clone.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != name}))
    assert records(case) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text("[" * 60_000),
        lambda path: path.write_text("[]"),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: os.mkfifo(path) if not path.unlink() else None,
        lambda path: path.symlink_to(path.rename(path.with_suffix(".old"))),
        lambda path: path.parent.symlink_to(path.parent.rename(path.parent.parent.parent / "elsewhere")),
    ],
    ids=["deep", "list", "bytes", "pipe", "link", "directory's link"],
)
def test_a_strangers_file_is_passed_over_and_keeps_nobody_waiting(
    case: Case, record: CloneRecord, spoil: Callable[[Path], object]
) -> None:
    path = Path(record.directory) / "clone.json"
    spoil(path)
    assert records(case) == []


def test_long_names_are_cut(case: Case, record: CloneRecord) -> None:
    path = Path(record.directory) / "clone.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": "n" * 1000, "thaw": "t" * 1000}))
    [read] = records(case)
    assert (len(read.name), len(read.thaw)) == (255, 500)


def test_an_unknown_clone_is_told_with_those_that_are_known(case: Case, record: CloneRecord) -> None:
    with pytest.raises(UsageError, match="no clone 'x'") as told:
        case.remove_clone("x")
    assert record.name in str(told.value)
