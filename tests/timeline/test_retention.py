"""Retention: what the tiers, marks, holds and the limit keep, as examples and as properties."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import UsageError
from workbench.model import CaptureId, CaptureMode, CaptureRecord, GuestId, Mark
from workbench.timeline.retention import HOLD, Retention, Tier, choose, protected, retained_bytes

GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
S = 10**9
NOW = 1_700_000_000 * S - 1_700_000_000 * S % (3600 * S)


def identity(number: int) -> CaptureId:
    return CaptureId(f"{number:064x}")


def capture(
    number: int, age_s: float, *, branch: int = 0, parent: int | None = None, stored: object = 100
) -> CaptureRecord:
    up = None if parent is None else identity(parent)
    when = NOW - int(age_s * S)
    facts = {"stored_bytes": stored}
    return CaptureRecord(identity(number), GUEST, up, 0, branch, when, CaptureMode.CONTINUOUS, "", (), facts)


def line(count: int, step_s: float) -> list[CaptureRecord]:
    """Captures every `step_s` back from now, the oldest first."""
    return [
        capture(number, (count - 1 - number) * step_s, parent=number - 1 if number else None) for number in range(count)
    ]


def kept(frame: pd.DataFrame) -> set[str]:
    return set(frame.loc[frame["keep"], "capture"])


def reasons(frame: pd.DataFrame) -> dict[int, str]:
    return {int(row.capture, 16): row.reason for row in frame.itertuples()}


# The forms.


def test_it_is_read_from_text_and_settings() -> None:
    text = "all for 10m, 1m for 1d, 1h for 30d, at most 50 GB"
    expected = Retention((Tier(0, 600 * S), Tier(60 * S, 86400 * S), Tier(3600 * S, 30 * 86400 * S)), 50 * 10**9)
    assert Retention.parse(text) == expected
    rows = [{"every": "all", "for": "10m"}, {"every": "1m", "for": "1d"}, {"every": "1h", "for": "30d"}]
    assert Retention.of(rows, "50 GB") == Retention.of(rows, 50 * 10**9) == expected
    assert Retention.parse(str(expected)) == expected
    assert Retention.parse("2s for 2w").max_bytes is None
    assert Retention.parse("all for 1h, at most 3 GiB").max_bytes == 3 * 2**30


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "this is no retention"),
        ("everything", "this is no retention"),
        ("all for 10m, at most 5 GB, at most 6 GB", "this is no retention"),
        ("at most 5 GB", "this is no retention"),
        ("all for 0m", "no span"),
        ("all for 10", "no span"),
        ("all for 10 m", "this is no retention"),
        ("1m for 1d, all for 2d", "each tier must reach further back"),
        ("all for 1d, 1m for 1h", "each tier must reach further back"),
        ("all for 1d, 1m for 1d", "each tier must reach further back"),
        ("1h for 1m", "at least as long as its interval"),
        ("all for 999999999w", "at least as long as its interval"),
        ("all for 1m, at most nothing", "no amount of bytes"),
        ("all for 1m, at most 0", "no amount of bytes"),
    ],
)
def test_nonsense_is_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Retention.parse(text)


@pytest.mark.parametrize(
    "tier", [{}, {"every": "1m"}, {"every": "1m", "for": 60}, {"every": "1m", "for": "1d", "x": "y"}]
)
def test_settings_of_other_shapes_are_refused(tier: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="a tier has 'every' and 'for'"):
        Retention.of([tier])


@pytest.mark.parametrize("limit", [0, -1, True, 1.5])
def test_limits_that_are_none_are_refused(limit: int) -> None:
    with pytest.raises(UsageError, match="above 0"):
        Retention((Tier(0, S),), limit)


# The choice.


def test_tiers_thin_with_age() -> None:
    """Two hours at 10 s: all of the last 10 minutes, then one a minute for an hour, then nothing but the first."""
    records = line(721, 10)
    frame = choose(Retention.parse("all for 10m, 1m for 1h"), records, [], {}, NOW)
    ages = sorted((NOW - record.time_ns) // S for record in records if record.id in kept(frame))
    assert ages == [*range(0, 601, 10), *range(660, 3601, 60), 7200]
    told = reasons(frame)
    assert told[720] == "newest of branch 0"
    assert told[0] == "first of the guest"
    assert told[719] == "tier all for 10m"
    assert told[1] == "no tier wants it"
    assert list(frame["time"]) == sorted(frame["time"])
    assert frame.dtypes.astype(str).to_dict() == {
        "capture": "object",
        "time": "datetime64[ns, UTC]",
        "bytes": "int64",
        "keep": "bool",
        "reason": "object",
    }


def test_what_is_protected() -> None:
    records = [*line(10, 1000), capture(20, 2500, branch=1, parent=4), capture(21, 1500, branch=1, parent=20)]
    marks = [
        Mark("alert", GUEST, NOW - 7000 * S, identity(2)),
        Mark("only a time", GUEST, NOW - 5500 * S),
        Mark("h", GUEST, NOW, identity(5), HOLD),
        Mark("rewind-1", GUEST, NOW - 2600 * S, identity(4), "rewind", f"safety={identity(6)}"),
        Mark("gone", GUEST, NOW, identity(99)),
    ]
    safe = protected(records, marks, {identity(7): "a clone runs from it"})
    assert {int(each, 16): why for each, why in safe.items()} == {
        0: "first of the guest",
        2: "mark alert",
        3: "mark only a time",
        4: "branch 1 forks from it",
        5: "held",
        6: "mark rewind-1",
        7: "a clone runs from it",
        9: "newest of branch 0",
        20: "first of branch 1",
        21: "newest of branch 1",
    }
    frame = choose(Retention.parse("all for 1s"), records, marks, {identity(7): "a clone runs from it"}, NOW)
    assert kept(frame) == set(safe)


def test_the_limit_takes_the_oldest_first() -> None:
    records = line(10, 10)
    frame = choose(Retention.parse("all for 1h, at most 500"), records, [], {}, NOW)
    assert kept(frame) == {identity(number) for number in (0, 6, 7, 8, 9)}
    assert reasons(frame)[1] == "over the limit of bytes"
    assert frame.attrs["over"] == 0


def test_a_limit_that_cannot_be_held_is_told() -> None:
    frame = choose(Retention.parse("all for 1h, at most 150"), line(10, 10), [], {}, NOW)
    assert kept(frame) == {identity(0), identity(9)}
    assert frame.attrs["over"] == 50


def test_nothing_of_nothing() -> None:
    frame = choose(Retention.parse("all for 1h"), [], [], {}, NOW)
    assert frame.empty
    assert frame.attrs["over"] == 0


@pytest.mark.parametrize("stored", [None, "many", -5, 2**60, True, 1.5])
def test_sizes_that_make_no_sense_count_for_nothing(stored: object) -> None:
    assert retained_bytes(capture(1, 0, stored=stored)) == 0


# Properties.

TIERS = st.sampled_from(["all for 30s", "all for 20s, 10s for 1m", "7s for 30s, 20s for 2m, 1m for 10m", "1s for 1w"])
LIMITS = st.none() | st.integers(1, 3000)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[CaptureRecord], list[Mark], dict[CaptureId, str]]:
    ages = draw(st.lists(st.integers(-20, 1000), min_size=1, max_size=40))
    records = []
    for number, age in enumerate(sorted(ages, reverse=True)):
        parent = draw(st.none() | st.integers(max(0, number - 3), number - 1)) if number else None
        branch = draw(st.integers(0, 2))
        records.append(capture(number, age, branch=branch, parent=parent, stored=draw(st.integers(0, 300))))
    numbers = st.integers(0, len(ages) - 1)
    marks = [
        Mark(f"m{number}", GUEST, records[number].time_ns, draw(st.none() | st.just(identity(number))))
        for number in draw(st.lists(numbers, max_size=3))
    ]
    return records, marks, {identity(number): "held" for number in draw(st.lists(numbers, max_size=2))}


def made(tiers: str, limit: int | None) -> Retention:
    return Retention(Retention.parse(tiers).tiers, limit)


def left(records: list[CaptureRecord], frame: pd.DataFrame) -> list[CaptureRecord]:
    """What a prune of that choice leaves; a mark's capture is settled by then."""
    ids = kept(frame)
    return [record for record in records if record.id in ids]


