"""The super-timeline has each event once, in order, and says what its time is worth; exports lose and run nothing."""

from __future__ import annotations

import csv
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.disk import exports
from workbench.disk.exports import FORMATS, export, harmless, read_parquet
from workbench.disk.loglines import boot_time, log_lines, time_of_line
from workbench.disk.timeline import COLUMNS, super_timeline
from workbench.errors import FormatError, UsageError
from workbench.inquiry.identity import compare
from workbench.model import CaptureId, CaptureRef, GuestId, Mark

SECOND = 10**9
START = 1_700_000_000 * SECOND
FIRST, SECOND_ID, THIRD = (CaptureId(digit * 64) for digit in "abc")
CAPTURES = [
    CaptureRef(START, FIRST),
    CaptureRef(START + 100 * SECOND, SECOND_ID),
    CaptureRef(START + 200 * SECOND, THIRD),
]


def at(seconds: float) -> pd.Timestamp:
    """Seconds after the first capture."""
    return pd.Timestamp(START + round(seconds * SECOND), unit="ns", tz="UTC")


def events(frame: pd.DataFrame, kind: str) -> list[dict[str, Any]]:
    return frame[frame["kind"] == kind].to_dict("records")


def one(frame: pd.DataFrame, kind: str) -> dict[str, Any]:
    (found,) = events(frame, kind)
    return found


def process(pid: int, name: str, start: float, **more: object) -> dict[str, object]:
    row = {"pid": pid, "ppid": 1, "name": name, "uid": 0, "started": at(start), "start_ns": round(start * SECOND)}
    return {**row, "executable": f"/bin/{name}", "arguments": f"{name} -x", **more}


def processes(*rows: dict[str, object]) -> pd.DataFrame:
    frame = pd.DataFrame(rows).astype({"pid": "Int64", "ppid": "Int64", "uid": "Int64", "start_ns": "Int64"})
    return frame.astype({"name": "string", "started": "datetime64[us, UTC]"})


def changed(**more: object) -> pd.DataFrame:
    """A row as the comparison of files has it."""
    row: dict[str, object] = {
        "volume": "vda", "path": "/etc/passwd", "change": "modified", "old_path": None, "kind": "file",
        "size_before": 10, "size_after": 20, "inode": 12, "mode": 0o644, "uid": 0, "sha256_before": "aa",
        "sha256_after": "bb",
    }  # fmt: skip
    for time in ("modified", "changed", "created"):
        row |= {f"{time}_before": at(-1000), f"{time}_after": at(-1000)}
    frame = pd.DataFrame({name: pd.Series([value], dtype=object) for name, value in (row | more).items()})
    times = [name for name in frame.columns if name.startswith(("modified_", "changed_", "created_"))]
    return frame.assign(**{name: pd.to_datetime(frame[name], utc=True) for name in times})


# What each kind of frame becomes.


def test_a_process_starts_by_the_kernel_and_ends_between_captures() -> None:
    before = processes(process(1, "init", -500), process(7, "old", -400))
    after = processes(process(1, "init", -500, uid=5), process(8, "nc", 42.5))
    diff = compare("workbench.processes", before, after)
    frame = super_timeline({"processes": diff}, CAPTURES[:2])
    found = {row["timestamp_desc"]: row for row in events(frame, "process")}
    assert set(found) == {"process started", "process ended", "process changed"}
    started, ended, other = (found[f"process {word}"] for word in ("started", "ended", "changed"))
    assert (started["datetime"], started["exact"], started["pid"]) == (at(42.5), True, 8)
    assert started["message"] == "nc (8) nc -x"
    assert started["time_from"] == "start of the process by the guest's kernel"
    assert (ended["datetime"], ended["exact"], ended["time_from"]) == (at(100), False, "between captures")
    assert (other["exact"], other["changed"], other["message"]) == (False, "uid", "init (1) init -x [uid]")
    for row in found.values():
        assert (row["not_before"], row["not_after"], row["capture"]) == (at(0), at(100), SECOND_ID)
        assert row["source"] == "memory"


def test_a_process_whose_start_cannot_be_read_lies_between_captures() -> None:
    diff = compare("workbench.processes", processes(process(1, "init", 0)), processes(process(8, "nc", 42)))
    diff["started"] = pd.NaT
    rows = events(super_timeline({"processes": diff}, CAPTURES[:2]), "process")
    assert {row["exact"] for row in rows} == {False}


