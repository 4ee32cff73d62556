"""A listing of captures: what is a name, in which order, and that it is what a list of all records would be."""

from __future__ import annotations

import random

import pytest

from workbench.model import CaptureId, CaptureRef
from workbench.store.listing import Listing, capture_name

REFS = [CaptureRef(time, CaptureId(f"{number:064x}")) for time in (0, 7, 10**19) for number in (1, 2, 16**64 - 1)]
NAMES = [capture_name(ref) for ref in REFS]


def test_captures_come_by_time_then_identity_whatever_the_order_of_names() -> None:
    shuffled = random.Random(3).sample(NAMES, len(NAMES))
    listing = Listing(shuffled)
    assert list(listing) == sorted(REFS)
    assert listing == REFS
    assert listing == Listing(NAMES)
    assert (listing[0], listing[-1], listing[2:4]) == (REFS[0], REFS[-1], REFS[2:4])
    assert listing != REFS[1:]
    assert listing != "captures"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        NAMES[0][:-1],
        NAMES[0] + "x",
        NAMES[0].replace("-", "_"),
        NAMES[0].replace(".capture", ".CAPTURE"),
        NAMES[-1].replace("f", "F"),
        NAMES[0].replace("0000-", "000a-"),
        NAMES[0][:-8] + "g.capture",
        "\u0660" + NAMES[0][1:],
        "\udcff" + NAMES[0][1:],
        "\n" + NAMES[0][1:],
    ],
)
def test_a_name_that_is_not_of_a_capture_is_passed_over(name: str) -> None:
    assert Listing([*NAMES[:4], name]) == REFS[:4]
    assert len(Listing([name])) == 0


def test_nothing_is_an_empty_listing() -> None:
    assert Listing([]) == []
    assert not Listing([])


def test_a_capture_is_found_by_its_identity() -> None:
    refs = [CaptureRef(number, CaptureId(f"{number:064x}")) for number in range(50)]
    listing = Listing(map(capture_name, refs))
    assert all(listing.find(ref.id) == ref for ref in refs)
    assert listing.find(CaptureId("f" * 64)) is None