@settings(max_examples=60, deadline=None)
@given(histories(), TIERS, LIMITS)
def test_what_is_protected_is_kept(history: tuple, tiers: str, limit: int | None) -> None:
    records, marks, holds = history
    frame = choose(made(tiers, limit), records, marks, holds, NOW)
    assert set(protected(records, marks, holds)) <= kept(frame)
    size = frame.loc[frame["keep"], "bytes"].sum()
    assert frame.attrs["over"] == max(0, size - (limit or size))
    if frame.attrs["over"]:
        assert kept(frame) == set(protected(records, marks, holds))


@settings(max_examples=60, deadline=None)
@given(histories(), TIERS, LIMITS)
def test_choosing_twice_is_choosing_once(history: tuple, tiers: str, limit: int | None) -> None:
    records, marks, holds = history
    frame = choose(made(tiers, limit), records, marks, holds, NOW)
    assert kept(choose(made(tiers, limit), left(records, frame), marks, holds, NOW)) == kept(frame)


@settings(max_examples=60, deadline=None)
@given(histories(), TIERS, st.integers(0, 2000))
def test_pruning_on_the_way_changes_nothing(history: tuple, tiers: str, later_s: int) -> None:
    """What stays in the end is the same whether or not it was pruned before: tiers do not depend on when one looks."""
    records, marks, holds = history
    retention = made(tiers, None)
    on_the_way = left(records, choose(retention, records, marks, holds, NOW))
    later = NOW + later_s * S
    assert kept(choose(retention, on_the_way, marks, holds, later)) == kept(
        choose(retention, records, marks, holds, later)
    )


@settings(max_examples=60, deadline=None)
@given(histories(), TIERS, st.integers(1, 3000), st.integers(0, 3000), st.integers(0, 2000))
def test_it_is_monotone(history: tuple, tiers: str, limit: int, more: int, later_s: int) -> None:
    """A higher limit, a further mark or an earlier look never keeps less."""
    records, marks, holds = history
    frame = choose(made(tiers, limit), records, marks, holds, NOW)
    assert kept(frame) <= kept(choose(made(tiers, limit + more), records, marks, holds, NOW))
    unlimited = kept(choose(made(tiers, None), records, marks, holds, NOW))
    assert unlimited <= kept(choose(made(tiers, None), records, marks, {**holds, records[0].id: "held"}, NOW))
    assert kept(choose(made(tiers, None), records, marks, holds, NOW + later_s * S)) <= unlimited
