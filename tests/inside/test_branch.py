"""A captured clone is a branch of the timeline, and its moments can be compared with those that it comes from."""

from __future__ import annotations

import pytest

from workbench.case import Case, Clone

pytestmark = pytest.mark.guest


def test_captures_of_a_clone_are_a_branch_at_the_moment_that_it_began_at(inside_case: Case, clone: Clone) -> None:
    begin = inside_case.moment("begin")
    before = inside_case.timeline()
    clone.run("echo planted >/root/in-the-clone; sync", how="agent").check()
    first = clone.capture("after planting")
    second = clone.capture("once more", mark="twice")
    frame = inside_case.timeline()
    rows = frame.set_index("id")
    assert list(frame["id"]) == [*before["id"], first.id, second.id]
    assert (rows["parent"][first.id], rows["parent"][second.id]) == (begin.id, first.id)
    assert rows["branch"][first.id] == rows["branch"][second.id] > max(before["branch"])
    assert rows["depth"][second.id] == begin.record.depth + 2
    assert list(inside_case.timeline(since=first.id)["id"]) == [second.id]

    # The original is still the one that is meant, and a moment of the clone is found by its id.
    assert inside_case.moment().guest.id == begin.guest.id
    assert inside_case.moment(second.id).guest.name == clone.name
    assert inside_case.moment("twice", clone.name).id == second.id

    files = inside_case.diff(begin, first).files()
    assert "/root/in-the-clone" in set(files["path"])
    assert first.open("/root/in-the-clone").read() == b"planted\n"
    assert inside_case.check() == []
