"""kill -9 of the recording process at random instants, 100 times: the guest goes on by its guard.

Two guests at a time, each with half of the kills: a session begins only when the guard before has watched its second.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

import pytest
import recorder
from truth import assert_equal_to_guest, nothing_left, standing
from waiting import until

from workbench.case import Case
from workbench.demo import DemoGuest, DemoSpec
from workbench.guest.connection import Hypervisor

KILLS = 50
"""Of each guest."""
LONGEST = 25.0
"""Seconds, below the limit of a pause (30 s): the guard acted on the death. How soon it does so is printed."""


class Observer:
    """Asks QEMU all the time, over a connection of its own, whether the guest runs; keeps for how long it stood."""

    def __init__(self, guest: DemoGuest) -> None:
        self.standstills: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(guest.uri, guest.name))

    def _watch(self, uri: str, name: str) -> None:
        with Hypervisor(uri) as hypervisor:
            guest = hypervisor.guest(name)
            since: float | None = None
            while not self._over.is_set():
                if guest.is_running():
                    since = None
                else:
                    now = time.monotonic()
                    if since is None:
                        since = now
                        self.standstills.append(0.0)
                    self.standstills[-1] = now - since
                time.sleep(0.02)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._thread.join()


# Its server has imported everything once, for all recorders.
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["pytest", "workbench.case"])


@contextlib.contextmanager
def killed_at_the_end(case: Case, guest: DemoGuest) -> Iterator[Connection]:
    """Start a recorder and give what it says; it is killed after the body."""
    said, saying = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=recorder.record, args=(str(case.path), guest.uri, guest.name, saying), daemon=True)
    process.start()
    saying.close()
    try:
        yield said
    finally:
        process.kill()
        process.join()
        process.close()
        said.close()


@pytest.mark.timeout(1800)
def test_a_killed_recorder_leaves_a_running_guest_and_a_whole_case(boot_guest, tmp_path: Path) -> None:
    # Small: most of a recorder's life is comparing all of it. The second one's disk jobs end inside the pause.
    specs = [DemoSpec("cap-kill", memory_mib=128), DemoSpec("cap-kill-thread", memory_mib=128, iothread=True)]
    guests = [boot_guest(spec) for spec in specs]
    with ThreadPoolExecutor(len(guests)) as pool:
        for done in [pool.submit(_in_a_case, guest, tmp_path / guest.name) for guest in guests]:
            done.result()


def _in_a_case(guest: DemoGuest, place: Path) -> None:
    place.mkdir()
    with Case.create(place / "case", uri=guest.uri) as case:
        _kill_many(guest, case, place)


def _kill_many(guest: DemoGuest, case: Case, place: Path) -> None:
    with case.record(guest.name) as recording:
        recording.capture("first")
    chance = random.Random(guest.spec.name)
    guest.load("shell")
    with Observer(guest) as observer:
        for number in range(KILLS):
            with killed_at_the_end(case, guest) as said:
                if number % 4:  # three of four once they capture, the others wherever they are: attaching, mostly
                    assert said.recv() == "captured"
                time.sleep(chance.random() * (0.3 if number % 4 else 1.0))
        until(lambda: nothing_left(guest, case), "the guard sweeps")
    guest.load("off")
    stood = observer.standstills
    assert stood, "the observer saw no pause at all"
    sys.stdout.write(f"{guest.name} stood for {max(stood):.2f} s at most\n")
    assert max(stood) < LONGEST
    assert len(case.timeline()) > KILLS / 2
    assert case.check() == []
    with case.record(guest.name) as recording, standing(guest):
        assert_equal_to_guest(case, guest, recording.capture("after it all"), place)
    assert guest.health().ok
