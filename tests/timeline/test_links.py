"""Links to moments: they last, name one case, and are refused whole where they are broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from workbench.case import Case
from workbench.errors import UsageError
from workbench.model import CaptureId, CaptureMode, GuestId, RegionKind, RegionSpec
from workbench.store import CaseStore

RAM = RegionSpec("pc.ram", RegionKind.MEMORY, 16 * 4096, 4096)
NOON = 1_714_566_600_000_000_000
GUESTS = {"web": "6d0c1f5e-52d4-4a3b-9c0e-0123456789ab", "db": "7d0c1f5e-52d4-4a3b-9c0e-0123456789ab"}


def planted(path: Path, captures: int = 3) -> dict[str, list[CaptureId]]:
    store, taken = CaseStore.create(path), {}
    for name, uuid in GUESTS.items():
        store.add_guest(GuestId(uuid), name)
        with store.writer(GuestId(uuid)) as writer:
            taken[name] = [take(writer, at, name) for at in range(captures)]
    return taken


def take(writer: object, at: int, name: str) -> CaptureId:
    with writer.begin([RAM]) as transaction:  # type: ignore[attr-defined]
        transaction.put(RAM.name, np.array([at]), np.full((1, 4096), len(name), np.uint8))
        return transaction.commit(time_ns=NOON + at * 10**9, mode=CaptureMode.MANUAL, reason=name, facts={}).id


def test_a_link_finds_the_moment_and_its_guest_wherever_the_case_is(tmp_path: Path) -> None:
    taken = planted(tmp_path / "case")
    with Case(tmp_path / "case") as case:
        links = [case.moment(f"id:{capture}", name).link for name in taken for capture in taken[name]]
    shutil.move(tmp_path / "case", tmp_path / "moved")
    with Case(tmp_path / "moved") as case:
        found = [case.moment(f" {link} ") for link in links]
    assert [each.id for each in found] == taken["web"] + taken["db"]
    assert [each.guest.name for each in found] == ["web"] * 3 + ["db"] * 3


def test_a_link_into_another_case_is_refused(tmp_path: Path) -> None:
    planted(tmp_path / "a")
    planted(tmp_path / "b")
    with Case(tmp_path / "b") as other:
        link = other.moment("latest", "web").link
    with Case(tmp_path / "a") as case, pytest.raises(UsageError, match="another case"):
        case.moment(link)


@pytest.mark.parametrize("end", [-1, -65, 8, 5])
def test_a_broken_link_is_refused(tmp_path: Path, end: int) -> None:
    planted(tmp_path / "case")
    with Case(tmp_path / "case") as case:
        link = case.moment("latest", "db").link
        with pytest.raises(UsageError, match="no whole link"):
            case.moment(link[:end], "db")


def test_a_link_to_a_capture_that_is_gone_says_so(tmp_path: Path) -> None:
    planted(tmp_path / "case")
    with Case(tmp_path / "case") as case:
        link = case.moment("latest", "db").link
        with pytest.raises(UsageError, match="no such capture"):
            case.moment(link[:-1] + ("0" if link[-1] != "0" else "1"))


def test_what_comes_after_a_capture_is_told_without_reading_what_was_before(tmp_path: Path) -> None:
    taken = planted(tmp_path / "case", 5)
    records = (tmp_path / "case" / "guests" / GUESTS["web"] / "captures").glob("*.capture")
    for path in sorted(records)[:3]:
        path.chmod(0o644)
        path.write_bytes(b"damaged")
    with Case(tmp_path / "case") as case:
        assert list(case.timeline("web", since=taken["web"][2])["id"]) == taken["web"][3:]
        assert len(case.timeline("web", since=taken["web"][4])) == 0
        assert list(case.timeline("db", since="2024-05-01T12:30:03")["id"]) == taken["db"][4:]
        assert list(case.timeline("db", since="latest").columns) == list(case.timeline("db").columns)
        with pytest.raises(UsageError, match="no such capture"):
            case.timeline("web", since="0" * 64)
