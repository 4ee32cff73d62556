"""What tests of disks share: trees to make file systems of."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import images


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of files, links, holes and odd names."""
    return images.tree(tmp_path_factory.mktemp("tree"))
