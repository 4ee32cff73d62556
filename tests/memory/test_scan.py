"""YARA over what changed: a planted page found where it is and when it came; edges, gaps, and rules of any kind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.errors import UsageError
from workbench.memory import scan
from workbench.memory.questions import Scene, ask
from workbench.memory.rules import compile_rules, read_rules
from workbench.memory.scan import scan_changed
from workbench.memory.stretches import EDGE
from workbench.memory.symbols.cache import SymbolCache
from workbench.memory.volatility.opening import Opener
from workbench.model import PAGE, CaptureId
from workbench.store import CaseStore

from .conftest import Recorded
from .synthetic import PAGES, SPLIT, Pages, build, page

MARKER = b"planted-marker-7c1f"
RULE = f'rule planted : one two {{ strings: $m = "{MARKER.decode()}" condition: $m }}'


def changed(tmp_path: Path, before: Pages, after: Pages, rules: str = RULE) -> pd.DataFrame:
    """What a scan finds in the second of two captures."""
    store, (first, second) = build(tmp_path / "case", [before, after])
    return scan_changed(store, first, second, compile_rules(rules))


def ram(**pages: bytes) -> Pages:
    return {("pc.ram", int(name[1:])): content for name, content in pages.items()}


# Where and when.


def test_a_hit_says_where_it_is_and_only_in_the_capture_it_came_with(tmp_path: Path) -> None:
    store, ids = build(
        tmp_path / "case",
        [ram(p3=page(b"quiet")), ram(p7=page(MARKER, 100)), ram(p9=page(b"more")), ram(p7=page(b"x"))],
    )
    rules = compile_rules(RULE)
    found = scan_changed(store, ids[0], ids[1], rules)
    assert found.drop(columns="data").to_dict("records") == [
        {
            "capture": ids[1], "rule": "planted", "namespace": "default", "pattern": "$m", "address": 7 * PAGE + 100,
            "region": "pc.ram", "offset": 7 * PAGE + 100, "length": len(MARKER), "tags": "one,two",
        }
    ]  # fmt: skip
    assert found["data"].tolist() == [MARKER]
    assert "error" not in found.attrs
    for before, after in ((None, ids[0]), (ids[1], ids[2]), (ids[2], ids[3])):
        assert scan_changed(store, before, after, rules).empty
    assert len(scan_changed(store, None, ids[2], rules)) == 1
    assert len(scan_changed(store, ids[0], ids[2], rules)) == 1


def test_columns_and_their_types_are_there_without_a_hit(tmp_path: Path) -> None:
    none = changed(tmp_path, {}, ram(p7=page(b"nothing of it")))
    some = changed(tmp_path / "2", {}, ram(p7=page(MARKER)))
    assert none.dtypes.to_dict() == some.dtypes.to_dict()
    assert none.empty
    assert some.dtypes[["address", "offset", "length"]].astype(str).tolist() == ["UInt64", "Int64", "Int64"]


def test_memory_above_a_hole_and_memory_that_the_guest_does_not_see(tmp_path: Path) -> None:
    high = PAGES // 2 + 5
    found = changed(tmp_path, {}, {("pc.ram", high): page(MARKER, 8), ("pc.rom", 2): page(MARKER, 16)})
    assert found["region"].tolist() == ["pc.ram", "pc.rom"]
    assert found["offset"].tolist() == [high * PAGE + 8, 2 * PAGE + 16]
    assert found["address"].isna().tolist() == [False, True]
    assert found["address"][0] == SPLIT + 5 * PAGE + 8


def test_a_capture_without_changes_has_no_hits(tmp_path: Path) -> None:
    assert changed(tmp_path, ram(p7=page(MARKER)), ram(p7=page(MARKER))).empty


# Borders.


@pytest.mark.parametrize("fresh", ["first", "second", "both"])
def test_what_crosses_the_border_of_two_pages_is_found_once(tmp_path: Path, fresh: str) -> None:
    left, right = page(MARKER[:8], PAGE - 8), page(MARKER[8:])
    old = {"first": ram(p8=right), "second": ram(p7=left), "both": {}}[fresh]
    new = {"first": ram(p7=left), "second": ram(p8=right), "both": ram(p7=left, p8=right)}[fresh]
    found = changed(tmp_path, old, new)
    assert found["offset"].tolist() == [8 * PAGE - 8]
    assert found["data"].tolist() == [MARKER]


def test_what_lies_in_an_unchanged_neighbour_alone_does_not_count(tmp_path: Path) -> None:
    before = ram(p6=page(MARKER, PAGE - EDGE + 10), p8=page(MARKER, 10))
    assert changed(tmp_path, before, ram(p7=page(b"changed"))).empty


def test_neighbours_in_the_region_are_none_where_a_hole_is_between_them(tmp_path: Path) -> None:
    half = PAGES // 2
    pages = {("pc.ram", half - 1): page(MARKER[:8], PAGE - 8), ("pc.ram", half): page(MARKER[8:])}
    assert changed(tmp_path, {}, pages).empty


def test_no_hit_spans_two_stretches_and_none_is_lost_to_the_gap_between_them(tmp_path: Path) -> None:
    rules = (
        "rule a { strings: $a = { 41 42 [0-] 43 44 } condition: $a } rule b { strings: $b = /XY[^Q]*/s condition: $b }"
    )
    # $a begins in one stretch and could only end in the next; $b would run on through the gap.
    found = changed(tmp_path, {}, ram(p3=page(b"AB", PAGE - 40), p5=page(b"XYZ", PAGE - 3), p9=page(b"CD")), rules)
    assert found["rule"].tolist() == ["b"]
    assert found["offset"].tolist() == [6 * PAGE - 3]
    assert found["length"][0] <= 3 + EDGE


def test_buffers_that_split_a_stretch_find_the_same_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_BUFFER", 2 * PAGE)
    pages = {"p4": page(b"1"), "p5": page(MARKER[:8], PAGE - 8), "p6": page(MARKER[8:]), "p7": page(MARKER, 50)}
    found = changed(tmp_path, {}, ram(**pages))
    assert found["offset"].tolist() == [6 * PAGE - 8, 7 * PAGE + 50]


# Kinds of rules.


def test_utf16_is_found_where_a_rule_says_wide(tmp_path: Path) -> None:
    rules = RULE.replace('" condition', '" wide condition')
    found = changed(tmp_path, {}, ram(p2=page(MARKER), p5=page(MARKER.decode().encode("utf-16le"), 1)), rules)
    assert found["offset"].tolist() == [5 * PAGE + 1]
    assert found["length"].tolist() == [2 * len(MARKER)]


def test_a_rule_that_matches_by_its_condition_alone_has_no_place(tmp_path: Path) -> None:
    found = changed(tmp_path, {}, ram(p2=page(b"x")), "rule always { condition: true }")
    assert found["rule"].tolist() == ["always"]
    assert found[["pattern", "address", "region", "offset"]].isna().all(axis=None)


def test_pages_that_became_zero_are_not_looked_at(tmp_path: Path) -> None:
    rules = "rule zeros { strings: $z = { 00 00 00 00 } condition: $z }"
    assert changed(tmp_path, ram(p2=page(b"x"), p3=page(b"y")), ram(p2=bytes(PAGE), p3=bytes(PAGE)), rules).empty


def test_more_hits_than_are_told_is_said(tmp_path: Path) -> None:
    rules = "rule zeros { strings: $z = { 00 } condition: $z } " + RULE
    found = changed(tmp_path, {}, ram(**{f"p{at}": page(MARKER) for at in range(2, 12)}), rules)
    assert (found["rule"] == "zeros").sum() == 1000
    assert (found["rule"] == "planted").sum() == 10
    assert "zeros has more than 1000 hits" in found.attrs["error"]
    assert "more than 10000 matches" in found.attrs["error"]
    assert found["data"].map(len).max() <= 64


def test_a_scan_that_takes_too_long_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_SECONDS", 1)
    rules = "rule slow { condition: for all i in (0..1000000000000) : (i >= 0) }"
    found = changed(tmp_path, {}, ram(p2=page(b"x")), rules)
    assert "more than 1 s" in found.attrs["error"]


# Rules.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rule a {\n  condition: $x }", "line 2; column 14"),
        ("rule a { strings: $a = /(/ condition: $a }", "line 1"),
        ('include "other.yar"\nrule a { condition: true }', "include"),
        ('import "nothing"\nrule a { condition: true }', "nothing"),
        ("rule a { condition: true } rule a { condition: true }", "line 1"),
        ("\ud800 rule a { condition: true }", "do not compile"),
        ("// no rule {}", "no rule"),
        ("rule a { condition: true } //" + "x" * (17 << 20), "more text"),
    ],
    ids=["unknown pattern", "bad regex", "include", "module", "twice", "no UTF-8", "empty", "too much"],
)
def test_rules_that_cannot_be_are_refused_and_say_where(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compile_rules(text)


def test_rules_of_a_directory_keep_apart_by_the_name_of_their_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("first.yar", "sub/first.yara", "we ird.yar"):
        (tmp_path / name).write_text("rule same { condition: true }")
    (tmp_path / "notes.txt").write_text("not a rule")
    text = read_rules(tmp_path)
    assert compile_rules(text).rules == ("first:same", "first.2:same", "we_ird:same")
    assert compile_rules(text) is compile_rules(text)
    (tmp_path / "sub/first.yara").write_text("rule same {\n\n condition: nope }")
    with pytest.raises(UsageError, match=r"source 'first\.2'; line 3"):
        compile_rules(read_rules(tmp_path))


def test_rules_are_read_from_text_file_and_files_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "one.yar"
    file.write_text(RULE)
    assert read_rules(RULE) == read_rules(file) == read_rules(str(file)) == RULE
    assert compile_rules(read_rules([file, file])).rules == ("one:planted", "one.2:planted")
    assert compile_rules(RULE).digest != compile_rules(RULE + " ").digest
    for nothing in (tmp_path / "gone.yar", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UsageError):
            read_rules(nothing)
    file.write_bytes(b"rule \xff {")
    with pytest.raises(UsageError, match="UTF-8"):
        read_rules(file)


def test_captures_that_are_not_there_are_refused(tmp_path: Path) -> None:
    store, (only,) = build(tmp_path / "case", [ram(p1=page(b"x"))])
    with pytest.raises(UsageError):
        scan_changed(store, CaptureId("0" * 64), only, compile_rules(RULE))


def test_every_stretch_is_mapped_back_to_where_it_was(tmp_path: Path) -> None:
    """Markers of their own in many pages, scattered: each is found at its place and nowhere else."""
    rng = np.random.default_rng(7)
    pages = np.sort(rng.choice(PAGES, 300, replace=False)).tolist()
    offsets = rng.integers(0, PAGE - 40, 300).tolist()
    content = {("pc.ram", at): page(b"mark-%05d-end" % at, off) for at, off in zip(pages, offsets, strict=True)}
    found = changed(tmp_path, {}, content, "rule m { strings: $m = /mark-[0-9]{5}-end/ condition: $m }")
    assert found["offset"].tolist() == [at * PAGE + off for at, off in zip(pages, offsets, strict=True)]
    assert found["data"].tolist() == [b"mark-%05d-end" % at for at in pages]


# A guest's memory.


@pytest.mark.guest
def test_an_intrusion_is_found_with_its_owner_and_its_moment(recorded: Recorded, opener: Opener) -> None:
    rules = 'rule sysupd { strings: $u = "sysupd:x:0:0" condition: $u }'
    before, after = recorded.capture("break_in"), recorded.capture("new_user")
    found = question(recorded.case.store, opener, after, rules, before)
    assert "/etc/passwd" in set(found.loc[found["owner"] == "page cache", "path"].dropna())
    clean = question(recorded.case.store, opener, recorded.capture("clean"), rules, None)
    assert clean.empty
    assert list(clean.columns) == list(found.columns)


def question(store: CaseStore, opener: Opener, after: str, rules: str, before: str | None) -> pd.DataFrame:
    view = store.view(CaptureId(after))
    scene = Scene(store, view, opener.open(view), lambda percent, words: None)
    return ask(scene, "workbench.yara", {"rules": rules, "against": before}).frame


@pytest.fixture(scope="module")
def planted(demo_image: DemoImage) -> Iterator[tuple[Case, dict[str, str]]]:
    """Captures before and after a guest wrote two files into its memory: text, and UTF-16."""
    place = Path(tempfile.mkdtemp(prefix="scan-test-"))
    place.chmod(0o711)
    case = Case.create(place / "case")
    spec = DemoSpec(f"scan-{os.getpid()}", memory_mib=128)
    with DemoGuest.boot(spec, image=demo_image) as guest, case.record(guest.name) as recording:
        ids = {"before": recording.capture("before").id}
        # By tr and by escapes: so that what was asked of the guest is not what is found in it.
        guest.run("echo cynagrq-znexre-7p1s | tr a-z n-za-m >/dev/shm/text")
        escaped = "".join(f"{chr(letter)}\\000" for letter in MARKER)
        guest.run(f"printf '{escaped}' >/dev/shm/wide")
        ids["after"] = recording.capture("after").id
        guest.run("true")
        ids["later"] = recording.capture("later").id
    yield case, ids
    case.close()
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.guest
def test_a_file_written_into_memory_is_found_in_the_capture_it_came_with(
    planted: tuple[Case, dict[str, str]], tmp_path: Path
) -> None:
    case, ids = planted
    rules = RULE + " " + RULE.replace("planted :", "planted_wide :").replace('" condition', '" wide condition')
    opener = Opener(tmp_path / "kernels", SymbolCache(tmp_path / "symbols"))
    assert question(case.store, opener, ids["before"], rules, None).empty
    found = question(case.store, opener, ids["after"], rules, ids["before"])
    in_files = found[found["owner"] == "page cache"].set_index("rule")["path"].to_dict()
    assert in_files == {"planted": "/dev/shm/text", "planted_wide": "/dev/shm/wide"}
    later = question(case.store, opener, ids["later"], rules, ids["after"])
    assert later[later["owner"] == "page cache"].empty
    opener.close()