def test_sockets_and_modules_have_no_times() -> None:
    columns = ["Sock Offset", "PID", "TID", "FD", "Process Name", "Family", "Proto", "Source Addr", "Source Port",
               "Destination Addr", "Destination Port", "State"]  # fmt: skip
    listening = [1, 451, 451, 3, "nc", "AF_INET6", "TCP", "::", "4444", "::", "0", "LISTEN"]
    sockets = compare(
        "linux.sockstat.Sockstat", pd.DataFrame([], columns=columns), pd.DataFrame([listening], columns=columns)
    )
    modules = compare(
        "linux.lsmod.Lsmod",
        pd.DataFrame([["dm", 5, 9, ""]], columns=["Module Name", "Offset", "Code Size", "Load Arguments"]),
        pd.DataFrame([["rootkit", 6, 9, "hide=1"]], columns=["Module Name", "Offset", "Code Size", "Load Arguments"]),
    )
    frame = super_timeline({"sockets": sockets, "modules": modules}, CAPTURES[:2])
    socket = one(frame, "socket")
    assert socket["timestamp_desc"] == "socket appeared"
    assert socket["message"] == "TCP [::]:4444 -> [::]:0 LISTEN, nc (451)"
    assert (socket["pid"], socket["local"], socket["exact"], socket["datetime"]) == (451, "[::]:4444", False, at(100))
    told = [(row["timestamp_desc"], row["message"]) for row in events(frame, "module")]
    assert told == [("module loaded", "rootkit hide=1"), ("module unloaded", "dm")]


FILES = {
    "created": (
        {"change": "created", "created_after": at(5), "modified_after": at(5), "created_before": pd.NaT},
        [("file created", at(5), True)],
    ),
    "created long after its content": (
        {"change": "created", "created_after": at(5), "modified_after": at(-9), "created_before": pd.NaT},
        [("file modified", at(-9), True), ("file created", at(5), True)],
    ),
    "created without a time": (
        {"change": "created", "created_after": pd.NaT, "created_before": pd.NaT},
        [("file created", at(100), False)],
    ),
    "modified": ({"modified_after": at(7)}, [("file modified", at(7), True)]),
    "modified with its old time": ({}, [("file modified", at(100), False)]),
    "deleted": ({"change": "deleted", "kind": "directory"}, [("directory deleted", at(100), False)]),
    "renamed": (
        {"change": "renamed", "old_path": "/etc/x", "changed_after": at(9)},
        [("file renamed", at(9), True)],
    ),
    "metadata": ({"change": "metadata", "changed_after": at(9)}, [("file metadata changed", at(9), True)]),
}


@pytest.mark.parametrize(("row", "expected"), FILES.values(), ids=FILES.keys())
def test_files(row: dict[str, object], expected: list[tuple[str, pd.Timestamp, bool]]) -> None:
    frame = super_timeline({"files": changed(**row)}, CAPTURES[:2])
    found = frame[frame["source"] == "disk"].to_dict("records")
    assert [(each["timestamp_desc"], each["datetime"], each["exact"]) for each in found] == expected
    assert {(each["path"], each["inode"], each["size"], each["sha256"]) for each in found} == {
        ("/etc/passwd", 12, 20, "bb")
    }


def test_files_say_what_else_there_is_to_say() -> None:
    stamped = one(super_timeline({"files": changed()}, CAPTURES[:2]), "file")
    assert stamped["message"] == "/etc/passwd (its time of modification is as before)"
    renamed = one(super_timeline({"files": changed(change="renamed", old_path="/old")}, CAPTURES[:2]), "file")
    assert (renamed["message"], renamed["old_path"]) == ("/etc/passwd (was /old)", "/old")
    deleted = one(
        super_timeline({"files": changed(change="deleted", size_after=pd.NA, sha256_after=pd.NA)}, CAPTURES[:2]), "file"
    )
    assert (deleted["size"], deleted["sha256"]) == (10, "aa")


KMSG = pd.DataFrame(
    {
        "facility": "kern",
        "level": "info",
        "timestamp": ["1.500000", "nonsense", "1e400", "-5"],
        "line": ["first", "second", "third", "fourth"],
    }
)


