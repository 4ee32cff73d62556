"""One recorded guest for all tests of memory: an intrusion played in it, captured step by step, and its own truth."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.demo.intrusion import STEPS, play
from workbench.memory.symbols.cache import SymbolCache
from workbench.memory.volatility.opening import Opener


@dataclass(frozen=True, slots=True)
class Recorded:
    """A case with a moment "clean" before the intrusion and one after each step, marked by the step's name.

    Attributes
    ----------
    case : Case
    truth : dict
        What the guest says that it did, by step.
    place : Path
        A directory for what tests make of it.
    """

    case: Case
    truth: dict[str, dict[str, Any]]
    place: Path

    def capture(self, when: str) -> str:
        """Return the id of a moment."""
        return self.case.moment(when).id


def record_intrusion(image: DemoImage, place: Path, spec: DemoSpec) -> Recorded:
    """Boot a guest, play the intrusion, capture before it and after each step; the guest is gone afterwards."""
    case = Case.create(place / "case")
    with DemoGuest.boot(spec, image=image) as guest, case.record(guest.name) as recording:
        recording.capture("before", mark="clean")
        planted = []
        for step in STEPS:
            planted += play(guest, steps=[step])
            recording.capture(step.summary, mark=step.name)
    return Recorded(case, {str(each["what"]): each for each in planted}, place)


@pytest.fixture(scope="session")
def recorded(demo_image: DemoImage) -> Iterator[Recorded]:
    """The recorded intrusion, in a guest of 256 MiB; read only: make a copy of what is to be changed."""
    place = Path(tempfile.mkdtemp(prefix="mem-test-"))
    place.chmod(0o711)
    # The agent is the one program there that executes a library.
    spec = DemoSpec(f"mem-{os.getpid()}", memory_mib=256, network=True, agent=True)
    made = record_intrusion(demo_image, place, spec)
    yield made
    made.case.close()
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def opener(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    """Opens captures of the recorded case in this process; one at a time."""
    opened = Opener(tmp_path_factory.mktemp("kernels"), SymbolCache(tmp_path_factory.mktemp("symbols")))
    yield opened
    opened.close()
