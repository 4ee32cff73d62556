"""Changed pages: exactly those that the store says, each with the owner it has now; the intrusion is explained."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench.errors import UsageError
from workbench.memory.questions import Scene, ask
from workbench.memory.volatility.opening import Opener
from workbench.model import PAGE

from .conftest import Recorded


def changed(recorded: Recorded, opener: Opener, before: str, after: str) -> tuple[Scene, pd.DataFrame]:
    view = recorded.case.store.view(recorded.capture(after))
    scene = Scene(recorded.case.store, view, opener.open(view), lambda percent, words: None)
    answer = ask(scene, "workbench.pages", {"against": recorded.capture(before)})
    assert answer.error == ""
    return scene, answer.frame


def test_the_pages_are_those_that_differ(recorded: Recorded, opener: Opener) -> None:
    scene, frame = changed(recorded, opener, "clean", "new_user")
    expected = recorded.case.store.diff(recorded.capture("clean"), recorded.capture("new_user"))
    for region, index in expected.items():
        if not region.startswith(("state:", "disk:")):
            mine = frame[frame["region"] == region]
            assert sorted(mine["page"]) == index.tolist()
            assert (scene.sight.memory.addresses(region, mine["page"].to_numpy()) == mine["address"]).all()
    assert set(frame["region"]) <= {name for name, index in expected.items() if len(index)}
    assert (frame["address"] == frame["pfn"] * PAGE).all()


@pytest.mark.parametrize(("before", "step"), [("new_user", "dropped_binary"), ("dropped_binary", "backdoor")])
def test_the_new_process_owns_pages_that_changed(recorded: Recorded, opener: Opener, before: str, step: str) -> None:
    _, frame = changed(recorded, opener, before, step)
    mine = frame[(frame["owner"] == "process") & (frame["pid"] == recorded.truth[step]["pid"])]
    assert (mine["detail"] == "[stack]").any()
    assert (mine["detail"] == "[heap]").any()
    assert {"rw-"} <= set(mine["protection"])


def test_the_dropped_files_pages_are_named_by_its_path(recorded: Recorded, opener: Opener) -> None:
    _, frame = changed(recorded, opener, "new_user", "dropped_binary")
    planted = recorded.truth["dropped_binary"]
    mine = frame[frame["path"] == planted["path"]]
    assert mine["owner"].isin(["process", "page cache"]).all()
    assert len(mine) > 100
    assert set(mine["pid"].dropna()) == {planted["pid"]}


def test_the_changed_password_file_is_in_the_page_cache(recorded: Recorded, opener: Opener) -> None:
    _, frame = changed(recorded, opener, "break_in", "new_user")
    assert "/etc/passwd" in set(frame.loc[frame["owner"] == "page cache", "path"])


def test_most_changes_have_an_owner(recorded: Recorded, opener: Opener) -> None:
    _, frame = changed(recorded, opener, "clean", "wiped_log")
    assert (frame["owner"] == "unknown").mean() < 0.05


def test_nothing_changed_against_the_moment_itself(recorded: Recorded, opener: Opener) -> None:
    _, frame = changed(recorded, opener, "clean", "clean")
    assert frame.empty
    assert {"region", "page", "pfn", "owner", "detail"} <= set(frame.columns)


def test_pages_out_of_the_guests_view_keep_their_region(
    recorded: Recorded, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = recorded.case.store.view(recorded.capture("new_user"))
    scene = Scene(recorded.case.store, view, opener.open(view), lambda percent, words: None)
    memory = type(scene.sight.memory)
    monkeypatch.setattr(memory, "addresses", lambda self, region, pages: np.full(len(pages), -1))
    frame = ask(scene, "workbench.pages", {"against": recorded.capture("clean")}).frame
    assert len(frame)
    assert set(frame["owner"]) == {"outside"}
    assert frame[["pfn", "address", "pid", "path"]].isna().all(axis=None)
    assert frame["region"].notna().all()


def test_a_capture_that_is_not_there_is_refused(recorded: Recorded, opener: Opener) -> None:
    view = recorded.case.store.view(recorded.capture("clean"))
    scene = Scene(recorded.case.store, view, opener.open(view), lambda percent, words: None)
    with pytest.raises(UsageError):
        ask(scene, "workbench.pages", {"against": "0" * 64})