def test_kernel_lines_count_from_boot() -> None:
    frame = super_timeline({"kernel_log": KMSG}, CAPTURES, boot=at(10))
    found = {row["message"]: row for row in events(frame, "kernel log")}
    assert (found["first"]["datetime"], found["first"]["exact"]) == (at(11.5), True)
    assert {found[name]["exact"] for name in ("second", "third", "fourth")} == {False}
    assert pd.isna(found["second"]["not_before"])  # a whole log does not say what was there before
    assert found["second"]["not_after"] == at(200)
    without = super_timeline({"kernel_log": KMSG}, CAPTURES)
    assert not any(row["exact"] for row in events(without, "kernel log"))


def test_lines_that_left_the_ring_are_no_events() -> None:
    diff = compare("linux.kmsg.Kmsg", KMSG.iloc[:2].assign(caller="T1"), KMSG.iloc[1:3].assign(caller="T1"))
    frame = super_timeline({"kernel_log": diff}, CAPTURES[:2], boot=at(0))
    assert [row["message"] for row in events(frame, "kernel log")] == ["third"]


def test_boot_is_what_the_processes_agree_on() -> None:
    frame = processes(process(1, "a", 5), process(2, "b", 50), process(3, "liar", 60))
    frame.loc[2, "started"] = at(10**6)
    assert boot_time(frame) == at(0)
    assert boot_time(frame.assign(start_ns=pd.NA)) is None


UNIFIED = """--- /var/log/auth.log
+++ /var/log/auth.log
@@ -1,3 +1,2 @@
-Nov 14 22:13:25 host sshd[1]: Accepted password for root
 unchanged
+2023-11-14T22:13:30.25+01:00 host sshd[2]: session opened
++++ not a heading
"""


def test_lines_of_logs_that_came_and_that_were_taken_out() -> None:
    lines = log_lines("/var/log/auth.log", UNIFIED)
    assert lines["change"].tolist() == ["removed", "added", "added"]
    frame = super_timeline({"logs:/var/log/auth.log": lines}, CAPTURES[:2])
    told = [(row["timestamp_desc"], row["exact"], row["message"][:10]) for row in events(frame, "log")]
    assert told == [
        ("log line", True, "2023-11-14"),
        ("log line removed", False, "Nov 14 22:"),
        ("log line", False, "+++ not a "),
    ]
    added = events(frame, "log")[0]
    assert added["datetime"] == pd.Timestamp("2023-11-14T21:13:30.25Z")
    assert (added["path"], added["time_from"]) == ("/var/log/auth.log", "time in the line")


@pytest.mark.parametrize(
    ("line", "when", "how"),
    [
        ("2024-02-03T04:05:06Z x", "2024-02-03T04:05:06", "time in the line"),
        ("2024-02-03T04:05:06.123456789+0200 x", "2024-02-03T02:05:06.123456", "time in the line"),
        ("[2024-02-03 04:05:06,5] x", "2024-02-03T04:05:06.5", "time in the line, zone assumed UTC"),
        ("Feb  3 04:05:06 host x", "2024-02-03T04:05:06", "time in the line, year and zone (UTC) assumed"),
        ("<34>Dec 31 23:00:00 host x", "2023-12-31T23:00:00", "time in the line, year and zone (UTC) assumed"),
        ("Feb 29 00:00:00 host x", "2020-02-29T00:00:00", "time in the line, year and zone (UTC) assumed"),
        ("Feb 31 00:00:00 host x", None, ""),
        ("Foo 11 00:00:00 host x", None, ""),
        ("2024-13-03T04:05:06Z x", None, ""),
        ("0001-01-01T00:00:00+23:59 x", None, ""),
        ("no time 2024-02-03T04:05:06Z", None, ""),
        ("", None, ""),
    ],
)
def test_times_in_lines(line: str, when: str | None, how: str) -> None:
    expected = None if when is None else datetime.fromisoformat(when).replace(tzinfo=UTC)
    assert time_of_line(line, pd.Timestamp("2024-02-10", tz="UTC")) == (expected, how)


@given(st.text(max_size=100))
def test_no_line_breaks_it(line: str) -> None:
    time_of_line(line, at(0))
    super_timeline({"logs": pd.DataFrame({"path": ["/l"], "change": ["added"], "line": [line]})}, CAPTURES)


# The whole.


