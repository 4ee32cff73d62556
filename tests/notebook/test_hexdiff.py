"""Hex diffs without a page: what differs is what a comparison byte by byte finds, and is bounded."""

from __future__ import annotations

import io
import os
import sys

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))

from small import HOSTILE, inert

from workbench.notebook import hexdiff
from workbench.notebook.hexdiff import ROW, HexDiff, differing
from workbench.progress import ProgressEvent


def by_hand(before: bytes, after: bytes) -> tuple[int, set[int]]:
    """How many bytes differ, and the offsets of the rows that do."""
    places = [at for at in range(max(len(before), len(after))) if before[at : at + 1] != after[at : at + 1]]
    return len(places), {at // ROW * ROW for at in places}


@pytest.mark.parametrize("seed", range(8))
def test_it_finds_what_a_comparison_by_hand_finds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hexdiff, "_PIECE", 256)
    rng = np.random.default_rng(seed)
    before = rng.integers(0, 256, int(rng.integers(0, 3000)), np.uint8).tobytes()
    changed = bytearray(before[: int(rng.integers(0, len(before) + 1))] if seed % 2 else before + b"more" * 9)
    for at in rng.integers(0, max(1, len(changed)), 6).tolist():
        changed[at : at + 1] = b"\x00"
    found = differing(io.BytesIO(before), bytes(changed))
    count, rows = by_hand(before, bytes(changed))
    assert (found.count, found.compared, found.whole) == (count, max(len(before), len(changed)), True)
    assert rows <= {at for at, _, _ in found.rows}
    for at, one, two in found.rows:
        assert (one, two) == (before[at : at + ROW], bytes(changed[at : at + ROW]))


def test_only_stretches_that_differ_are_kept_with_a_little_around_them() -> None:
    after = bytearray(4096)
    after[2000] = 1
    found = differing(bytes(4096), bytes(after), start=0x1000)
    assert [at - 0x1000 for at, _, _ in found.rows] == [1968, 1984, 2000, 2016, 2032]


def test_what_is_not_there_is_not_taken_for_zeros() -> None:
    found = differing(None, bytes(20))
    assert [(one, two) for _, one, two in found.rows] == [(b"", bytes(16)), (b"", bytes(4))]
    assert found.count == 20
    assert differing(None, None).words == "0 of 0 bytes differ, compared at the same positions"


def test_equal_contents_have_no_rows() -> None:
    assert differing(b"same" * 100, io.BytesIO(b"same" * 100)).rows == []


def test_what_is_kept_is_bounded_and_the_rest_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hexdiff, "_PIECE", 1 << 12)
    monkeypatch.setattr(hexdiff, "_MOST_ROWS", 500)
    found = differing(bytes(1 << 16), b"\xff" * (1 << 16))
    assert 500 <= len(found.rows) < 1000
    assert not found.whole
    assert "not compared" in found.words
    monkeypatch.setattr(hexdiff, "_MOST_BYTES", 1 << 13)
    assert differing(bytes(1 << 16), bytes(1 << 16)).compared == 1 << 13


def test_its_progress_is_told() -> None:
    told: list[ProgressEvent] = []
    differing(bytes(3 << 20), bytes(3 << 20), total=3 << 20, progress=told.append)
    assert [(each.done, each.total) for each in told] == [(at << 20, 3 << 20) for at in (1, 2, 3)]


def test_rows_go_to_the_page_by_pages() -> None:
    widget = HexDiff(differing(bytes(16 * 300), b"\x01" * 16 * 300), heading="a file")
    assert (widget.total, len(widget.rows), widget.rows[0]) == (300, 128, ["00000000", "00" * 16, "01" * 16])
    widget.first = 256
    assert (len(widget.rows), widget.rows[0][0]) == (44, f"{256 * 16:08x}")
    widget.first = 10_000
    assert widget.first == 299
    widget.show(differing(b"a", b"b"))
    assert (widget.first, widget.rows) == (0, [["00000000", "61", "62"]])


@pytest.mark.parametrize("name", HOSTILE, ids=["markup", "control", "backwards", "long", "signs"])
def test_what_a_guest_wrote_is_inert(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    raw = name.encode()[:2000]
    widget = HexDiff(differing(raw, raw[::-1] + b"!"), heading=name, note=name, facts=[(name, name, name)])
    shown = widget._repr_mimebundle_()[0]["text/html"]
    assert all(inert(each) for each in (widget.heading, widget.note, *widget.facts[0], shown))
    assert not any(f"<{tag}" in shown for tag in ("img", "script", "b>"))
