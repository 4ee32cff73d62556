"""Scratch memory: there before the pause, never shared by two copies of one capture, never more than its bound."""

from __future__ import annotations

import numpy as np

from workbench.capture.staging import Scratch
from workbench.model import PAGE


def test_what_is_taken_of_one_capture_does_not_overlap_and_is_reused_by_the_next() -> None:
    scratch = Scratch()
    scratch.ready(10)
    first, second = scratch.take(4), scratch.take(6)
    assert first.shape == (4, PAGE)
    first[:], second[:] = 1, 2
    assert (first == 1).all()
    scratch.ready(10)
    assert np.shares_memory(scratch.take(10), first)


def test_more_than_is_ready_is_fresh_memory() -> None:
    scratch = Scratch()
    scratch.ready(2)
    some = scratch.take(1)
    assert not np.shares_memory(scratch.take(2), some)
    scratch.ready(1 << 30)
    assert len(scratch.take(20_000)) == 20_000  # beyond the bound, so not held between captures
