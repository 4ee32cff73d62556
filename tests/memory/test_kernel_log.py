"""The kernel's log has its newest record once, whether Volatility reads it or not; it itself is in `test_plugins`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from workbench.memory.volatility import kernel_log

OLDER = [("kern", "info", "1.0", "T1", "first"), ("kern", "info", "2.0", "T1", "second")]
NEWEST = [("kern", "emerg", "3.0", "T1", "panic: first line"), ("kern", "emerg", "3.0", "T1", "second line")]


@pytest.fixture(autouse=True)
def _a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_log, "_newest", lambda _reader: iter(NEWEST))


def read(*rows: tuple[str, ...]) -> list[Any]:
    def theirs(_reader: object) -> Iterator[Any]:
        yield from rows

    return list(kernel_log._whole(theirs)(None))


def test_what_is_left_out_is_added_and_what_is_there_is_not_told_twice() -> None:
    assert read(*OLDER) == OLDER + NEWEST
    assert read(*OLDER, *NEWEST) == OLDER + NEWEST


def test_an_empty_log_has_its_first_record() -> None:
    assert read() == NEWEST
