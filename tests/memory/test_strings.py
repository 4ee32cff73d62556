"""Strings of memory: the same as a regular expression finds, however memory is cut; both encodings; bounds said."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.errors import UsageError
from workbench.memory import strings as module
from workbench.memory.physical import PhysicalMemory
from workbench.memory.questions import Scene, ask
from workbench.memory.strings import strings_of
from workbench.memory.volatility.opening import Opener
from workbench.model import PAGE

from .conftest import Recorded
from .synthetic import PAGES, SPLIT, Pages, build, page

Found = set[tuple[int, str, str]]


def memory_of(tmp_path: Path, pages: Pages) -> PhysicalMemory:
    store, (only,) = build(tmp_path / "case", [pages])
    return PhysicalMemory.of_capture(store.view(only))


def told(frame: pd.DataFrame) -> list[tuple[int, str, str]]:
    return list(zip(frame["address"].tolist(), frame["encoding"].tolist(), frame["text"].tolist(), strict=True))


def expected(base: int, content: bytes, minimum: int) -> Found:
    """What regular expressions find in a piece of memory without a hole."""
    plain = re.finditer(rb"[\x20-\x7e\t]{%d,}" % minimum, content)
    wide = re.finditer(rb"(?:[\x20-\x7e\t]\0){%d,}" % minimum, content)
    return {(base + each.start(), "ascii", each[0].decode()) for each in plain} | {
        (base + each.start(), "utf-16le", each[0][::2].decode()) for each in wide
    }


def test_a_string_is_told_with_where_it_is(tmp_path: Path) -> None:
    high = PAGES // 2 + 3
    pages = {
        ("pc.ram", 7): page(b"an ordinary string", 11),
        ("pc.ram", high): page("in UTF-16: wide".encode("utf-16le"), 5),
    }
    (batch,) = strings_of(memory_of(tmp_path, pages))
    assert told(batch) == [
        (7 * PAGE + 11, "ascii", "an ordinary string"),
        (SPLIT + 3 * PAGE + 5, "utf-16le", "in UTF-16: wide"),
    ]
    assert batch["region"].tolist() == ["pc.ram", "pc.ram"]
    assert batch["offset"].tolist() == [7 * PAGE + 11, high * PAGE + 5]


def test_only_neighbours_make_one_string_of_two_pages(tmp_path: Path) -> None:
    half = PAGES // 2
    pages = {
        ("pc.ram", 3): page(b"first half", PAGE - 10),
        ("pc.ram", 4): page(b" and second"),
        ("pc.ram", half - 1): page(b"at the hole", PAGE - 11),
        ("pc.ram", half): page(b"above the hole"),
    }
    (batch,) = strings_of(memory_of(tmp_path, pages))
    assert batch["text"].tolist() == ["first half and second", "at the hole", "above the hole"]


def test_memory_without_strings_has_the_same_columns(tmp_path: Path) -> None:
    (some,) = strings_of(memory_of(tmp_path, {("pc.ram", 1): page(b"something")}))
    (none,) = strings_of(memory_of(tmp_path / "2", {}))
    (short,) = strings_of(memory_of(tmp_path / "3", {("pc.ram", 1): page(b"short")}))
    assert none.empty
    assert short.empty
    assert none.dtypes.to_dict() == short.dtypes.to_dict() == some.dtypes.to_dict()


@pytest.mark.parametrize("buffer", [64, 1000, 4096, 1 << 20])
@pytest.mark.parametrize("minimum", [4, 6, 7])
def test_however_memory_is_cut_the_strings_are_those_of_the_whole(
    buffer: int, minimum: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUFFER", buffer)
    rng = np.random.default_rng(buffer + minimum)
    content = rng.choice(np.frombuffer(b"abc\t~ \0\0\0\0\xff\x1f\x7f", np.uint8), 60_000)
    content[10_000:11_000] = ord("x")
    content[20_000:24_000] = np.frombuffer("y".encode("utf-16le") * 2000, np.uint8)
    cuts = sorted({0, 30_000, len(content), *rng.integers(0, len(content), 400).tolist()})
    pieces = [(begin + (5000 if begin >= 30_000 else 0), content[begin:end]) for begin, end in pairwise(cuts)]
    found = [row for batch in module._batches(pieces, minimum, None) for row in told(batch)]
    data = content.tobytes()
    assert len(found) == len(set(found))
    assert set(found) == expected(0, data[:30_000], minimum) | expected(35_000, data[30_000:], minimum)


def test_a_string_that_is_too_long_to_wait_for_comes_in_two_and_nothing_of_it_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_BUFFER", 200)
    monkeypatch.setattr(module, "_LONGEST", 100)
    content = np.frombuffer(bytes(32 + at % 64 for at in range(1000)), np.uint8)
    pieces = [(at, content[at : at + 50]) for at in range(0, 1000, 50)]
    found = [row for batch in module._batches(pieces, 4, None) for row in told(batch)]
    assert "".join(text for _, _, text in found) == content.tobytes().decode()


def test_what_a_string_contains_is_sought_in_both_encodings(tmp_path: Path) -> None:
    memory = memory_of(
        tmp_path,
        {
            ("pc.ram", 1): page(b"user=root&pass.word=1"),
            ("pc.ram", 3): page("pass.word".encode("utf-16le")),
            ("pc.ram", 5): page(b"pass-word, but no dot"),
        },
    )
    for wanted in ("pass.word", b"pass.word"):
        (batch,) = strings_of(memory, containing=wanted)
        assert batch["address"].tolist() == [PAGE, 3 * PAGE]


@pytest.mark.parametrize(("minimum", "containing"), [(3, None), (5000, None), (6, "\u00e9"), (6, b"\xff")])
def test_what_cannot_be_sought_is_refused(tmp_path: Path, minimum: int, containing: str | bytes | None) -> None:
    with pytest.raises(UsageError):
        next(strings_of(memory_of(tmp_path, {}), minimum=minimum, containing=containing))


@pytest.fixture
def scene(recorded: Recorded, opener: Opener) -> Scene:
    view = recorded.case.store.view(recorded.capture("new_user"))
    return Scene(recorded.case.store, view, opener.open(view), lambda percent, words: None)


@pytest.mark.guest
def test_an_intruders_line_is_in_memory_and_in_no_clean_capture(
    recorded: Recorded, opener: Opener, scene: Scene
) -> None:
    line = "sysupd:x:0:0:system update:/root:/bin/sh"
    found = ask(scene, "workbench.strings", {"containing": "sysupd:x:0:0"})
    assert line in set(found.frame["text"])
    first = found.frame.iloc[0]
    assert scene.sight.memory.read(int(first["address"]), len(first["text"])) == first["text"].encode()
    clean = recorded.case.store.view(recorded.capture("clean"))
    quiet = Scene(recorded.case.store, clean, opener.open(clean), lambda percent, words: None)
    assert ask(quiet, "workbench.strings", {"containing": "sysupd:x:0:0"}).frame.empty


@pytest.mark.guest
def test_an_answer_is_bounded_and_says_so(scene: Scene) -> None:
    answer = ask(scene, "workbench.strings", {"most": 100})
    assert len(answer.frame) == 100
    assert "more strings than the 100 rows" in answer.error
    with pytest.raises(UsageError):
        ask(scene, "workbench.strings", {"most": 1 << 40})


@pytest.mark.guest
def test_a_processs_strings_are_at_its_own_addresses(scene: Scene) -> None:
    found = ask(scene, "workbench.strings", {"pid": 1, "containing": "PATH=/"}).frame
    assert list(found.columns) == ["address", "encoding", "text"]
    maps = ask(scene, "workbench.process_maps", {"pid": 1}).frame.set_index("path")
    stack = maps.loc["[stack]"]
    assert any(stack["start"] <= address < stack["end"] for address in found["address"])
