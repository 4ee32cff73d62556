"""What a person at a terminal of 80 columns sees, and what becomes of hostile text, signals and readers that left."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commandline import GUEST, START_NS, Command, SmallCase, on_a_terminal
from rich.cells import cell_len

from workbench.cli.interrupts import Interrupts
from workbench.cli.output import Output
from workbench.cli.text import inert, millis, number, thousands
from workbench.errors import UsageError
from workbench.model import CaptureMode, Mark, RegionKind, RegionSpec
from workbench.progress import ProgressEvent
from workbench.store import CaseStore

HOSTILE = "a\x1b]0;owned\x07b\r\nc\u202ed\u200be\x7f\x9b31m[red]f[/red]\ud800"


@pytest.fixture
def strange_case(tmp_path: Path) -> Path:
    """A stranger's case: nothing in it has the type or the length that it should have."""
    store = CaseStore.create(tmp_path / "strange")
    store.add_guest(GUEST, "A" * 10_000)
    ram = RegionSpec("pc.ram\x1b[2J[red]", RegionKind.MEMORY, 8 * 4096, 4096)
    facts: list[dict[str, object]] = [
        {"pause_ns": "x\x1b", "pause_parts_ns": [1], "dirty_pages": {"a": 1}, "dirty_clusters": True},
        {"pause_ns": 10**17, "pause_parts_ns": {"a\x1b[31m": "b"}, "versions": 7, "tracker": None},
        {"x\u202e" * 400: "y\x1b" * 4000, "dirty_pages": -1.5, "dirty_clusters": []},
    ]
    with store.writer(GUEST) as writer:
        writer.move_to(None)
        for step, each in enumerate(facts):
            with writer.begin([ram]) as transaction:
                transaction.put(ram.name, np.array([step]), np.full((1, 4096), step + 1, np.uint8))
                record = transaction.commit(
                    time_ns=START_NS + step, mode=CaptureMode.MANUAL, reason="\x1b[31m" * 2000, facts=each
                )
    store.add_mark(Mark("[bold]m\x1b]0;x\x07\n" + "M" * 9000, GUEST, record.time_ns, record.id, "event"))
    return tmp_path / "strange"


def test_inert_text_has_nothing_that_acts() -> None:
    shown = inert(HOSTILE)
    assert shown == r"a\x1b]0;owned\x07b\r\nc\u202ed\u200be\x7f\x9b31m[red]f[/red]\ud800"
    assert inert("plain é 漢字") == "plain é 漢字"
    assert len(inert("A" * 10_000)) < 250
    assert "10000 characters" in inert("A" * 10_000)


@pytest.mark.parametrize("value", [None, True, "1", 1.5, float("nan"), [], {}, 2**70])
def test_a_fact_of_the_wrong_type_is_a_dash(value: object) -> None:
    assert [number(value), millis(value), thousands(value)] == ["-", "-", "-"]


def test_a_strangers_case_is_shown_without_acting_or_failing(workbench: Command, strange_case: Path) -> None:
    words = [("timeline",), ("check",), ("diff", "2 captures ago"), ("show", "latest"), ("show", "1 captures ago")]
    words += [("show", "2 captures ago"), ("timeline", "--guest", "\x1b[31mnobody"), ("undo",)]
    for each in words:
        done = workbench(*each, "--case", strange_case)
        assert done.code in (0, 2), done.err
        assert "Traceback" not in done.err
        for text in (done.out, done.err):
            assert not [char for char in text if ord(char) < 32 and char != "\n"], each
            assert "\u202e" not in text
            assert max(map(len, text.splitlines()), default=0) < 2000


def test_a_plan_gets_no_lines_from_a_name(workbench: Command, tmp_path: Path, small_case: SmallCase) -> None:
    done = workbench("rewind", "2 captures ago", "--mode", "production", "--plan", "--case", small_case.path)
    assert done.code == 0
    assert [line[:10].strip() for line in done.out.splitlines()[1:]] == [
        "to", "from", "changes", "how", "leaves", "safety"
    ]  # fmt: skip


