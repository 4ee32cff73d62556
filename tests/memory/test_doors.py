"""The one door: moments, differences and spans of the recorded intrusion, held against what the guest says it did."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pandas as pd
import pytest

from workbench.case import Case, build_symbols
from workbench.demo import DemoImage
from workbench.errors import AnalysisError, UnreadableError, UsageError
from workbench.inquiry.pool import Question
from workbench.progress import ProgressEvent

from .conftest import Recorded
from .synthetic import build, page

RULE = 'rule intruder { strings: $a = "/tmp/.hidden/busybox-update" condition: $a }'


def test_the_intruders_process_is_there_with_its_deleted_file(recorded: Recorded) -> None:
    pid = recorded.truth["dropped_binary"]["pid"]
    processes = recorded.case.moment("dropped_binary").processes().set_index("pid")
    assert processes.loc[pid, "executable"] == f"{recorded.truth['dropped_binary']['path']} (deleted)"
    assert processes.loc[pid, "started"].timestamp() == pytest.approx(recorded.truth["dropped_binary"]["t"], abs=60)
    assert not processes.loc[pid, "kernel_thread"]
    assert processes.loc[2, "name"] == "kthreadd"
    assert processes.loc[2, "kernel_thread"]
    assert pid not in recorded.case.moment("new_user").processes()["pid"].tolist()


def test_the_same_question_twice_is_one_answer_and_asks_nobody(recorded: Recorded) -> None:
    with Case(recorded.case.path) as case:
        first = case.moment("backdoor").sockets()
        asked_by = case.analyst.worker.pid
    with Case(recorded.case.path) as case:
        again = case.moment("backdoor").sockets()
        assert case.analyst.worker.pid is None
    pd.testing.assert_frame_equal(first, again)
    assert first.attrs == again.attrs
    assert asked_by is None or isinstance(asked_by, int)


def test_what_the_backdoor_brought(recorded: Recorded) -> None:
    diff = recorded.case.diff("dropped_binary", "backdoor")
    pid = recorded.truth["backdoor"]["pid"]
    came = diff.processes().query("change == 'came'")
    assert pid in came["pid"].tolist()
    sockets = diff.vol("linux.sockstat").query("change == 'came' and State == 'LISTEN'")
    assert sockets["Source Port"].tolist() == ["4444"]


def test_lifelines_say_when_the_backdoor_first_listened(recorded: Recorded) -> None:
    told: list[ProgressEvent] = []
    lives = recorded.case.lifelines("sockets", progress=told.append)
    (row,) = lives[lives["Source Port"] == "4444"].to_dict("records")
    assert row["first_capture"] == recorded.capture("backdoor")
    assert row["last_capture"] == recorded.capture("wiped_log")
    assert not row["since_start"]
    assert row["until_end"]
    assert lives.attrs["failed"] == {}
    part = recorded.case.lifelines("sockets", since="backdoor", until="persistence")
    assert set(part["first_capture"]) <= {recorded.capture("backdoor"), recorded.capture("persistence")}
    # Everything was asked before: this time nobody is.
    told.clear()
    recorded.case.lifelines("sockets", progress=told.append)
    assert told == []


def test_a_capture_that_cannot_be_asked_is_named_and_not_taken_for_empty(recorded: Recorded) -> None:
    with Case(recorded.case.path) as case:
        analyst, real = case.analyst, case.analyst.executor.run

        def failing(questions: list[Question], **options: object) -> object:
            for question, outcome in real(questions, **options):  # type: ignore[arg-type]
                broken = question.capture == recorded.capture("new_user")
                yield question, AnalysisError("no luck") if broken else outcome

        class Unlucky:
            run = staticmethod(failing)

        analyst.executor = Unlucky()  # type: ignore[assignment]
        lives = case.lifelines("linux.psaux.PsAux")
        assert list(lives.attrs["failed"]) == [recorded.capture("new_user")]
        assert (lives[lives["PID"] == 1]["unknown"] == 1).all()


def test_a_rule_hits_in_the_capture_that_brought_it_and_marks_it(recorded: Recorded) -> None:
    hits = recorded.case.yara(RULE)
    assert hits.attrs["failed"] == {}
    assert hits["capture"].iloc[0] == recorded.capture("dropped_binary")
    assert recorded.truth["dropped_binary"]["pid"] in hits["pid"].dropna().tolist()
    (mark,) = (each for each in recorded.case.marks() if each.name == "yara-intruder")
    assert mark.capture == recorded.capture("dropped_binary")
    recorded.case.yara(RULE)
    assert sum(each.name == "yara-intruder" for each in recorded.case.marks()) == 1
    assert recorded.case.yara(RULE, until="new_user").empty
    with pytest.raises(UsageError, match="rule"):
        recorded.case.yara("rule broken {")


def test_memory_is_read_by_kernel_physical_and_process_addresses(recorded: Recorded, tmp_path: Path) -> None:
    moment = recorded.case.moment("dropped_binary")
    kernel = moment.kernel().iloc[0]
    assert kernel["release"] in kernel["banner"]
    pid = recorded.truth["dropped_binary"]["pid"]
    process = moment.memory.process(pid)
    text = process.strings(containing=recorded.truth["dropped_binary"]["path"])
    found = process.read(int(text["address"].iloc[0]), 8)
    assert text["text"].iloc[0].startswith(found.decode())
    assert moment.memory.physical(0, 4096)
    with pytest.raises(UnreadableError):
        moment.memory.read(0, 8)
    dump = process.dump(tmp_path).iloc[0]
    assert hashlib.sha256(Path(dump["path"]).read_bytes()).hexdigest() == dump["sha256"]
    Path(dump["path"]).unlink()
    assert Path(process.dump(tmp_path).iloc[0]["path"]).exists()  # a deed, so done again


def test_files_that_a_plugin_takes_out_are_artefacts_with_digests(recorded: Recorded) -> None:
    moment = recorded.case.moment("backdoor")
    answer = moment.vol("linux.elfs.Elfs", pid=[recorded.truth["backdoor"]["pid"]], dump=True)
    files = moment.artefacts(answer)
    assert len(files) >= 1
    for row in files.itertuples(index=False):
        content = Path(row.path).read_bytes()
        assert len(content) == row.size
        assert hashlib.sha256(content).hexdigest() == row.sha256
    assert any(Path(path).read_bytes()[:4] == b"\x7fELF" for path in files["path"])
    Path(files["path"].iloc[0]).unlink()
    assert Path(
        moment.artefacts(moment.vol("linux.elfs.Elfs", pid=[recorded.truth["backdoor"]["pid"]], dump=True))[
            "path"
        ].iloc[0]
    ).exists()


def test_symbols_of_the_kernels_file_answer_as_those_of_memory(
    recorded: Recorded, demo_image: DemoImage, tmp_path: Path
) -> None:
    table = build_symbols(demo_image.kernel, tmp_path / "kernel.json")
    own = recorded.case.moment("clean").kernel().iloc[0]["symbols"]
    assert table.read_bytes() == Path(own).read_bytes()
    with Case(recorded.case.path) as case:
        case.use_symbols(table)
        assert case.moment("clean").kernel().iloc[0]["symbols"] == str(table)
        assert len(case.moment("clean").processes()) > 30
        with pytest.raises(UsageError, match="cannot be read"):
            case.use_symbols(tmp_path / "absent.json")
    with pytest.raises(UsageError, match="absent"):
        build_symbols(tmp_path / "absent")


def test_a_moment_whose_memory_is_no_linux_says_what_is_missing(tmp_path: Path) -> None:
    build(tmp_path / "case", [{("pc.ram", 7): page(b"nothing of a kernel")}])
    with Case(tmp_path / "case") as opened, pytest.raises(AnalysisError, match="not a Linux kernel"):
        opened.moment("latest").processes()


def test_progress_is_told_and_a_question_can_be_given_up(recorded: Recorded) -> None:
    with Case(recorded.case.path) as case:
        with pytest.raises(AnalysisError, match="did not end"):
            case.moment("clean").vol("linux.kallsyms.Kallsyms", timeout=0.2)
        told: list[ProgressEvent] = []
        case.moment("clean").vol("linux.psscan.PsScan", progress=told.append)
        assert all(dataclasses.is_dataclass(each) for each in told)


def test_a_folder_of_symbols_is_the_way_of_volatility_itself(recorded: Recorded, tmp_path: Path) -> None:
    """What a Windows guest needs, tried on the guest at hand: automagic, a user's folder, the same rows."""
    moment = recorded.case.moment("backdoor")
    expected = moment.vol("linux.pslist")
    (tmp_path / "linux").mkdir()
    table = tmp_path / "linux" / "kernel.json"
    table.write_bytes(Path(moment.kernel().iloc[0]["symbols"]).read_bytes())
    with Case(recorded.case.path) as case:
        case.use_symbols(tmp_path)
        found = case.moment("backdoor").vol("linux.pslist")
        assert found.drop(columns="OFFSET (V)").equals(expected.drop(columns="OFFSET (V)"))
        assert found.attrs["kernel"] == "by automagic"
        with pytest.raises(AnalysisError, match=r"windows.pslist.PsList lacks .*kernel"):
            case.moment("backdoor").vol("windows.pslist.PsList")
        with pytest.raises(AnalysisError, match="known by its memory"):
            case.moment("backdoor").processes()
        table.unlink()
        case.use_symbols(tmp_path)
        with pytest.raises(AnalysisError, match="no symbols in the folder fit"):
            case.moment("backdoor").vol("linux.pslist")


def test_a_span_that_was_broken_off_goes_on_where_it_was(recorded: Recorded) -> None:
    asked = [(each.id, {}) for each in recorded.case.moments()]
    with Case(recorded.case.path) as case:
        running = case.analyst.ask_many(asked, "linux.mountinfo.MountInfo", timeout=600)
        first = [next(running) for _ in range(3)]
        running.close()  # type: ignore[attr-defined]
        real, put = case.analyst.executor.run, []

        def counted(questions: list[Question], **options: object) -> object:
            put.extend(questions)
            return real(questions, **options)  # type: ignore[arg-type]

        case.analyst.executor = type("Counting", (), {"run": staticmethod(counted)})()
        again = dict(case.analyst.ask_many(asked, "linux.mountinfo.MountInfo", timeout=600))
    assert len(again) == len(asked)
    assert len(put) <= len(asked) - 3
    assert not {question.capture for question in put} & {capture for capture, _ in first}
