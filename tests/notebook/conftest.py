"""What the tests of the notebook need of the process that they run in."""

from __future__ import annotations

import urllib.request

import pytest


@pytest.fixture(scope="session", autouse=True)
def plain_urllib() -> None:
    """Open addresses as Python does: Volatility, where a test has used it in this process, has left an opener offline."""
    urllib.request.install_opener(None)  # type: ignore[arg-type]