def whole() -> pd.DataFrame:
    """A timeline with all that is awkward in it."""
    files = changed(path='/tmp/\udcff=\x1b[31m,"\n\u202e', modified_after=at(50), sha256_after=pd.NA)
    lines = pd.DataFrame({"path": "/l", "change": "added", "line": ["=cmd|' /C calc'!A0", "+1", "plain \t tab"]})
    started = processes(process(8, "@SUM(1+1)", 42.123456, arguments="-rm \x00 \U0001f600"))
    diff = compare("workbench.processes", processes(process(1, "init", 0)), started)
    return super_timeline({"files": files, "logs": lines, "processes": diff}, CAPTURES)


def test_columns_order_and_types() -> None:
    frame = whole()
    assert tuple(frame.columns) == COLUMNS
    assert frame["datetime"].is_monotonic_increasing
    assert frame["datetime"].notna().all()
    types = frame.dtypes.astype(str)
    assert (types[["datetime", "not_before", "not_after"]] == "datetime64[us, UTC]").all()
    assert (types[["pid", "inode", "size"]] == "Int64").all()
    assert (types[["message", "source", "kind", "capture", "timestamp_desc", "sha256"]] == "str").all()
    assert (types["exact"], types["path"]) == ("bool", "object")
    assert super_timeline({}, CAPTURES).dtypes.equals(frame.dtypes)
    empty = {"processes": processes(process(1, "x", 0)).iloc[:0], "files": changed().iloc[:0]}
    assert len(super_timeline(empty, CAPTURES)) == 3


def test_captures_and_marks_are_events() -> None:
    mark = Mark("alert-1", GuestId("g"), START + 50 * SECOND, SECOND_ID, "alert", "seen")
    frame = super_timeline({}, CAPTURES, marks=[mark])
    assert frame["timestamp_desc"].tolist() == ["captured", "marked", "captured", "captured"]
    assert frame["message"].tolist()[:2] == ["aaaaaaaaaaaa", "alert-1 (alert) seen"]
    assert set(frame["source"]) == {"capture"}


def test_frames_of_several_pairs() -> None:
    first = changed(path="/a", change="deleted").assign(before=FIRST, after=SECOND_ID)
    later = changed(path="/b", change="deleted").assign(before=SECOND_ID, after=THIRD)
    by_attrs = changed(path="/c", change="deleted")
    by_attrs.attrs.update(before=SECOND_ID, after=THIRD)
    frame = super_timeline({"files": pd.concat([first, later]), "files:c": by_attrs}, CAPTURES)
    told = {row["path"]: (row["not_before"], row["not_after"]) for row in events(frame, "file")}
    assert told == {"/a": (at(0), at(100)), "/b": (at(100), at(200)), "/c": (at(100), at(200))}


def test_what_cannot_be_asked() -> None:
    with pytest.raises(UsageError, match="needs captures"):
        super_timeline({}, [])
    with pytest.raises(UsageError, match="no such part"):
        super_timeline({"nonsense": changed()}, CAPTURES)
    with pytest.raises(UsageError, match="capture that is not here"):
        super_timeline({"files": changed().assign(before=FIRST, after="f" * 64)}, CAPTURES)


def test_times_beyond_all_are_no_times() -> None:
    frame = changed()
    frame["modified_after"] = pd.Series([pd.Timestamp.max.tz_localize("UTC")])
    assert one(super_timeline({"files": frame}, CAPTURES[:2]), "file")["exact"]


# Exports.


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_parquet_is_exact(tmp_path: Path) -> None:
    frame = whole()
    back = read_parquet(exports.to_parquet(frame, tmp_path / "t.parquet"))
    pd.testing.assert_frame_equal(back, frame)
    plain = pd.read_parquet(tmp_path / "t.parquet")  # and without us a name is readable, and its bytes are there
    mine = plain[plain["kind"] == "file"].iloc[0]
    assert mine["path"].startswith("/tmp/\\udcff=")
    assert mine["path_raw"] == os.fsencode('/tmp/\udcff=\x1b[31m,"\n\u202e')
    with pytest.raises(FormatError, match="not a frame"):
        read_parquet(Path(__file__))
    changed()[["inode"]].to_parquet(tmp_path / "other.parquet")
    with pytest.raises(FormatError, match="not a frame"):
        read_parquet(tmp_path / "other.parquet")


