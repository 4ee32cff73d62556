"""Workers: one question after the other, errors as answers, a hang or a death costs one question, memory stays flat."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.errors import AnalysisError, SymbolsError, UsageError, WorkbenchError
from workbench.inquiry.answer import Answer
from workbench.inquiry.pool import LocalExecutor, Question, Worker

from .conftest import Recorded

PSLIST = "linux.pslist.PsList"


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker() as made:
        yield made


PATIENCE = 600.0


def question(recorded: Recorded, when: str = "clean", name: str = PSLIST, **arguments: object) -> Question:
    return Question(recorded.case.path, recorded.capture(when), name, dict(arguments), recorded.place / "cache")


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_an_error_is_an_answer_and_the_worker_goes_on(recorded: Recorded, worker: Worker) -> None:
    with pytest.raises(UsageError, match="no plugin"):
        worker.ask(question(recorded, name="linux.nothing.Nothing"), timeout=PATIENCE)
    first = worker.pid
    with pytest.raises(UsageError, match="takes no 'colour'"):
        worker.ask(question(recorded, colour="red"), timeout=PATIENCE)
    with pytest.raises(UsageError, match="pid wants a list of int"):
        worker.ask(question(recorded, pid="one"), timeout=PATIENCE)
    assert len(worker.ask(question(recorded), timeout=PATIENCE).frame) > 30
    assert worker.pid == first


def test_a_plugin_that_breaks_off_keeps_its_rows_and_says_so(recorded: Recorded, worker: Worker) -> None:
    answer = worker.ask(question(recorded, name="linux.vmayarascan.VmaYaraScan"), timeout=PATIENCE)
    assert answer.partial
    assert "ValueError" in answer.error  # it was given no rules
    assert len(worker.ask(question(recorded, pid=[1]), timeout=PATIENCE).frame) == 1


def test_a_question_that_takes_too_long_is_given_up(recorded: Recorded, worker: Worker) -> None:
    with pytest.raises(AnalysisError, match=r"did not end within 0.05 s"):
        worker.ask(question(recorded), timeout=0.05)
    assert len(worker.ask(question(recorded), timeout=PATIENCE).frame) > 30


def test_a_question_can_be_cancelled_from_another_thread(
    recorded: Recorded, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.ask(question(recorded), timeout=PATIENCE)
    asked, waiting = threading.Event(), worker._wait
    killing = threading.Thread(target=lambda: asked.wait(PATIENCE) and worker.kill())
    killing.start()
    with monkeypatch.context() as patch:
        patch.setattr(worker, "_wait", lambda *words: asked.set() or waiting(*words))
        with pytest.raises(AnalysisError, match="worker died"):
            worker.ask(question(recorded, name="linux.kallsyms.Kallsyms"), timeout=PATIENCE)
    killing.join()
    assert len(worker.ask(question(recorded), timeout=PATIENCE).frame) > 30


def test_a_worker_that_was_killed_is_replaced(recorded: Recorded, worker: Worker) -> None:
    worker.ask(question(recorded), timeout=PATIENCE)
    first = worker.pid
    assert first is not None
    os.kill(first, 9)
    assert worker._process is not None
    worker._process.wait(60)
    assert len(worker.ask(question(recorded), timeout=PATIENCE).frame) > 30
    assert worker.pid != first


def test_a_symbol_table_that_is_none_is_refused(recorded: Recorded, worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"metadata": {"format": "6.2.0"}}')
    asked = question(recorded)
    bad = dataclasses.replace(asked, options={"symbols": str(tmp_path / "bad.json")})
    with pytest.raises(SymbolsError, match="not a symbol table"):
        worker.ask(bad, timeout=PATIENCE)


def test_no_process_is_left_when_answers_are_not_waited_for(recorded: Recorded) -> None:
    marks = ("clean", "break_in", "new_user", "backdoor")
    before = _children()  # a case that another test asked keeps its worker
    running = LocalExecutor(2).run([question(recorded, when) for when in marks], timeout=PATIENCE)
    _asked, outcome = next(running)
    assert isinstance(outcome, Answer)
    assert _children() - before
    running.close()  # type: ignore[attr-defined]
    assert _children() == before


def _children() -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it may end at any time
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) != os.getpid() or fields[0] == "Z":
                continue
            if b"workbench.inquiry.worker" in (stat.parent / "cmdline").read_bytes():
                found.add(int(stat.parent.name))
    return found


def test_many_are_asked_at_once_and_each_is_heard_of(recorded: Recorded) -> None:
    asked = [question(recorded, when) for when in ("clean", "break_in", "backdoor")]
    asked.append(question(recorded, name="linux.nothing.Nothing"))
    told = {each.name + each.capture: outcome for each, outcome in LocalExecutor(2).run(asked, timeout=PATIENCE)}
    assert len(told) == 4
    assert sum(isinstance(each, Answer) for each in told.values()) == 3
    assert sum(isinstance(each, WorkbenchError) for each in told.values()) == 1
    with pytest.raises(UsageError, match="at least one"):
        LocalExecutor(0)


@pytest.mark.timeout(2400)
def test_memory_stays_flat_over_two_hundred_captures(recorded: Recorded, worker: Worker) -> None:
    """Seven captures over and over: each is opened anew, since the one before it was another."""
    marks = ("clean", "break_in", "new_user", "dropped_binary", "backdoor", "persistence", "wiped_log")
    sizes = []
    for number in range(200):
        worker.ask(question(recorded, marks[number % len(marks)], "linux.pstree.PsTree"), timeout=PATIENCE)
        assert worker.pid is not None
        sizes.append(resident(worker.pid))
    assert max(sizes) < 600e6
    assert max(sizes[-50:]) < max(sizes[20:70]) + 20e6
