"""A moment driven again: what would come of it comes, what is recorded is played, what came from outside is missing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from numbered import GUEST, Numbered
from waiting import until

from workbench.case import Case, Moment
from workbench.demo import DemoGuest
from workbench.errors import UsageError
from workbench.model import Mark
from workbench.replay.drive import Replay
from workbench.replay.inputs import INPUT, Input, inputs_of, note_input
from workbench.store import CaseStore

# Inputs.


def test_inputs_come_back_by_time_and_only_of_the_span(numbered: Numbered) -> None:
    store = CaseStore.open(numbered.path)
    given = [Input(1000 + number, "serial", f"line {number} \u202e\n") for number in range(4)]
    for each in reversed(given):
        note_input(store, GUEST, each)
    assert inputs_of(store, GUEST, 1000, 1002) == given[1:3]
    with Case(numbered.path) as case:
        assert case.inputs("demo")["text"].tolist() == [each.text for each in given]
        assert case.inputs("other").empty


@pytest.mark.parametrize("text", ["", "A" * 70_000])
def test_an_input_that_is_none_is_refused(numbered: Numbered, text: str) -> None:
    store = CaseStore.open(numbered.path)
    with pytest.raises(UsageError):
        note_input(store, GUEST, Input(1, "serial", text))
    assert store.marks(GUEST) == []


@pytest.mark.parametrize(
    "note", ["", "{", "[" * 100_000, "[]", '{"way": "net", "text": "x"}', '{"way": "serial", "text": 7}']
)
def test_a_strangers_mark_that_is_no_input_is_passed_over(numbered: Numbered, note: str) -> None:
    store = CaseStore.open(numbered.path)
    store.add_mark(Mark("strange", GUEST, 5, None, INPUT, note))
    assert inputs_of(store, GUEST, 0, 10) == []


# Driving.


@dataclass
class Driven:
    case: Case
    a: Moment
    b: Moment
    replay: Replay
    guest: DemoGuest


@pytest.fixture(scope="module")
def driven(guest: DemoGuest) -> Iterator[Driven]:
    """A guest that made one file by itself, one because it was typed, and one on an order that nobody recorded."""
    with tempfile.TemporaryDirectory(prefix="rewind-test-") as name:
        Path(name).chmod(0o711)
        with Case.create(Path(name) / "case", uri=guest.uri) as case:
            with case.record(guest.name) as recording:
                recording.capture("the first takes long, the next does not")
                guest.run("(sleep 1; echo by itself >/root/itself) >/dev/null 2>&1 &")
                a = recording.capture("then")
                case.send("echo as typed >/root/typed\n")
                guest.run("echo from outside >/root/outside")
                guest.run("sleep 1000 >/dev/null 2>&1 &")
                until(lambda: {"itself", "typed"} <= set(guest.run("ls /root").stdout.split()), "both files are there")
                time.sleep(3)  # a clone may be slower than the guest was
                b = recording.capture("now")
            yield Driven(case, a, b, case.replay(a, b), guest)
    guest.run("rm -f /root/itself /root/typed /root/outside; killall sleep; sync")


@pytest.mark.guest
def test_what_comes_by_itself_or_was_recorded_comes_again(driven: Driven) -> None:
    assert driven.replay.moment.read_text("/root/itself") == "by itself\n"
    assert driven.replay.moment.read_text("/root/typed") == "as typed\n"
    played = driven.replay.inputs
    assert played["text"].tolist() == ["echo as typed >/root/typed\n"]
    assert played["why"].tolist() == [""]
    assert (played["after_s"] >= played["due_s"]).all()


@pytest.mark.guest
def test_what_nobody_recorded_is_the_difference(driven: Driven) -> None:
    found = driven.replay.compare().set_index("what")
    assert found.loc["/root/outside", "found"] == "only in original"
    assert not {"/root/itself", "/root/typed"} & set(found.index)
    (sleeper,) = [what for what in found.index if "sleep 1000" in what]
    assert tuple(found.loc[sleeper, ["kind", "found", "original", "replay"]]) == (
        "process",
        "only in original",
        "1",
        "0",
    )


@pytest.mark.guest
def test_the_clone_is_gone_and_its_capture_is_a_branch(driven: Driven) -> None:
    assert driven.case.clones() == []
    assert driven.replay.moment.id in set(driven.case.timeline(driven.guest.name)["id"])
    assert driven.guest.health().ok


@pytest.mark.guest
def test_there_is_no_way_back_in_time(driven: Driven) -> None:
    with pytest.raises(UsageError, match="Exchange the two"):
        driven.case.replay(driven.b, driven.a)
