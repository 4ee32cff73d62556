"""The watch on a real guest: what it says, how it ends, and that the guest is let go whenever it is interrupted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Command
from waiting import until

from workbench.demo import DemoGuest, DemoSpec
from workbench.guest.connection import Hypervisor
from workbench.guest.leftovers import find_leftovers

LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  [0-9a-f]{12} +\d+\.\d +\d+ +\d+ +\d+\.\d +\d+\.\d\d"  # id, ms, ..., late
)


@pytest.fixture
def place(public_directory: Path) -> Path:
    return public_directory / "case"


def assert_let_go(guest: DemoGuest) -> None:
    """The guest runs, and nothing of ours is in it once its guard is gone, too."""
    with Hypervisor(guest.uri) as hypervisor:
        found = hypervisor.guest(guest.name)
        until(lambda: found.is_running() and not find_leftovers(found.monitor), "it runs and nothing of ours is in it")
    assert guest.health().ok


@contextlib.contextmanager
def watching(guest: DemoGuest, place: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A watch in a process of its own."""
    command = [sys.executable, "-m", "workbench.cli", "watch", guest.name, *words, "--case", str(place)]
    with subprocess.Popen(
        [*command, "--connect", guest.uri], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        try:
            yield process
        finally:
            process.kill() if process.poll() is None else None


def test_a_watch_prints_a_line_per_capture_and_ends_by_time(workbench: Command, guest: DemoGuest, place: Path) -> None:
    done = workbench("watch", guest.name, "--interval", "1", "--for", "4", "--case", place, "--connect", guest.uri)
    assert done.code == 0, done.err
    header, *lines = done.out.splitlines()
    assert header.split()[:2] == ["time", "(UTC)"]
    assert lines
    assert all(LINE.fullmatch(line) for line in lines), lines
    assert f"{len(lines)} captures, 0 failed" in done.err.splitlines()[-1]
    # The one guest of a case need not be named again.
    again = workbench("capture", "--json", "--case", place, "--connect", guest.uri).json()
    assert again["id"] == workbench("show", "--json", "--case", place).json()["id"]


def test_an_interval_that_is_not_held_is_said(workbench: Command, guest: DemoGuest, place: Path) -> None:
    # The first capture of a case stores all of the guest, which takes longer than the shortest interval.
    words = ("--interval", "0.2", "--count", "2", "--audit", "--connect", guest.uri)
    done = workbench("watch", guest.name, *words, "--case", place / "one")
    assert done.code == 0, done.err
    assert "the interval is not held" in done.err
    printed = workbench("watch", guest.name, "--json", *words, "--case", place / "two").out
    told = [json.loads(line) for line in printed.splitlines()]
    assert sum(each["skipped"] for each in told) > 0


def test_a_guest_that_is_watched_refuses_a_second_one(workbench: Command, guest: DemoGuest, place: Path) -> None:
    with watching(guest, place, "--interval", "1") as process:
        assert process.stdout is not None
        process.stdout.readline()
        refused = workbench("capture", guest.name, "--case", place, "--connect", guest.uri, "--json")
        assert refused.code in (4, 5)
        assert json.loads(refused.err)["error"] in ("GuestBusyError", "StoreBusyError")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "ending after the capture under way" in told
    assert "Traceback" not in told
    assert_let_go(guest)


def takes_signals(pid: int) -> bool:
    """Whether it has handlers of its own: Python catches SIGINT by itself, and SIGTERM never."""
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert caught is not None
    return bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("presses", [1, 3])
@pytest.mark.parametrize("delay", [0.1, 0.5, 1.0, 1.7, 2.8])
def test_an_interrupt_at_any_moment_lets_the_guest_go(
    guest: DemoGuest, place: Path, delay: float, presses: int
) -> None:
    with watching(guest, place, "--interval", "0.2") as process:
        until(lambda: takes_signals(process.pid), "its imports are done")
        time.sleep(delay)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert_let_go(guest)


def test_a_reader_that_leaves_ends_the_watch_and_lets_the_guest_go(guest: DemoGuest, place: Path) -> None:
    with watching(guest, place, "--interval", "0.5", "--json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 141
    assert_let_go(guest)


def test_the_end_of_the_guest_is_a_clean_end(workbench: Command, boot_guest, place: Path) -> None:  # type: ignore[no-untyped-def]
    mortal = boot_guest(DemoSpec("mortal", memory_mib=256))
    with watching(mortal, place, "--interval", "0.5") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        mortal.domain.destroy()
        _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert "the guest ended" in told
    # Captures that fell due while the guest ended did fail: one, or more where QEMU takes its time.
    assert re.search(r"^[1-9]\d* captures, \d+ failed", told, re.MULTILINE), told
    assert workbench("check", "--case", place).code == 0


def test_a_guest_that_is_not_there_is_a_guest_error(workbench: Command, guest: DemoGuest, place: Path) -> None:
    for verb in ("capture", "watch"):
        done = workbench(verb, "no-such-guest", "--case", place / "new", "--connect", guest.uri)
        assert done.code == 4
        assert "no-such-guest" in done.err
        assert len(done.err.splitlines()) <= 2
        assert not (place / "new").exists()  # a slip of the pen leaves no case behind