def test_a_table_in_a_pipe_has_a_line_a_row_and_no_colour(workbench: Command, small_case: SmallCase) -> None:
    for words, rows in ((("timeline",), 4), (("diff", "3 captures ago"), 3)):
        lines = workbench(*words, "--case", small_case.path).out.splitlines()
        assert len(lines) == rows + 1
        assert all(line == line.rstrip() for line in lines)


def test_a_narrow_terminal_breaks_no_id_and_no_time(small_case: SmallCase, strange_case: Path) -> None:
    for case in (small_case.path, strange_case):
        code, drawn = on_a_terminal("timeline", "--case", case)
        assert code == 0
        lines = drawn.replace("\r", "").splitlines()
        assert all(cell_len(line) <= 80 for line in lines[1:]), lines
    code, drawn = on_a_terminal("timeline", "--case", small_case.path)
    for record in small_case.records:
        assert record.id[:12] in drawn
    assert "2023-11-14 22:13:22.000" in drawn
    assert "alert-7" in drawn
    _, drawn = on_a_terminal("show", "latest", "--case", small_case.path)
    assert small_case.records[3].id in drawn


def test_progress_is_drawn_on_a_terminal_only_and_inert(small_case: SmallCase, workbench: Command) -> None:
    _, drawn = on_a_terminal("check", "--case", small_case.path)
    assert "\x1b[" in drawn
    assert "The case is whole." in drawn
    assert workbench("check", "--case", small_case.path).err == ""
    task = ProgressEvent("reading [red]\x1b]0;x\x07", 1, 2, note="n\x1b[31m")
    script = (
        "from workbench.cli.output import Output; from workbench.progress import ProgressEvent\n"
        f"with Output(as_json=False).progress() as tell: tell({task!r}); tell(ProgressEvent('s', 1, 3, '[b]steps'))"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", script], stderr=theirs, env={**os.environ, "TERM": "xterm"}
    ) as process:
        process.wait(120)
    os.close(theirs)
    parts = []
    with contextlib.suppress(OSError):  # all that was written has been read, and nobody has the other side
        while part := os.read(ours, 65536):
            parts.append(part)
    os.close(ours)
    drawn = b"".join(parts).decode()
    assert r"reading [red]\x1b]0;x\x07" in drawn
    assert "\x1b]0;x" not in drawn
    assert r"n\x1b[31m" in drawn


@pytest.mark.parametrize("typed", ["somebody else\n", "\n", "\x04"])
def test_a_person_is_asked_for_the_name_and_a_wrong_one_does_nothing(small_case: SmallCase, typed: str) -> None:
    before = sorted(small_case.path.rglob("*"))
    code, drawn = on_a_terminal(
        "rewind", "1 captures ago", "--mode", "production", "--case", small_case.path, typed=typed
    )
    assert code == 2, drawn
    assert "Type the guest's name" in drawn
    assert "Confirm it with the guest's name" in drawn
    assert sorted(small_case.path.rglob("*")) == before


@pytest.mark.parametrize("verb", ["timeline", "check", "show"])
def test_a_reader_that_left_is_no_fault(small_case: SmallCase, verb: str) -> None:
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "workbench.cli", verb, "--case", str(small_case.path)]
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == ""


def test_every_verb_teaches_by_an_example(workbench: Command) -> None:
    verbs = "doctor, guests, bench, capture, watch, timeline, show, diff, rewind, undo, clone, check"
    for words in [*verbs.split(", "), "clone run", "clone list", "clone rm"]:
        done = workbench(*words.split(), "--help")
        assert done.code == 0
        assert f"  workbench {words}" in done.out.partition("example")[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("timeline", "--last", "0"), "--last"),
        (("watch", "x", "--count", "0"), "--count"),
        (("watch", "x", "--for", "nan"), "--for"),
        (("watch", "x", "--guest", "y"), "Name one"),
        (("capture", "x", "--guest", "y"), "Name one"),
        (("undo", "x", "--guest", "y"), "Name one"),
        (("rewind", "latest"), "--mode"),
        (("show", "--nonsense"), "--help"),
        (("nonsense",), "timeline"),
    ],
)
def test_wrong_words_are_two_lines_with_a_cure(
    workbench: Command, small_case: SmallCase, words: tuple[str, ...], said: str
) -> None:
    done = workbench(*words, "--case", small_case.path)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) <= 2
    assert done.out == ""


