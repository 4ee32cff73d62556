"""What the tests of the notebook share: one browser and one JupyterLab for all of them.

`browser` is headless Chromium, `address` is where a JupyterLab of the tests' own answers, `place` is the folder that it
shows. Helpers are imported from `browser`, `lab`, `axe` and `small` beside this file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from small import Forked

from workbench.case import Case


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """The browser of all tests; `browser.forget` and `lab.Notebook` leave the page of the test before."""
    pytest.importorskip("selenium")
    from browser import chromium

    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that JupyterLab shows."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def address(place: Path) -> Iterator[str]:
    """A running JupyterLab."""
    from lab import jupyterlab

    with jupyterlab(place) as running:
        yield running


@pytest.fixture
def forked(tmp_path: Path) -> Forked:
    """A case with a fork and hostile names, without a guest."""
    return Forked(tmp_path / "case").build()


@pytest.fixture
def case(forked: Forked) -> Iterator[Case]:
    """That case, open."""
    with Case(forked.path) as opened:
        yield opened
