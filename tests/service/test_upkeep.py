"""Upkeep prunes to what each guest's retention keeps, and names damaged captures; a failure is said and not the end."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from waiting import until

from workbench.case import Case
from workbench.service.chores import Chores
from workbench.service.configuration import GuestConfiguration
from workbench.service.leap import Leap
from workbench.service.upkeep import Upkeep

RECORDED = Path(__file__).parents[2] / "datasets" / "intrusion" / "case"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RECORDED, tmp_path / "case", ignore=shutil.ignore_patterns("cache")))


def keep(
    case: Path, *guests: GuestConfiguration, prune: float = 0.2, check: float = 0, leap: Leap | None = None
) -> tuple[Upkeep, list[str]]:
    told: list[str] = []

    def note(what: str, result: str, _facts: dict[str, object]) -> None:
        told.append(f"{what} {result}")

    made = Upkeep(Chores(case), lambda: guests, prune_every_s=prune, check_every_s=check, note=note, leap=leap)
    made.start()
    return made, told


def test_a_guest_is_pruned_to_its_retention_and_protected_captures_stay(case: Path) -> None:
    with Case(case) as opened:
        name, before = opened.guest().name, len(opened.timeline())
        marked = {each.capture for each in opened.marks() if each.capture}
    tiers = {"tiers": [{"every": "1h", "for": "3h"}]}  # long ago: only what is protected stays
    upkeep, told = keep(case, GuestConfiguration.model_validate({"guest": name, "retention": tiers}))
    try:
        until(lambda: upkeep.state.dropped)
        until(lambda: told)
    finally:
        upkeep.end()
    assert told[0] == "prune done"
    with Case(case) as opened:
        left = set(opened.timeline()["id"])
        assert marked <= left
        assert len(left) == before - upkeep.state.dropped
        assert not opened.check()


def test_a_clock_that_was_set_forward_prunes_nothing_for_a_day(case: Path) -> None:
    with Case(case) as opened:
        name, before = opened.guest().name, len(opened.timeline())
    now, offset = [0], [0]
    leap = Leap(wall=lambda: now[0] + offset[0], boot=lambda: now[0])
    offset[0] = 10 * 365 * 86_400 * 10**9
    tiers = {"tiers": [{"every": "1h", "for": "3h"}]}
    upkeep, told = keep(case, GuestConfiguration.model_validate({"guest": name, "retention": tiers}), leap=leap)
    try:
        until(lambda: "was set forward" in upkeep.state.error)
        with Case(case) as opened:
            assert len(opened.timeline()) == before
        assert upkeep.state.pruned_ns is None
        now[0] += 2 * 86_400 * 10**9
        until(lambda: told and not upkeep.state.error)
    finally:
        upkeep.end()


def test_only_a_leap_forward_is_one() -> None:
    now, offset = [0], [0]
    leap = Leap(wall=lambda: now[0] + offset[0], boot=lambda: now[0])
    for step in (60, -7_200, 7_000, 300):  # corrections, one that is set back, and put right
        offset[0] += step * 10**9
        now[0] += 3_600 * 10**9
        assert leap.seconds() == 0
    offset[0] += 7_200 * 10**9
    assert leap.seconds() > 3_600
    offset[0] -= 7_200 * 10**9
    assert leap.seconds() == 0


def test_a_guest_without_a_retention_keeps_everything(case: Path) -> None:
    with Case(case) as opened:
        name, before = opened.guest().name, len(opened.timeline())
    upkeep, told = keep(case, GuestConfiguration(guest=name))
    until(lambda: upkeep.state.pruned_ns)
    upkeep.end()
    with Case(case) as opened:
        assert len(opened.timeline()) == before
    assert told == []


def test_a_check_names_the_captures_that_are_damaged(case: Path) -> None:
    pack = max((case / "packs").rglob("*.pack"), key=lambda path: path.stat().st_size)
    with pack.open("r+b") as file:
        file.seek(pack.stat().st_size // 3)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    upkeep, told = keep(case, prune=3_600, check=0.2)
    try:
        until(lambda: upkeep.state.checked_ns)
    finally:
        upkeep.end()
    assert upkeep.state.damage >= 1
    assert upkeep.state.damaged_captures
    assert told[0] == "check damage"


def test_a_case_that_is_gone_is_said_and_upkeep_goes_on(tmp_path: Path) -> None:
    guest = GuestConfiguration.model_validate({"guest": "a", "retention": {"tiers": [{"for": "1h"}]}})
    upkeep, _told = keep(tmp_path / "none", guest)
    until(lambda: upkeep.state.error)
    assert "does not exist" in upkeep.state.error
    upkeep.end()
    assert threading.active_count() < 50
