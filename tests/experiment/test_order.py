"""The order of runs is drawn in blocks from its seed, and no more clones run at once than the host can bear."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from workbench.errors import UsageError
from workbench.experiment.order import OWN, Need, available_memory, fitting, turns

GIB = 1 << 30


def test_each_block_has_every_variant_once() -> None:
    found = turns(["control", "b", "c"], 5, 42)
    assert [each.position for each in found] == list(range(1, 16))
    for block in range(5):
        part = found[block * 3 : block * 3 + 3]
        assert {each.variant for each in part} == {"control", "b", "c"}
        assert {each.repeat for each in part} == {block + 1}


def test_the_seed_gives_the_order_and_chance_gives_no_place_to_anyone() -> None:
    assert turns(["a", "b"], 20, 1) == turns(["a", "b"], 20, 1)
    assert turns(["a", "b"], 20, 1) != turns(["a", "b"], 20, 2)
    first = Counter(turns(["a", "b"], 1, seed)[0].variant for seed in range(400))
    assert 140 < first["a"] < 260


@pytest.mark.parametrize(("variants", "repeats"), [([], 3), (["a"], 0)])
def test_nothing_to_run_is_refused(variants: list[str], repeats: int) -> None:
    with pytest.raises(UsageError, match="at least"):
        turns(variants, repeats, 0)


@pytest.mark.parametrize(
    ("need", "free", "cores", "expected"),
    [
        (Need(GIB // 2, 1, shared=True), 64 * GIB, 4, 4),  # processors are the limit
        (Need(GIB // 2, 2, shared=True), 64 * GIB, 4, 2),
        (Need(GIB // 2, 8, shared=True), 64 * GIB, 4, 1),  # one always runs, be it slowly
        (Need(GIB // 2, 1, shared=True), 64 * GIB, 64, 10),  # there are no more runs
        (Need(GIB, 1, shared=True), 4 * GIB, 64, 4),  # 2.4 GiB: 1 shared, and 352 MiB each
        (Need(GIB, 1, shared=False), 4 * GIB, 64, 2),  # 2.4 GiB: 1 GiB + 96 MiB each
    ],
)
def test_as_many_as_fit(need: Need, free: int, cores: int, expected: int) -> None:
    assert fitting(need, 10, free=free, cores=cores) == expected


def test_not_even_one_is_an_error_with_its_figures() -> None:
    with pytest.raises(UsageError, match="no clone of this moment fits") as raised:
        fitting(Need(8 * GIB, 1, shared=True), 10, free=4 * GIB, cores=4)
    assert raised.value.facts["needs"] == 8 * GIB + OWN + 2 * GIB


def test_free_memory_is_the_kernels_word(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemFree: 10 kB\nMemAvailable:   64 kB\n")
    assert available_memory(tmp_path / "meminfo") == 64 << 10
    assert 1 << 20 < available_memory() < 1 << 50
