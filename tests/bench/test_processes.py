"""What leaks is told from what is held for a while: on made-up samples, and on a process that leaks when told to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from workbench.bench.processes import Sample, children, command, leaked, rise, sample

MB = 1_000_000
# Does what each line says and then answers: keep a descriptor, keep a megabyte, hold both for one turn only.
LEAKY = """
import os, sys
kept, held = [], []
for line in sys.stdin:
    for each in held:
        os.close(each)
    held, word = [], line.strip()
    if word == "descriptor": kept.append(os.dup(0))
    if word == "memory": kept.append(os.urandom(1_000_000))
    if word == "busy": held = [os.dup(0), os.dup(0)]
    print("done", flush=True)
"""


def made_up(pss: Callable[[int], float], descriptors: Callable[[int], int]) -> list[Sample]:
    return [Sample(2.0 * turn, int(pss(turn)), descriptors(turn)) for turn in range(60)]


@pytest.fixture
def tell() -> Iterator[Callable[[str], Sample]]:
    """Tell a process what to leak, and look at it."""
    with subprocess.Popen(
        [sys.executable, "-c", LEAKY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ends = process.stdin, process.stdout
        at = iter(range(1_000))

        def said(word: str) -> Sample:
            ends[0].write(f"{word}\n")
            ends[0].flush()
            assert ends[1].readline() == "done\n"
            return sample(process.pid, next(at))

        yield said
        process.kill()


def test_what_a_capture_holds_for_its_time_is_no_leak() -> None:
    busy = made_up(lambda turn: 100 * MB + 5 * MB * (turn % 3), lambda turn: 10 + 4 * (turn % 3 == 1))
    assert leaked(busy) == 0
    assert abs(rise(busy)) < 2 * MB


def test_what_is_taken_at_the_beginning_is_no_leak() -> None:
    begun = made_up(lambda turn: min(turn, 15) * 10 * MB, lambda turn: min(turn, 15))
    assert (leaked(begun), rise(begun)) == (0, 0)


def test_a_descriptor_lost_now_and_then_is_a_leak_though_others_come_and_go() -> None:
    assert leaked(made_up(lambda _turn: 0, lambda turn: 10 + turn // 12 + 3 * (turn % 2))) > 0


def test_a_look_in_a_pause_that_sees_fewer_is_no_leak() -> None:
    assert leaked(made_up(lambda _turn: 0, lambda turn: 90 - 64 * (turn == 25))) == 0


def test_memory_that_rises_steadily_is_told_by_how_much() -> None:
    assert rise(made_up(lambda turn: 100 * MB + MB * turn, lambda _turn: 0)) == pytest.approx(29 * MB)


def test_too_few_samples_say_nothing() -> None:
    assert (leaked([Sample(0, 1, 1)] * 2), rise([Sample(0, 1, 1)] * 4)) == (0, 0)


def test_a_process_that_leaks_descriptors_is_found_out(tell: Callable[[str], Sample]) -> None:
    assert leaked([tell("busy" if turn % 2 else "nothing") for turn in range(12)]) == 0
    assert leaked([tell("descriptor" if turn % 3 == 0 else "busy") for turn in range(12)]) == 1


def test_a_process_that_leaks_memory_is_found_out(tell: Callable[[str], Sample]) -> None:
    assert rise([tell("nothing") for _ in range(12)]) < MB
    assert rise([tell("memory") for _ in range(12)]) == pytest.approx(5 * MB, rel=0.2)


def test_children_and_their_words_are_seen(tell: Callable[[str], Sample]) -> None:
    tell("nothing")
    assert [pid for pid in children(os.getpid()) if "kept, held" in command(pid)]
    assert command(2**22 + 1) == ""


def test_descriptors_alone_can_be_looked_at() -> None:
    told = sample(os.getpid(), 0.0, memory=False)
    assert (told.pss, told.descriptors > 0) == (0, True)
