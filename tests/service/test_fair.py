"""Two real guests in one case: they take turns, and share a budget that does not suffice, openly."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from waiting import until

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.guest.connection import Hypervisor
from workbench.service.budget import Budget
from workbench.service.configuration import GuestConfiguration
from workbench.service.keeper import Keeper

INTERVAL = 1.2


@pytest.fixture(scope="module")
def two(demo_image: DemoImage) -> Iterator[list[DemoGuest]]:
    with ExitStack() as stack:
        specs = [DemoSpec(f"fair{number}-{os.getpid()}", memory_mib=128) for number in (1, 2)]
        yield [stack.enter_context(DemoGuest.boot(spec, image=demo_image)) for spec in specs]


@pytest.fixture
def case(public_directory: Path) -> Iterator[Case]:
    with Case.create(public_directory / "case") as made:
        yield made


def find(name: str) -> tuple[str, str] | None:
    with Hypervisor("qemu:///session") as hypervisor:
        running = {each.name: each.id for each in hypervisor.guests()}
    return (running[name], name) if name in running else None


def keepers(two: list[DemoGuest], case: Case, budget: Budget, audit_every: int = 0) -> list[Keeper]:
    return [
        Keeper(
            GuestConfiguration(guest=guest.name, interval_s=INTERVAL),
            case=case.path, connect=case.uri, find=find, budget=budget, audit_every=audit_every,
        )
        for guest in two
    ]  # fmt: skip


@pytest.fixture
def kept() -> Iterator[list[Keeper]]:
    made: list[Keeper] = []
    yield made
    for each in made:
        each.end()


def test_two_guests_take_turns_and_every_other_capture_is_audited(
    two: list[DemoGuest], case: Case, kept: list[Keeper]
) -> None:
    kept += keepers(two, case, Budget(), audit_every=2)
    for each in kept:
        each.start()
    until(lambda: all(each.status().captures >= 9 for each in kept))
    known = [case.guest(guest.name).id for guest in two]
    one, other = ([case.store.record(ref.id) for ref in case.store.captures(each)][3:] for each in known)
    apart = [min(abs(mine.time_ns - theirs.time_ns) / 1e9 for theirs in other) for mine in one]
    assert median(apart) > INTERVAL / 6  # half an interval by plan; at once, without turns
    for records in (one, other):
        audited = ["audit" in each.facts["pause_parts_ns"] for each in records]
        assert all(before != after for before, after in pairwise(audited))
    assert [each.status().failures for each in kept] == [0, 0]
    assert case.check() == []


def test_a_budget_that_does_not_suffice_stretches_both_and_says_so(
    two: list[DemoGuest], case: Case, kept: list[Keeper]
) -> None:
    kept += keepers(two, case, budget := Budget(cpu=0.002))
    for each in kept:
        each.start()
    until(lambda: all(each.status().interval_held_s > INTERVAL for each in kept))
    for each in kept:
        status = each.status()
        assert (status.health, status.interval_asked_s) == ("degraded", INTERVAL)
        assert "the budget of 0.002 cores does not suffice" in status.why
        assert status.cpu_cores is not None
        assert status.cpu_cores > 0
    assert budget.state(0.0).stretched == 2
    kept.pop().end()
    assert budget.state(0.0).stretched == 1
