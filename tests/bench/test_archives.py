"""General tools on small dumps: growth counts from the second dump on, and dumps keep their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from workbench.bench.archives import borg_growth, restic_growth, zstd_sizes

Growth = Callable[[Sequence[Path], Path], list[float]]


@pytest.fixture
def dumps(tmp_path: Path) -> list[Path]:
    """Three dumps of 2 MB of noise, of which 1 MB, then nothing, is new."""
    noise = np.random.default_rng(5).bytes(3_000_000)
    parts = [noise[:2_000_000], noise[:1_000_000] + noise[2_000_000:], noise[:1_000_000] + noise[2_000_000:]]
    paths = [tmp_path / f"dump-{number}.raw" for number in range(3)]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part)
    return paths


@pytest.mark.parametrize("growth", [restic_growth, borg_growth])
def test_growth_is_what_is_new_in_each_further_dump(growth: Growth, dumps: list[Path], tmp_path: Path) -> None:
    changed, same = growth(dumps, tmp_path)
    # Chunks of these tools are up to 8 MB long, so the whole of a small dump may be new to them.
    assert 900 < changed < 3_000
    assert same < 100
    assert all(path.exists() for path in dumps)


def test_zstd_of_noise_is_as_long_as_the_noise(dumps: list[Path]) -> None:
    assert zstd_sizes(dumps) == pytest.approx([2000, 2000], rel=0.01)
