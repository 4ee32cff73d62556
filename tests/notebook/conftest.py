"""What the tests of the notebook need of the process that they run in."""

from __future__ import annotations

import urllib.request

import pytest


@pytest.fixture(scope="session", autouse=True)
def plain_urllib() -> None:
    """Open addresses as Python does: where a test used Volatility in this process, it left an opener that refuses."""
    urllib.request.install_opener(None)  # type: ignore[arg-type]
