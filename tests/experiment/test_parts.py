"""What is done in a clone is understood before anything runs, and what comes back is a number or it is none."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import UsageError
from workbench.experiment.parts import Failed, Hung, measure_of, number_of, until_of, variant_of, work_of
from workbench.experiment.text import inert, last_line


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3), ("noise\n 4.5 \n\n", 4.5), ("-1e3", -1000), (".5", 0.5), ("+7.\n", 7), ("1\n2\n3", 3)],
)
def test_the_last_line_is_the_number(text: str, number: float) -> None:
    assert number_of(text) == number


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "1_0", "٣", "0x10", "3 files", "<b>3</b>", "__import__('os')", "1\nno", "1e9999"]
)
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(Failed, match="no number"):
        number_of(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_python_prints_is_read(number: float) -> None:
    assert number_of(f"x\n{number!r}\n") == number


def test_a_callable_gives_numbers_texts_or_several() -> None:
    assert measure_of("m", lambda _clone: 3).act(None, 1) == {"m": 3.0}
    assert measure_of("m", lambda _clone: np.float32(0.5)).act(None, 1) == {"m": 0.5}
    assert measure_of("m", lambda _clone: "a\x1b[1m").act(None, 1) == {"m": "a\\u001b[1m"}
    assert measure_of("m", lambda _clone: {"a": 1, "b": "two"}).act(None, 1) == {"m.a": 1.0, "m.b": "two"}


@pytest.mark.parametrize("value", [None, [1], math.nan, math.inf, b"3", {"a": [1]}, dict.fromkeys(range(101), 1)])
def test_what_is_no_measurement_fails(value: object) -> None:
    with pytest.raises(Failed):
        measure_of("m", lambda _clone: value).act(None, 1)


def test_a_script_is_known_by_its_digest_and_a_file_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "b.sh").write_text("echo b\n")
    by_path, by_text = variant_of("b", tmp_path / "b.sh"), variant_of("b", "echo b\n")
    assert (by_path.kind, by_path.text, by_path.digest) == ("script", "echo b\n", by_text.digest)
    assert variant_of("b", "echo c\n").digest != by_text.digest
    assert variant_of("control", None).kind == "nothing"


def test_files_are_read_when_it_is_planned_so_all_runs_get_the_same(tmp_path: Path) -> None:
    source = tmp_path / "conf"
    source.write_bytes(b"one")
    part = variant_of("b", {"/etc/conf": source, "/etc/other": "text"})
    source.write_bytes(b"two")
    assert part.digest == variant_of("b", {"/etc/other": b"text", "/etc/conf": b"one"}).digest
    assert part.digest != variant_of("b", {"/etc/other": b"text", "/etc/conf": b"two"}).digest
    assert part.text == "/etc/conf\n/etc/other"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "cannot be applied"),
        ("", "says something"),
        ("echo \0", "no NUL"),
        ({"etc/conf": b""}, "no absolute path"),
        ({"/etc/a\0b": b""}, "no absolute path"),
        (Path("/nowhere/at/all"), "No such file"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(value: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        variant_of("b", value)


def test_until_is_seconds_a_pattern_or_a_question() -> None:
    assert (until_of(2).kind, until_of(2).text) == ("seconds", "2")
    assert (until_of("ready").kind, until_of(re.compile("r.*y")).text) == ("pattern", "r.*y")
    asked: list[object] = []
    until_of(lambda clone: asked.append(clone) or len(asked) == 3).act("clone", 60)
    assert asked == ["clone"] * 3
    with pytest.raises(Hung):
        until_of(lambda _clone: False).act(None, 0.01)
    with pytest.raises(Hung):
        until_of(5).act(None, 0.01)


@pytest.mark.parametrize("value", [0, -1, 1e9, "("])
def test_an_until_that_cannot_be_meant_is_refused(value: float | str) -> None:
    with pytest.raises(UsageError):
        until_of(value)


def test_no_work_is_no_work() -> None:
    assert work_of(None).act(None, 1) is None


@given(st.text(alphabet=st.characters(), max_size=400))
def test_text_of_a_guest_is_harmless(text: str) -> None:
    said = inert(text, 50)
    assert said.encode().decode() == said
    assert len(inert(text)) <= 300
    assert all(c in "\n\t" or c.isprintable() for c in inert(text, 10_000))
    assert "\n" not in last_line(text)
