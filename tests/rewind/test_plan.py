"""A plan tells the truth and does nothing; doing it takes the mode and the guest's name."""

from __future__ import annotations

import pytest

from workbench.case import Case, Clone
from workbench.demo import DemoGuest
from workbench.errors import ConfirmationError, UsageError
from workbench.model import CLUSTER, PAGE

pytestmark = pytest.mark.guest


def test_a_plan_says_what_would_change(case: Case, rew_guest: DemoGuest) -> None:
    with case.record(rew_guest.name) as recording:
        there = recording.capture("there")
        rew_guest.run("dd if=/dev/urandom of=/root/much bs=64k count=16; sync")
        recording.capture("between")
        now = recording.capture("now")
    pid = case.hypervisor.guest(rew_guest.name).pid
    plan = case.plan_rewind(there, "production")
    summary = case.diff(now, there).summary().set_index("kind").groupby("kind")["blocks"].sum()
    assert plan.pages == summary["memory"] > 0
    assert plan.clusters == summary["disk"] >= 16
    assert plan.left_behind == 2
    assert (plan.target.id, plan.present.id) == (there.id, now.id)
    assert plan.reshaped == ()
    assert plan.seconds_expected > (plan.pages * PAGE + plan.clusters * CLUSTER) / 10e9
    words = str(plan)
    for part in (rew_guest.name, "production", there.id[:12], now.id[:12], f"{plan.pages} pages", "in place", "undo"):
        assert part in words
    assert case.hypervisor.guest(rew_guest.name).pid == pid
    assert len(case.timeline()) == 3
    rew_guest.run("rm /root/much")


def test_nothing_is_done_without_mode_and_name(case: Case, rew_guest: DemoGuest) -> None:
    with case.record(rew_guest.name) as recording:
        there = recording.capture("there")
    with pytest.raises(UsageError, match="either 'test'"):
        case.plan_rewind(there, "real")  # type: ignore[arg-type]
    rew_guest.run("echo since >/tmp/since")
    for wrong in (None, "", "somebody", rew_guest.name.upper()):
        with pytest.raises(ConfirmationError) as raised:
            case.rewind(case.plan_rewind(there, "production"), confirm=wrong)
        assert rew_guest.name in str(raised.value)
    assert rew_guest.run("cat /tmp/since").stdout == "since\n"
    assert len(case.timeline()) == 1
    with pytest.raises(UsageError, match="no rewind to undo"):
        case.plan_undo()


def test_a_test_rewind_is_a_clone_and_leaves_the_guest_alone(case: Case, rew_guest: DemoGuest) -> None:
    with case.record(rew_guest.name) as recording:
        there = recording.capture("there")
    plan = case.plan_rewind(there)
    assert "a clone beside the guest" in str(plan)
    rew_guest.run("echo since >/tmp/since")
    clone = case.rewind(plan)
    assert isinstance(clone, Clone)
    with clone:
        assert [each.name for each in case.clones()] == [clone.name]
        assert rew_guest.run("cat /tmp/since").stdout == "since\n"
    assert case.clones() == []
    with pytest.raises(UsageError, match="no rewind to undo"):
        case.plan_undo()
