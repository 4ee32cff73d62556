"""Every step of a prune fails or kills: what is kept stays byte-equal, a writer goes on, and the next prune ends it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from casebuilder import GUEST, Built, assert_whole, build_hot_case, extend
from test_faults import FailingOs, raising
from test_prune import forget

from workbench.errors import StoreError, StoreFullError
from workbench.model import CaptureId
from workbench.store import CaseStore, PrunePlan, local, plan_prune

GONE = (0, 2, 3, 5, 6)

CHILD = """
import os, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from casebuilder import GUEST
from test_faults import FailingOs
from workbench.store import CaseStore, local, plan_prune

plan = plan_prune(CaseStore.open(Path({path!r})), GUEST, {gone!r})
for step in range(1, {steps} + 1):
    if os.fork() == 0:
        os.chdir(Path({path!r}).parent)
        plan._store.backend.root = Path("killed") / str(step)
        local.os = FailingOs(step, lambda: os._exit(9))
        plan.execute()
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.wait()[1])
    assert ended == 9 or (ended == 0 and step > {steps} - 20), step  # packs share directories or not, by their names
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A case of eight captures, of which five are to go; each test works on copies."""
    return build_hot_case(tmp_path_factory.mktemp("prune") / "case", 8)


def copy_of(model: Built, path: Path) -> Built:
    shutil.copytree(model.path, path)
    return replace(model, path=path, content=dict(model.content), records=list(model.records))


def gone(model: Built) -> list[CaptureId]:
    return [model.ids[number] for number in GONE]


@pytest.fixture(scope="module")
def steps(model: Built, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many calls change or flush something."""
    built = copy_of(model, tmp_path_factory.mktemp("count") / "case")
    plan = plan_prune(built.open(), GUEST, gone(model))
    assert plan.rebase
    assert plan.rewrite
    with pytest.MonkeyPatch.context() as patch:
        counting = FailingOs(10**9, lambda: None)
        patch.setattr(local, "os", counting)
        plan.execute()
    return 10**9 - counting.left


def assert_half_done(built: Built, dropped: list[CaptureId]) -> None:
    """Whatever is listed reads, dropped or not; all that is kept is listed; nothing counts for damage."""
    store = built.open()
    listed = {ref.id for ref in store.captures(GUEST)}
    kept = set(built.content) - set(dropped)
    assert kept <= listed <= set(built.content)
    assert_whole(replace(built, content={each: built.content[each] for each in listed}))


def assert_ended(built: Built, dropped: list[CaptureId]) -> None:
    """A writer goes on, and the next prune ends what was begun."""
    with built.open().writer(GUEST) as writer:
        writer.move_to(built.ids[-1])
        extend(built, writer, 1)
    listed = {ref.id for ref in built.open().captures(GUEST)}
    begun = set(built.open().pruned(GUEST))
    assert begun in (set(), set(dropped))
    assert plan_prune(built.open(), GUEST, sorted(listed & set(dropped))).execute().complete
    forget(built, dropped)
    assert_whole(built)
    store = built.open()
    assert [ref.id for ref in store.captures(GUEST)] == built.ids
    assert len(list(built.path.glob("guests/*/deltas/*"))) == len(built.ids)
    assert not [name for name in os.listdir(built.path / "tmp") if name.startswith("prune-")]


def failing(plan: PrunePlan, step: int, number: int) -> StoreError | None:
    """Execute a plan of which one step fails; return what was said of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "os", FailingOs(step, raising(number)))
        try:
            plan.execute()
        except StoreError as error:
            return error
    return None


@pytest.mark.parametrize(("number", "first"), [(errno.ENOSPC, 1), (errno.EIO, 2)])
def test_every_step_may_fail(model: Built, steps: int, tmp_path: Path, number: int, first: int) -> None:
    assert steps > 20
    told = []
    for step in range(first, steps + 1, 2):
        built = copy_of(model, tmp_path / f"case{step}")
        error = failing(plan_prune(built.open(), GUEST, gone(model)), step, number)
        told += [] if error is None else [isinstance(error, StoreFullError)]
        assert_half_done(built, gone(model))
        if step % 3 == 0:
            assert_ended(built, gone(model))
        shutil.rmtree(built.path)
    assert set(told) == {number == errno.ENOSPC}
    assert len(told) > steps // 4  # the others were of no consequence: a file that was on its way out


def test_a_kill_at_every_step(model: Built, steps: int, tmp_path: Path) -> None:
    for step in range(1, steps + 1):
        copy_of(model, tmp_path / "killed" / str(step))
    origin = copy_of(model, tmp_path / "case")
    names = [str(each) for each in gone(model)]
    text = CHILD.format(tests=str(Path(__file__).parent), path=str(origin.path), gone=names, steps=steps)
    subprocess.run([sys.executable, "-c", text], check=True)
    for step in range(1, steps + 1):
        built = copy_of(model, tmp_path / "ended" / str(step))
        shutil.rmtree(built.path)
        (tmp_path / "killed" / str(step)).rename(built.path)
        assert_half_done(built, gone(model))
        assert_ended(built, gone(model))


def test_what_a_killed_prune_left_does_not_stop_a_capture(model: Built, tmp_path: Path) -> None:
    """Between its tombstones and its records a prune was killed: the captures are there, and go with the next one."""
    built = copy_of(model, tmp_path / "case")
    plan = plan_prune(built.open(), GUEST, gone(model))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local.LocalBackend, "delete_many", lambda *_: (_ for _ in ()).throw(StoreError("gone")))
        with pytest.raises(StoreError):
            plan.execute()
    assert_whole(built)
    assert set(built.open().pruned(GUEST)) == set(gone(model))
    assert_ended(built, gone(model))


def test_a_case_stays_readable_to_who_has_it_open(model: Built, tmp_path: Path) -> None:
    built = copy_of(model, tmp_path / "case")
    reader = CaseStore.open(built.path)
    listed = [ref.id for ref in reader.captures(GUEST)]
    plan_prune(built.open(), GUEST, gone(model)).execute()
    assert reader.check() == []
    assert [each for each in listed if each in {ref.id for ref in reader.captures(GUEST)}] == [
        each for each in model.ids if each not in gone(model)
    ]
