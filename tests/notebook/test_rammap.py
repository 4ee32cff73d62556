"""The map of memory without a page: where changed pages fall, what is bounded, what is chosen."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import traitlets

sys.path.insert(0, os.path.dirname(__file__))

from small import HOSTILE, inert

from workbench.notebook.rammap import MOST_CELLS, RamMap
from workbench.notebook.rammap_cells import OUTSIDE, PageMap, bytes_text
from workbench.notebook.rammap_picture import OWNERS

GIB = 1 << 18
"""Pages."""


def ranges(*spans: tuple[int, int]) -> pd.DataFrame:
    """Memory at some spans of page numbers."""
    rows = [(low * 4096, (high - low) * 4096, "pc.ram", 0) for low, high in spans]
    return pd.DataFrame(rows, columns=["start", "bytes", "region", "offset"])


def pages(*rows: tuple[int | None, str], region: str = "pc.ram") -> pd.DataFrame:
    """Changed pages: frame number (None out of the guest's view, then its place is the page in its region), owner."""
    return pd.DataFrame(
        {
            "region": pd.array([region] * len(rows), dtype="string"),
            "page": [at if pfn is None else pfn for at, (pfn, _) in enumerate(rows)],
            "pfn": pd.array([pfn for pfn, _ in rows], dtype="Int64"),
            "owner": pd.array([owner for _, owner in rows], dtype="string"),
        }
    )


def random_pages(seed: int, spans: list[tuple[int, int]], count: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    inside = np.concatenate([np.arange(low, high) for low, high in spans])
    frames = np.sort(rng.choice(inside, count, replace=False))
    return pages(*((int(each), str(rng.choice(["process", "slab", "free"]))) for each in frames))


def sent(widget: RamMap) -> tuple[Any, Any]:
    """What the page reads from the columns: first pages, and counts by kind."""
    kinds, size = len(widget.kinds), len(widget.columns)
    n = size // (8 + 4 * kinds)
    low = np.frombuffer(widget.columns, "<f8", n)
    return low, np.frombuffer(widget.columns, "<u4", n * kinds, 8 * n).reshape(kinds, n)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spans", [[(0, 5000)], [(0, 160), (192, 3000), (GIB, GIB + 64)]])
def test_each_cell_counts_the_pages_that_lie_in_it(seed: int, spans: list[tuple[int, int]]) -> None:
    frame = random_pages(seed, spans, 700)
    found = PageMap(frame, ranges(*spans))
    for low, high, most in ((*found.ends, 100), (*found.ends, MOST_CELLS), (100, 400, 50), (GIB - 5, GIB + 9, 50)):
        cells = found.cells(low, high, most)
        owners = [frame["owner"] == kind for kind in found.kinds]
        for at, first in enumerate(cells.low.tolist()):
            inside = (frame["pfn"] >= first) & (frame["pfn"] < first + cells.step)
            assert cells.counts[at].tolist() == [int((inside & whose).sum()) for whose in owners]
            assert any(first < end and first + cells.step > begin for begin, end in spans)
        covered = [(frame["pfn"] >= max(low, b)) & (frame["pfn"] < min(high, e)) for b, e in spans]
        assert cells.counts.sum() >= int(np.any(covered, axis=0).sum())
        assert len(cells.low) <= most


def test_holes_are_left_out_and_said() -> None:
    cells = PageMap(pages((3, "slab")), ranges((0, 2 * GIB), (4 * GIB, 5 * GIB))).cells(0, 5 * GIB, 4096)
    assert [(each["first"], each["hole"]) for each in cells.bands] == [
        (0, ""),
        (2 * GIB // cells.step, "hole of 2 GiB"),
    ]
    assert cells.low[-1] + cells.step == 5 * GIB


def test_what_the_guest_cannot_see_has_a_place_of_its_own() -> None:
    frame = pages((None, "outside"), (None, "outside"), (7, "slab"), region="vga.vram")
    widget = RamMap(frame, ranges((0, 64)))
    assert [each["name"] for each in widget.bands] == ["", "vga.vram"]
    low, counts = sent(widget)
    assert (low[64:].tolist(), counts[widget.kinds.index("outside")].sum()) == ([OUTSIDE, OUTSIDE + 1], 2)
    widget.span = [OUTSIDE, OUTSIDE + 64]
    assert widget.chosen.tolist() == [True, True, False]
    assert "cannot see" in widget.words


@pytest.mark.parametrize(
    "spans",
    [
        [(at * 1000, at * 1000 + 1) for at in range(20_000)],
        [(0, 1 << 40)],
        [(at << 20, (at << 20) + 3) for at in range(0, 1 << 19, 37)],
    ],
    ids=["many", "vast", "far apart"],
)
def test_no_layout_makes_more_cells_than_a_page_can_draw(spans: list[tuple[int, int]]) -> None:
    widget = RamMap(pages((spans[0][0], "slab"), (spans[-1][0], "free")), ranges(*spans))
    low, counts = sent(widget)
    assert 0 < len(low) <= MOST_CELLS
    assert len(widget.bands) <= MOST_CELLS // 32 + 1
    assert counts.sum() == 2
    assert len(widget.still()) < 400_000


def test_zooming_cuts_finer_and_loses_nothing() -> None:
    frame = random_pages(1, [(0, 4 * 4096)], 500)
    widget = RamMap(frame, ranges((0, 4 * 4096)))
    coarse = widget.step
    widget.view = [0, 100]
    low, counts = sent(widget)
    assert (widget.step, len(low), coarse) == (1, 100, 4)
    assert counts.sum() == (frame["pfn"] < 100).sum()
    widget.view = []
    assert sent(widget)[1].sum() == 500


def test_what_is_chosen_filters_and_what_is_shown_next_begins_anew() -> None:
    frame = pages((1, "slab"), (2, "process"), (70, "slab"))
    widget = RamMap(frame, ranges((0, 128)))
    widget.span, widget.owner = [64, 128], "slab"
    assert widget.chosen.tolist() == [False, False, True]
    assert widget.words == "of slab from 0x40000 to 0x80000 (256 KiB)"
    widget.view = [0, 16]
    heard: list[int] = []
    widget.observe(lambda _change: heard.append(len(widget.chosen)), ["span", "owner"])
    widget.show(pages((5, "free")))
    assert (widget.span, widget.owner, widget.view, heard) == ([], "", [0, 16], [1, 1])
    widget.show(pages(), ranges((200, 300)))
    assert (widget.view, widget.kinds, len(sent(widget)[0])) == ([], [], 100)


@pytest.mark.parametrize(
    ("trait", "value"),
    [("view", [1]), ("span", [0, float("nan")]), ("span", [3, 3]), ("view", [0, float("inf")]), ("owner", "nobody")],
)
def test_what_cannot_be_chosen_is_refused(trait: str, value: Any) -> None:
    widget = RamMap(pages((1, "slab")), ranges((0, 64)))
    with pytest.raises(traitlets.TraitError):
        setattr(widget, trait, value)


def test_parts_are_held_to_the_memory_that_there_is() -> None:
    widget = RamMap(pages((1, "slab")), ranges((0, 64)))
    widget.view = [-10.0, 8.4]
    assert widget.view == [0, 8]
    widget.view = [1e15, 2e15]
    assert widget.view == []


def test_no_memory_and_no_pages_are_shown_as_nothing() -> None:
    assert repr(RamMap()) == "<RamMap of 0 changed pages>"
    assert RamMap().bands == []
    assert "<img" in RamMap().still()


@pytest.mark.parametrize("name", HOSTILE, ids=["markup", "control", "backwards", "long", "signs"])
def test_names_from_a_guest_are_inert(name: str) -> None:
    widget = RamMap(pages((None, name), region=name), ranges((0, 64)))
    told = [*widget.kinds, *(each["name"] for each in widget.bands), widget.still()]
    assert all(inert(each) for each in told)
    assert "<script" not in widget.still()
    widget.owner = widget.kinds[0]
    assert widget.chosen.tolist() == [True]


def test_no_two_owners_look_the_same() -> None:
    assert len(set(OWNERS.values())) == len(OWNERS)


def test_the_still_is_the_same_for_the_same_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    frame = random_pages(2, [(0, 4000)], 50)
    told = [RamMap(frame, ranges((0, 4000)))._repr_mimebundle_() for _ in range(2)]
    assert told[0] == told[1]
    assert set(told[0][0]) == {"text/plain", "text/html"}


def test_sizes_in_words() -> None:
    assert [bytes_text(each) for each in (5, 4096, 3 << 29, 1 << 60)] == ["5 bytes", "4 KiB", "1.5 GiB", "1024 PiB"]
