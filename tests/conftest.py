"""What the tests share: the demo image, one booted guest for all, and a way to boot further ones."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from workbench.demo import DemoGuest, DemoImage, DemoSpec, build_demo_image

sys.path.append(os.path.dirname(__file__))  # for `waiting` and `agents`

BootGuest = Callable[..., DemoGuest]
_GUEST_FIXTURES = {"guest", "boot_guest"}


def pytest_configure() -> None:
    """Take signals as they are by default: what starts the tests in the background hands ignored ones down to them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whatever needs a guest, so that `-m "not guest"` leaves the quick tests."""
    for item in items:
        if _GUEST_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.guest)


@pytest.fixture(autouse=True)
def plain_urllib() -> None:
    """Open addresses as Python does: where a test used Volatility in this process, it left an opener that refuses."""
    urllib.request.install_opener(None)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def demo_image() -> DemoImage:
    """The cached demo image, built when the cache has none."""
    return build_demo_image()


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that QEMU can reach though it may run as another user; `tmp_path` is private to the tests' user."""
    with tempfile.TemporaryDirectory(prefix="rewind-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(scope="session")
def guest(demo_image: DemoImage) -> Iterator[DemoGuest]:
    """One running guest that many tests use: leave it running, and healthy."""
    with DemoGuest.boot(DemoSpec(f"test-{os.getpid()}", agent=True), image=demo_image) as running:
        yield running


@pytest.fixture
def boot_guest(demo_image: DemoImage) -> Iterator[BootGuest]:
    """Give a function that boots a guest of any shape; its name gets the process id, and it ends with the test."""
    running: list[DemoGuest] = []

    def boot(spec: DemoSpec) -> DemoGuest:
        unique = replace(spec, name=f"{spec.name}-{os.getpid()}")
        running.append(DemoGuest.boot(unique, image=demo_image))
        return running[-1]

    try:
        yield boot
    finally:
        for each in running:
            each.close()
