"""A real clone of a real guest: its console answers, its screen is a picture, it stands and goes, it is captured."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import until

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.errors import GuestError, UsageError
from workbench.notebook.capturing import CapturePanel
from workbench.notebook.console import CloneConsole
from workbench.notebook.rewinding import RewindButton


@pytest.fixture(scope="module")
def seen_guest(demo_image: DemoImage) -> Iterator[DemoGuest]:
    with DemoGuest.boot(DemoSpec(f"seen-{os.getpid()}", memory_mib=128, vga=True), image=demo_image) as running:
        yield running


@pytest.fixture(scope="module")
def case(seen_guest: DemoGuest) -> Iterator[Case]:
    place = Path(tempfile.mkdtemp(prefix="seen-"))
    place.chmod(0o711)
    with Case.create(place / "case") as made:
        with made.record(seen_guest.name) as recording:
            recording.capture("to be cloned", mark="clean")
        yield made
        for clone in made.clones():
            clone.destroy()
    shutil.rmtree(place)


pytestmark = pytest.mark.guest


def test_a_clone_in_the_page_from_its_start_to_its_end(case: Case, seen_guest: DemoGuest) -> None:
    moment = case.moment("clean", seen_guest.name)
    with CloneConsole(moment) as console:
        console.start()
        assert console.work.wait(120)
        assert console.work.error == ""
        console.terminal.type("uptime\n")
        assert console.terminal.wait("load average", 200)

        console.show_screen()
        assert console.work.wait(200)
        assert "data:image/png;base64," in console.screen.value

        console.pause()
        console.work.wait(200)
        console.advance(0.5)
        assert console.work.wait(200)
        assert console.work.error == ""
        assert console.clone is not None
        assert not console.clone.running

        console.capture("as it was")
        assert console.work.wait(120)
        assert console.work.error == ""
        captured = console.captured
        assert captured is not None
        assert captured.record.reason == f"clone of {moment.id[:12]}: as it was"
        assert captured.guest.name == console.clone.name
        assert not console.clone.running  # a capture leaves a clone that stood standing
        assert captured.id in set(case.timeline(captured.guest.id)["id"])

        console.destroy()
        assert console.work.wait(200)
        assert case.clones() == []
        assert not console.terminal.connected


def test_a_waiting_reader_holds_up_nobody_and_ends(case: Case, seen_guest: DemoGuest) -> None:
    with case.moment("clean", seen_guest.name).clone() as clone:
        console, got = clone.console(), bytearray()

        def read() -> None:
            while data := console.read():
                got.extend(data)

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(20):
            clone.pause()
            clone.resume()
        console.write(b"echo $((6*7))x\n")
        until(lambda: b"42x" in got, "the console answers")
        console.close()
        console.close()
        reader.join(60)
        assert not reader.is_alive()
        with pytest.raises(GuestError, match="closed"):
            console.write(b"x")
        again = clone.console()
    until(lambda: not again.read(), "what it had still to say, then the end")
    again.close()


def test_a_step_ends_early_when_it_is_told_to(case: Case, seen_guest: DemoGuest) -> None:
    with case.moment("clean", seen_guest.name).clone(run=False) as clone:
        stop = threading.Event()
        stop.set()
        assert clone.advance(3600, stop) < 3600
        assert not clone.running
        for wrong in (0, -1, float("nan"), 86_401):
            with pytest.raises(UsageError):
                clone.advance(wrong)


def test_a_recording_and_a_rewind_from_the_page(case: Case, seen_guest: DemoGuest) -> None:
    with CapturePanel(case, seen_guest.name, interval=0.5) as panel:
        panel.start()
        until(lambda: panel.captures >= 2, "two captures")
        panel.stop()
        assert panel.health.word == "idle"
        assert len(panel.size.points) == panel.captures
        assert min(panel.pause.points) > 0
    seen_guest.run("touch /root/later; sync")
    button = RewindButton(case.moment("clean", seen_guest.name), "production")
    assert button.work.wait(200)
    button.confirm.value = seen_guest.name
    button.rewind()
    assert button.work.wait(120)
    assert button.work.error == ""
    seen_guest.reconnect()
    assert seen_guest.run("ls /root/later").rc != 0
    assert seen_guest.health().ok
