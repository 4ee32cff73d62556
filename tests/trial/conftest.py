"""One guest for all trials, a case with its moments, and what a test may ask of it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec


@pytest.fixture(scope="session")
def tried(demo_image: DemoImage) -> Iterator[DemoGuest]:
    """A guest with an agent, that every test leaves running and healthy."""
    spec = DemoSpec(f"trial-{os.getpid()}", memory_mib=128, agent=True)
    with DemoGuest.boot(spec, image=demo_image) as running:
        yield running


@contextlib.contextmanager
def case_of(tried: DemoGuest) -> Iterator[Case]:
    """A case with the moment "then" of the guest, which has been told something else since."""
    with tempfile.TemporaryDirectory(prefix="rew-test-") as name:
        Path(name).chmod(0o711)
        with Case.create(Path(name) / "case") as made:
            tried.run("echo then >/root/when; rm -f /root/planted; sync")
            with made.record(tried.name) as recording:
                recording.capture("then", mark="then")
            tried.run("echo now >/root/when; sync")
            yield made


@pytest.fixture
def case(tried: DemoGuest) -> Iterator[Case]:
    """Such a case for one test."""
    with case_of(tried) as made:
        yield made


@pytest.fixture(scope="module")
def case_of_all(tried: DemoGuest) -> Iterator[Case]:
    """Such a case for all tests of a module."""
    with case_of(tried) as made:
        yield made