def test_a_case_may_be_named_by_the_environment(small_case: SmallCase) -> None:
    words = [sys.executable, "-m", "workbench.cli", "timeline", "--json"]
    environment = {**os.environ, "WORKBENCH_CASE": str(small_case.path)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert small_case.records[0].id in done.stdout


def test_a_guest_that_is_nowhere_says_so(workbench: Command, tmp_path: Path) -> None:
    done = workbench("guests", "--connect", "qemu+unix:///session?socket=/nowhere", "--json")
    assert done.code in (3, 4)
    assert '"cure"' in done.err
    done = workbench("doctor", "--connect", "qemu+unix:///session?socket=/nowhere")
    assert done.code == 3
    assert "/nowhere" in done.out
    assert "LACK" in done.out


def test_a_fault_of_ours_asks_to_be_reported(capsys: pytest.CaptureFixture[str]) -> None:
    error = ZeroDivisionError("x\x1b[31m")
    Output(as_json=False).fault(error)
    assert r"ZeroDivisionError: x\x1b[31m" in (told := capsys.readouterr().err)
    assert "report" in told.splitlines()[-1]
    Output(as_json=True).fault(error)
    assert capsys.readouterr().err.startswith('{"cure"')


def test_a_long_error_stays_in_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).error(UsageError("m\n" * 3000, cure="c\n" * 3000, fact="f\n" * 3000))
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put the signals back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for each, handler in kept.items():
        signal.signal(each, handler)


def pressed(number: signal.Signals) -> bool:
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt:
        return True
    return False


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_ends_and_an_impatient_second_one_does_not_break_the_way_out(number: signal.Signals) -> None:
    told: list[str] = []
    Interrupts(told.append).install()
    assert [pressed(number) for _ in range(5)] == [True, False, False, False, True]
    assert len(told) == 3
    Interrupts(told.append).ignore()
    assert not pressed(number)


@pytest.mark.usefixtures("handlers")
def test_a_gentle_end_takes_the_first_signal() -> None:
    interrupts, stopped = Interrupts(lambda _line: None), []
    interrupts.install()
    with interrupts.gently(lambda: stopped.append(1)):
        assert not pressed(signal.SIGTERM)
        assert stopped == [1]
        assert pressed(signal.SIGTERM)


@pytest.mark.usefixtures("handlers")
def test_who_holds_back_ctrl_c_holds_back_the_others_too() -> None:
    Interrupts(lambda _line: None).install()
    held: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: held.append(number))
    assert not pressed(signal.SIGTERM)
    assert held == [signal.SIGINT]


@pytest.mark.usefixtures("handlers")
def test_what_was_ignored_stays_ignored_but_an_end_is_an_end() -> None:
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    Interrupts(lambda _line: None).install()
    assert not pressed(signal.SIGHUP)
    assert not pressed(signal.SIGINT)
    assert pressed(signal.SIGTERM)


CAUGHT = """
import sys
from workbench import cli
class Verb:
    def run(self, _arguments, _output):
        exec("raise KeyboardInterrupt")
cli.parse = lambda _words: type("Arguments", (), {"run": Verb().run})()
sys.exit(cli.main([]))
"""


def test_an_interrupt_in_the_middle_of_an_exec_ends_by_our_exit_code_and_not_by_the_signal(tmp_path: Path) -> None:
    """As while a library is imported that makes dataclasses: CPython takes it for one that nobody caught."""
    (tmp_path / "caught.py").write_text(CAUGHT)
    words = [sys.executable, "-m", "caught"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
