"""The index of block ids: it answers the newest place, and does not grow with what is written over and over."""

from __future__ import annotations

import numpy as np

from workbench.store.index import IdIndex, KeyIndex


def keys(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def places(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_a_key_is_found_where_it_was_added_last() -> None:
    index = IdIndex()
    index.add(keys(5, 3), places(50, 30))
    index.add(keys(3), places(31))
    assert index.find(keys(3, 4, 5)).tolist() == [31, -1, 50]


def test_of_a_place_that_got_other_content_the_older_key_is_forgotten_and_others_stay() -> None:
    index = IdIndex()
    index.add(keys(1, 2), places(10, 20))
    index.add(keys(7, 8), places(10, 30))
    assert index.find(keys(1, 2, 7, 8)).tolist() == [-1, 20, 10, 30]


def test_where_numbers_are_no_places_many_keys_may_have_the_same() -> None:
    index = KeyIndex()
    index.add(keys(1, 2), places(0, 0))
    index.add(keys(3, 4), places(0, 1))
    assert index.find(keys(1, 2, 3, 4)).tolist() == [0, 0, 0, 1]


def test_what_is_written_over_and_over_takes_no_more_room_than_twice_its_places() -> None:
    index, random, held = IdIndex(), np.random.default_rng(3), {}
    for turn in range(300):
        where = np.sort(random.choice(1_000, 100, replace=False))
        fresh = np.arange(100, dtype=np.uint64) + np.uint64(1_000 * (turn + 1))
        random.shuffle(fresh)
        index.add(fresh, where)
        held |= dict(zip(where.tolist(), fresh.tolist(), strict=True))
        assert len(index) <= 2_000
    assert index.find(keys(*held.values())).tolist() == list(held)


def test_what_another_index_has_is_newer() -> None:
    index, other = IdIndex(), IdIndex()
    index.add(keys(1, 2), places(10, 20))
    other.add(keys(2, 3), places(21, 30))
    index.absorb(other)
    assert index.find(keys(1, 2, 3)).tolist() == [10, 21, 30]
