"""What the command shows of a case, with no guest and no libvirt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commandline import Command, SmallCase


def test_help_names_every_verb_and_teaches_by_example(workbench: Command) -> None:
    done = workbench("--help")
    assert done.code == 0
    verbs = "doctor guests capture watch timeline show diff rewind undo clone check bench"
    for verb in verbs.split():
        assert f"  {verb}" in done.out
    assert "workbench watch web1 --interval 2" in done.out


def test_the_timeline_lists_every_capture_with_its_marks(workbench: Command, small_case: SmallCase) -> None:
    done = workbench("timeline", "--case", small_case.path)
    assert done.code == 0
    lines = done.out.splitlines()
    assert len(lines) == 5
    assert [record.id[:12] in line for record, line in zip(small_case.records, lines[1:], strict=True)] == [True] * 4
    assert "alert-7" in lines[3]
    rows = workbench("timeline", "--case", small_case.path, "--json", "--last", "2").json()
    assert [row["id"] for row in rows] == [record.id for record in small_case.records[2:]]


def test_show_gives_facts_regions_and_the_full_id(workbench: Command, small_case: SmallCase) -> None:
    record = small_case.records[2]
    shown = workbench("show", "alert-7", "--case", small_case.path, "--json").json()
    assert shown["id"] == record.id
    assert shown["facts"]["pause_parts_ns"] == {"stop": 2_000_000}
    assert {region["name"]: region["bytes"] for region in shown["regions"]} == {
        "pc.ram": 262144,
        "disk:vda": 524288,
        "state:layout": 2,
    }
    assert "9.5 ms: stop 2.0\n" in workbench("show", record.id[:8], "--case", small_case.path).out


def test_diff_counts_and_lists_changed_blocks(workbench: Command, small_case: SmallCase) -> None:
    first, second = (record.id[:10] for record in small_case.records[:2])
    changes = workbench("diff", first, second, "--case", small_case.path, "--json").json()["changes"]
    assert {each["region"]: each["blocks"] for each in changes} == {"pc.ram": 2, "disk:vda": 1, "state:layout": 0}
    blocks = workbench("diff", first, second, "--case", small_case.path, "--json", "--blocks", "pc.ram").json()
    assert [each["block"] for each in blocks["changes"]] == [1, 9]


def test_an_offset_into_the_past_is_a_moment_and_no_option(workbench: Command, small_case: SmallCase) -> None:
    shown = workbench("show", "-1s", "--case", small_case.path, "--json")
    assert shown.json()["id"] == small_case.records[3].id


def test_a_moment_is_named_held_and_released(workbench: Command, small_case: SmallCase) -> None:
    case = ("--case", small_case.path)
    first = small_case.records[0].id
    assert workbench("mark", "clean", first[:12], "--note", "before it all", *case).code == 0
    assert workbench("show", "clean", *case, "--json").json()["id"] == first
    (held,) = workbench("hold", "clean", "--note", "case 4711", *case, "--json").json()
    assert (held["capture"], held["kind"], held["note"]) == (first, "hold", "case 4711")
    assert f"{first[:12]} released" in workbench("release", "clean", *case).out
    again = workbench("release", "clean", *case)
    assert again.code == 2
    assert "not held" in again.err


def test_check_is_quiet_on_a_whole_case_and_names_the_damage_of_another(
    workbench: Command, small_case: SmallCase
) -> None:
    assert workbench("check", "--case", small_case.path).out == "The case is whole.\n"
    pack = next(small_case.path.glob("packs/*/*.pack"))
    data = bytearray(pack.read_bytes())
    data[20] ^= 1
    pack.write_bytes(data)
    done = workbench("check", "--case", small_case.path)
    assert done.code == 5
    assert pack.name in done.out


def test_text_that_a_guest_made_is_inert(workbench: Command, small_case: SmallCase) -> None:
    shown = workbench("show", "2 captures ago", "--case", small_case.path).out
    listed = workbench("timeline", "--case", small_case.path).out
    for text in (shown, listed):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert r"web\x1b]0;owned\x07[red]1\u202e" in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "ffffffff"), 2, "latest"),
        (("show", "2020-01-01T00:00Z"), 2, "2023-11-14"),
        (("show", "no-such-mark"), 2, "alert-7"),
        (("show", "-300000000s"), 2, "2023-11-14"),
        (("diff", "latest", "alert-7", "--blocks", "nope"), 2, "pc.ram"),
        (("timeline", "--guest", "other"), 2, "--guest"),
        (("undo",), 2, "workbench timeline"),
        (("clone", "rm"), 2, "clone list"),
    ],
)
def test_a_wrong_request_says_what_exists_and_exits_2(
    workbench: Command, small_case: SmallCase, words: tuple[str, ...], code: int, said: str
) -> None:
    done = workbench(*words, "--case", small_case.path)
    assert done.code == code, done.err
    assert said in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_common_words_may_stand_before_the_verb(workbench: Command, small_case: SmallCase) -> None:
    assert len(workbench("--json", "timeline", "--case", small_case.path).json()) == 4


def test_errors_are_json_where_results_are(workbench: Command, small_case: SmallCase) -> None:
    done = workbench("show", "ffffffff", "--case", small_case.path, "--json")
    assert done.code == 2
    assert json.loads(done.err)["error"] == "MomentNotFoundError"


def test_what_is_no_case_is_refused(workbench: Command, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a case")
    done = workbench("timeline", "--case", tmp_path)
    assert done.code == 5
    assert str(tmp_path) in done.err


def test_a_verb_without_a_case_says_how_to_name_one(workbench: Command) -> None:
    done = workbench("timeline")
    assert done.code == 2
    assert "--case" in done.err
