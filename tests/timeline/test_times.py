"""Times and spans as users write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import UsageError
from workbench.timeline.times import parse_span, parse_time, show_time

NOON = int(datetime(2024, 5, 1, 12, 30, 5, tzinfo=UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T12:30:05Z", NOON),
        ("2024-05-01T12:30:05z", NOON),
        ("2024-05-01 12:30:05", NOON),
        ("2024-05-01t12:30:05", NOON),
        ("2024-05-01T14:30:05+02:00", NOON),
        ("2024-05-01T14:30:05+0200", NOON),
        ("2024-05-01T14:30:05+02", NOON),
        ("2024-05-01T14:30:05 +02:00", NOON),
        ("2024-05-01T07:00:05-05:30", NOON),
        ("2024-05-02T02:30:05+14:00", NOON),
        ("2024-05-01T12:30:05.5Z", NOON + 500_000_000),
        ("2024-05-01T12:30:05,5", NOON + 500_000_000),
        ("2024-05-01T12:30:05.123456789+00:00", NOON + 123_456_789),
        ("2024-05-01T12:30", NOON - 5 * 10**9),
        ("2024-05-01", NOON - (12 * 3600 + 30 * 60 + 5) * 10**9),
        ("1969-12-31T23:59:59.25Z", -750_000_000),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "20240501",
        "2024-05",
        "2024-5-1",
        "12:30",
        "2024-05-01T12",
        "2024-05-01T12:30:05.",
        "2024-05-01Z",
        "2024-05-01T12:30:05+2",
        "x2024-05-01",
    ],
)
def test_what_is_no_time(text: str) -> None:
    assert parse_time(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "2024-13-01",
        "2024-02-30",
        "2023-02-29T00:00",
        "2024-05-01T24:30",
        "2024-05-01T12:60",
        "2024-05-01T12:30:60",
        "2024-05-01T12:30+25:00",
    ],
)
def test_times_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match=r"no such time.*without a zone it is UTC\."):
        parse_time(text)


@given(st.integers(0, 2**63 - 1))
def test_shown_times_are_read_back(time_ns: int) -> None:
    assert parse_time(show_time(time_ns)) == time_ns


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("-30s", 30),
        ("-5m", 300),
        ("-2h", 7200),
        ("-1d", 86400),
        ("-1.5h", 5400),
        ("-1h30m", 5400),
        ("-250ms", 0.25),
        ("-0s", 0),
    ],
)
def test_spans(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds * 10**9


@pytest.mark.parametrize("text", ["", "-", "30s", "-30", "-s", "- 30s", "-5w", "-1h 30m", "+5s", "-1..5s"])
def test_what_is_no_span(text: str) -> None:
    assert parse_span(text) is None