def test_json_is_exact(tmp_path: Path) -> None:
    frame = whole()
    found = json.loads(exports.to_json(frame, tmp_path / "t.json").read_text())
    assert len(found) == len(frame)
    for told, row in zip(found, frame.to_dict("records"), strict=True):
        assert list(told) == list(COLUMNS)
        for name, value in row.items():
            if pd.isna(value):
                assert told[name] is None
            elif isinstance(value, pd.Timestamp):
                assert pd.Timestamp(told[name]) == value
            else:
                assert told[name] == value


def test_timesketch_jsonl(tmp_path: Path) -> None:
    frame = whole()
    lines = exports.to_timesketch_jsonl(frame, tmp_path / "t.jsonl").read_text().split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(frame)
    for line, row in zip(lines, frame.to_dict("records"), strict=True):
        told = json.loads(line)
        assert list(told)[:4] == ["message", "datetime", "timestamp_desc", "timestamp"]
        assert told["message"] == row["message"]
        assert datetime.fromisoformat(told["datetime"]) == row["datetime"]
        assert told["timestamp"] == row["datetime"].value // 1000
        assert None not in told.values()
        json.dumps(told, ensure_ascii=False).encode()  # what Timesketch's store needs


def test_timesketch_csv(tmp_path: Path) -> None:
    frame = whole()
    rows = rows_of(exports.to_timesketch_csv(frame, tmp_path / "t.csv"))
    assert list(rows[0])[:4] == ["message", "datetime", "timestamp_desc", "timestamp"]
    for told, row in zip(rows, frame.to_dict("records"), strict=True):
        assert datetime.fromisoformat(told["datetime"]) == row["datetime"]
        assert int(told["timestamp"]) == row["datetime"].value // 1000
        assert told["message"] == harmless(row["message"])
        assert told["pid"] == ("" if pd.isna(row["pid"]) else str(row["pid"]))


def test_csv_runs_nothing(tmp_path: Path) -> None:
    path = exports.to_csv(whole(), tmp_path / "t.csv")
    assert all(byte >= 32 or byte == 10 for byte in path.read_bytes())
    rows = rows_of(path)
    assert len(rows) == len(whole())
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell.lstrip()[:1] in {"=", "+", "-", "@"}]
    assert "'=cmd|' /C calc'!A0" in cells
    assert "'-rm \\x00 \U0001f600" in cells
    assert '/tmp/\\udcff=\\x1b[31m,"\\n\\u202e' in cells


@given(st.text())
def test_harmless_text_is_harmless(text: str) -> None:
    safe = harmless(text)
    assert safe.lstrip()[:1] not in {"=", "+", "-", "@"} or not safe
    assert all(char.isprintable() or char == " " or ord(char) > 0x9F for char in safe)
    assert harmless("plain text, as it is") == "plain text, as it is"


def test_numbers_below_zero_are_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": [-5], "text": ["-5"], "bytes": [b"\xff"], "list": [["=1"]]})
    assert rows_of(exports.to_csv(frame, tmp_path / "t.csv")) == [
        {"n": "-5", "text": "'-5", "bytes": "ff", "list": '["=1"]'}
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_overwritten_and_nothing_left(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "there"
    target.write_text("mine")
    with pytest.raises(UsageError, match="file exists"):
        export(whole(), target, form)
    assert target.read_text() == "mine"
    assert export(whole(), tmp_path / "new", form).stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["new", "there"]


def test_what_an_export_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such format"):
        export(whole(), tmp_path / "t", "xml")
    timeless = whole()
    timeless.loc[0, "datetime"] = pd.NaT
    for form in ("timesketch-csv", "timesketch-jsonl"):
        with pytest.raises(UsageError, match="not a timeline"):
            export(timeless, tmp_path / "t", form)
        with pytest.raises(UsageError, match="not a timeline"):
            export(pd.DataFrame({"a": [1]}), tmp_path / "t", form)
    with pytest.raises(UsageError, match="cannot be written as Parquet"):
        export(pd.DataFrame({"a": [object()]}), tmp_path / "t", "parquet")
    assert os.listdir(tmp_path) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.none(), st.binary(max_size=12).map(os.fsdecode)), max_size=6))
def test_any_names_through_parquet(tmp_path_factory: pytest.TempPathFactory, paths: list[str | None]) -> None:
    frame = pd.DataFrame({"path": pd.Series(paths, dtype=object), "n": range(len(paths))})
    target = tmp_path_factory.mktemp("parquet") / "t"
    pd.testing.assert_frame_equal(read_parquet(exports.to_parquet(frame, target)), frame)
