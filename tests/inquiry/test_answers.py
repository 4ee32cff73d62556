"""Answers kept in the case: found again as they were, and never believed unless this user wrote them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from workbench.inquiry.answer import Absence, Answer, Artefact, absences
from workbench.inquiry.answers import AnswerCache

CAPTURE = "ab" * 32
NAME = "linux.pslist.PsList"


def answer() -> Answer:
    frame = pd.DataFrame(
        {
            "address": pd.Series([1 << 63, None], dtype="UInt64"),
            "pid": pd.Series([1, None], dtype="Int64"),
            "name": pd.Series(["init\x1b[0m", None], dtype="string"),
            "hidden": pd.Series([True, None], dtype="boolean"),
            "when": pd.Series([pd.Timestamp("2026-11-24T12:00:00.123456Z"), None], dtype="datetime64[us, UTC]"),
            "bytes": pd.Series([b"\0\xff", None], dtype="object"),
        }
    )
    facts = {"capture": CAPTURE, "plugin": NAME, "arguments": {"pid": [1]}, "versions": {}}
    return Answer(frame, facts, [Absence(1, "pid", "unreadable")], [Artefact("a.dmp", "00" * 32, 5)], "broke off")


@pytest.fixture
def cache(tmp_path: Path) -> AnswerCache:
    return AnswerCache(tmp_path / "answers", tmp_path / "key")


def entry(cache: AnswerCache) -> Path:
    (found,) = cache.directory.rglob("*.parquet")
    return found


def test_an_answer_is_found_as_it_was(cache: AnswerCache) -> None:
    made = answer()
    cache.put(NAME, made)
    found = cache.get(CAPTURE, NAME, {"pid": [1]})
    assert found is not None
    pd.testing.assert_frame_equal(found.frame, made.frame)
    assert found.attributes() == made.attributes()
    told = found.told()
    assert told.attrs["partial"]
    assert absences(told).to_dict("records") == [{"row": 1, "column": "pid", "reason": "unreadable"}]


@pytest.mark.parametrize(
    ("capture", "name", "arguments", "symbols"),
    [
        ("cd" * 32, NAME, {"pid": [1]}, ""),
        (CAPTURE, "linux.lsof.Lsof", {"pid": [1]}, ""),
        (CAPTURE, NAME, {"pid": [2]}, ""),
        (CAPTURE, NAME, {}, ""),
        (CAPTURE, NAME, {"pid": [1]}, "other symbols"),
    ],
)
def test_another_question_has_another_answer(
    cache: AnswerCache, capture: str, name: str, arguments: dict[str, object], symbols: str
) -> None:
    cache.put(NAME, answer())
    assert cache.get(capture, name, arguments, symbols) is None


def test_a_damaged_entry_is_no_answer(cache: AnswerCache) -> None:
    cache.put(NAME, answer())
    data = bytearray(entry(cache).read_bytes())
    data[len(data) // 2] ^= 1
    entry(cache).write_bytes(data)
    assert cache.get(CAPTURE, NAME, {"pid": [1]}) is None


def test_an_entry_that_somebody_else_wrote_is_no_answer(cache: AnswerCache, tmp_path: Path) -> None:
    """A case comes with its cache: what a stranger says that a capture holds must not be shown as what it holds."""
    forged = AnswerCache(tmp_path / "answers", tmp_path / "strangers-key")
    forged.put(NAME, answer())
    assert forged.get(CAPTURE, NAME, {"pid": [1]}) is not None
    assert cache.get(CAPTURE, NAME, {"pid": [1]}) is None


def test_an_entry_under_another_questions_name_is_no_answer(cache: AnswerCache) -> None:
    cache.put(NAME, answer())
    cache.put("linux.lsof.Lsof", answer())
    first, second = sorted(cache.directory.rglob("*.parquet"))
    shutil.copy(first, second.with_name(second.name.split(".")[0] + "." + first.name.split(".", 1)[1]))
    second.unlink()
    assert sum(cache.get(CAPTURE, name, {"pid": [1]}) is not None for name in (NAME, "linux.lsof.Lsof")) == 1


def test_a_place_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("a file is in the way")
    cache = AnswerCache(tmp_path / "answers", tmp_path / "key")
    cache.put(NAME, answer())
    assert cache.get(CAPTURE, NAME, {"pid": [1]}) is None


def test_a_key_that_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short")
    cache = AnswerCache(tmp_path / "answers", tmp_path / "key")
    cache.put(NAME, answer())
    assert cache.get(CAPTURE, NAME, {"pid": [1]}) is not None
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
