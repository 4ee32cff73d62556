"""One guest with an agent for all tests inside, and one clone of it that every test leaves as it found it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.case import Case, Clone
from workbench.demo import DemoGuest, DemoImage, DemoSpec


@pytest.fixture(scope="session")
def agent_guest(demo_image: DemoImage) -> Iterator[DemoGuest]:
    """A guest whose agent answers."""
    spec = DemoSpec(f"inside-{os.getpid()}", memory_mib=128, agent=True)
    with DemoGuest.boot(spec, image=demo_image) as running:
        yield running


@pytest.fixture(scope="session")
def inside_case(agent_guest: DemoGuest) -> Iterator[Case]:
    """A case with one moment of it."""
    with tempfile.TemporaryDirectory(prefix="rew-test-") as name:
        Path(name).chmod(0o711)
        with Case.create(Path(name) / "case") as case:
            with case.record(agent_guest.name) as recording:
                recording.capture("the moment", mark="begin")
            yield case


@pytest.fixture(scope="session")
def clone(inside_case: Case) -> Iterator[Clone]:
    """A running clone."""
    with inside_case.moment("begin").clone() as running:
        yield running
