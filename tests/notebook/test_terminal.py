"""A terminal without a page: what a screen shows, what a hostile guest cannot do to it, what keys send."""

from __future__ import annotations

import os
import queue
import random
import sys
import tracemalloc
from collections.abc import Iterator

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from small import HOSTILE, MARKUP, inert
from waiting import until

from workbench.errors import GuestError
from workbench.notebook.emulation import HISTORY, Emulator, Sieve
from workbench.notebook.flow import Backlog
from workbench.notebook.keyboard import LONGEST_PASTE, key_bytes, paste_bytes
from workbench.notebook.terminal import Terminal

PIECES = (
    "\x1b[", "\x1b]", "\x1bP", "\x1b_", "\x1bX", "\x9b", "\x9d", "\x90", "?", ";", ":", "$", " ", "!", ">", "1", "9999",
    "38;5;300m", "38;2;999;1;1m", "h", "l", "m", "H", "r", "J", "K", "@", "P", "L", "M", "X", "g", "\x07", "\x1b\\",
    "\n",
    "\r", "\t", "\x08", "a", "\u00e9", "\u0301", "\u6f22", "\u202e", "6n", "5n", "c", "?1049h", "?1049l", "?6h", "?3h",
    "4h",
    "?7l", "\x0e", "\x1bc", "\x1b7", "\x1b8", "\x1bM", "\x1bD", "\x1b#8", "\x1b(0", "\x1b%@", "\x18", "\x00", "\x7f",
    "\u2028", "\ud7ff",
)  # fmt: skip


def screen(text: str, columns: int = 20, lines: int = 4) -> Emulator:
    made = Emulator(columns, lines)
    made.feed(text.encode())
    return made


# What is shown.


def test_text_cursor_and_colours() -> None:
    shown = screen("plain \x1b[1;31mred\x1b[0m \x1b[4;7mmark\x1b[0m\r\nnext\x1b[2;2Hx")
    assert shown.text() == "plain red mark\nnxxt"
    assert shown.row(0)[:4] == [
        ("plain ", "", "", ""),
        ("red", "red", "", "b"),
        (" ", "", "", ""),
        ("mark", "", "", "ur"),
    ]
    assert shown.cursor == (2, 1)


def test_colours_of_256_and_of_16_million() -> None:
    runs = screen("\x1b[38;5;196ma\x1b[48;2;1;2;3mb\x1b[38;2;999;1;1mc").row(0)
    assert [(run[1], run[2]) for run in runs[:3]] == [("ff0000", ""), ("ff0000", "010203"), ("", "010203")]


def test_wide_letters_take_two_cells() -> None:
    assert screen("\u6f22\u5b57a").row(0)[:3] == [
        ("\u6f22", "", "", "w"),
        ("\u5b57", "", "", "w"),
        ("a" + " " * 15, "", "", ""),
    ]


def test_lines_that_leave_at_the_top_can_be_looked_at() -> None:
    shown = screen("".join(f"line {at}\r\n" for at in range(10)))
    assert shown.text() == "line 7\nline 8\nline 9"
    assert shown.above == 7
    assert [shown.row(line, 7)[0][0].strip() for line in range(4)] == ["line 0", "line 1", "line 2", "line 3"]
    assert shown.row(0, 99) == shown.row(0, 7)


def test_another_page_of_cells_is_put_in_place_and_taken_away() -> None:
    shown = screen("before\x1b[?1049h")
    assert shown.text() == ""
    shown.feed(b"\x1b[Heditor" + b"\n" * 20)
    assert shown.above == 0
    shown.feed(b"\x1b[?1049l")
    assert shown.text() == "before"


def test_only_lines_that_changed_are_told() -> None:
    shown = screen("one\r\ntwo")
    shown.changed()
    shown.feed(b"\x1b[3;1Hx")
    assert shown.changed() == {2}
    assert shown.changed() == set()


def test_a_letter_cut_between_two_feeds_is_whole() -> None:
    shown = Emulator(20, 2)
    for byte in "\u00e9\x1b[31m\u6f22".encode():
        shown.feed(bytes([byte]))
    assert [run[:2] for run in shown.row(0)[:2]] == [("\u00e9", ""), ("\u6f22", "red")]


def test_where_the_cursor_is_is_answered_once_a_feed() -> None:
    assert screen("").feed(b"ab\x1b[6n") == b"\x1b[1;3R"
    assert screen("").feed(b"\x1b[6n" * 5000) == b"\x1b[1;1R"
    assert screen("").feed(b"\x1b[?6n\x1b[>c") == b""


# What a hostile guest cannot do.


@pytest.mark.parametrize("seed", range(40))
def test_whatever_comes_the_screen_stays_a_screen(seed: int) -> None:
    rng, shown = random.Random(seed), Emulator(20, 6)
    for _ in range(60):
        data = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 40))).encode()
        cut = rng.randint(0, len(data))
        shown.feed(data[:cut])
        shown.feed(data[cut:])
        for line in range(6):
            runs = shown.row(line, rng.randint(0, 9))
            assert sum(2 if "w" in run[3] else 1 for run in runs) <= 20
            assert inert("".join(run[0] for run in runs))
        assert 0 <= shown.cursor[0] < 20
        assert 0 <= shown.cursor[1] < 6


@pytest.mark.parametrize("name", HOSTILE)
def test_texts_are_text(name: str) -> None:
    shown = screen(name, 200, 4)
    assert inert(shown.text())
    assert MARKUP not in name or MARKUP in shown.text()


@pytest.mark.parametrize("opening", ["\x1b]0;", "\x1b]2;", "\x1bP", "\x1b_", "\x1b^", "\x1bX", "\x9d", "\x90"])
@pytest.mark.parametrize("ending", ["\x07", "\x1b\\", "\x9c", "\x18", "\x1b[m"])
def test_titles_and_other_strings_are_dropped(opening: str, ending: str) -> None:
    assert screen(f"a{opening}owned{ending}b").text() == "ab"


def test_a_string_without_end_does_not_hide_what_comes_later() -> None:
    shown = screen("\x1b]0;" + "A" * 100_000 + "\r\nhere")
    assert shown.text().endswith("here")


@pytest.mark.parametrize(
    "sequence",
    ["\x1b[1;2;3;4H", "\x1b[7J", "\x1b[7K", "\x1b[?25m", "\x1b[>4;2m", "\x1b[1;2;3r", "\x1b[ q", "\x1b[!p", "\x1b[4:3m",
     "\x1b[6$p", "\x1b[?6h", "\x1b[99999999999999999999A", "\x1b[" + ";" * 60 + "m", "\x1b(0", "\x1b%G", "\x1b#8"],
)  # fmt: skip
def test_odd_sequences_change_no_text(sequence: str) -> None:
    assert screen(f"ab{sequence}\x1b[1;3Hc").text() == "abc"


def test_the_screen_cannot_be_resized() -> None:
    shown = screen("\x1b[?3h" + "x" * 200)
    assert {len(shown.row(line)[0][0]) for line in range(4)} == {20}


@pytest.mark.parametrize(
    "flood",
    [b"x" * 200_000, b"\x1b[" + b"1" * 200_000, b"\x1b[" + b";" * 200_000 + b"m", b"\x1b]0;" + b"A" * 200_000,
     b"e" + "\u0301".encode() * 100_000, b"\x1b7" * 100_000, b"\x1b" * 200_000, b"\n" * 100_000, b"\xff" * 100_000],
    ids=["no newline", "digits", "parameters", "title", "accents", "saved cursors", "escapes", "newlines", "no UTF-8"],
)  # fmt: skip
def test_a_flood_leaves_no_more_than_a_screen_and_its_history(flood: bytes) -> None:
    shown = Emulator()
    shown.feed(b"warm\r\n" * (HISTORY + 30))
    tracemalloc.start()
    try:
        for at in range(0, len(flood), 8192):
            shown.feed(flood[at : at + 8192])
        left, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 24 << 20  # 1024 lines of 80 cells; what was warmed up is not counted
    assert max(len(cell) for line in range(24) for cell, *_ in shown.row(line)) <= 80 * 4


def test_a_sieve_keeps_little_between_feeds() -> None:
    sieve = Sieve()
    for _ in range(1000):
        sieve.feed("\x1b[" + "1;" * 500)
    assert len(sieve._rest) <= 64


def test_what_comes_too_fast_is_dropped_and_counted() -> None:
    backlog = Backlog(most=1000)
    for _ in range(10):
        backlog.put(b"a" * 300)
    backlog.put(b"end")
    assert backlog.dropped == 2003
    assert backlog.take(10_000).endswith(b"aend")
    assert backlog.take(1) == b""


# Keys.


@pytest.mark.parametrize(
    ("key", "held", "sent"),
    [
        ("a", {}, b"a"),
        ("A", {"shift": True}, b"A"),
        ("\u00e9", {}, "\u00e9".encode()),
        ("Enter", {}, b"\r"),
        ("Tab", {}, b"\t"),
        ("Tab", {"shift": True}, b"\x1b[Z"),
        ("Backspace", {}, b"\x7f"),
        ("c", {"ctrl": True}, b"\x03"),
        ("C", {"ctrl": True}, b"\x03"),
        ("[", {"ctrl": True}, b"\x1b"),
        (" ", {"ctrl": True}, b"\0"),
        ("b", {"alt": True}, b"\x1bb"),
        ("ArrowUp", {}, b"\x1b[A"),
        ("ArrowUp", {"application": True}, b"\x1bOA"),
        ("Delete", {}, b"\x1b[3~"),
        ("F1", {}, b"\x1bOP"),
        ("F5", {}, b"\x1b[15~"),
        ("F12", {}, b"\x1b[24~"),
        ("Shift", {"shift": True}, b""),
        ("5", {"ctrl": True}, b""),
        ("AudioVolumeUp", {}, b""),
    ],
)
def test_keys_are_what_terminals_send(key: str, held: dict[str, bool], sent: bytes) -> None:
    assert key_bytes(key, **held) == sent


def test_a_paste_is_typed_without_control_characters_and_cut() -> None:
    assert paste_bytes("ls\r\npwd\n\x1b[201~\x03") == b"ls\rpwd\r[201~"
    assert len(paste_bytes("x" * (LONGEST_PASTE + 9))) == LONGEST_PASTE


# The widget.


class Loop:
    """A link whose other end is the test."""

    def __init__(self) -> None:
        self.out: queue.Queue[bytes] = queue.Queue()
        self.got: list[bytes] = []
        self.closed = False
        self.broken = False

    def say(self, text: str) -> None:
        self.out.put(text.encode())

    def read(self) -> bytes:
        return self.out.get()

    def write(self, data: bytes) -> None:
        if self.broken:
            raise GuestError(f"writing to {MARKUP}\x1b")
        self.got.append(data)

    def close(self) -> None:
        self.closed = True
        self.out.put(b"")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(Terminal, "send", lambda self, content, buffers=None: told.append(content))
    return told


@pytest.fixture
def terminal(sent: list[dict[str, object]]) -> Iterator[Terminal]:
    made = Terminal(MARKUP)
    yield made
    made.close()


def test_what_a_guest_says_is_shown_and_what_is_typed_is_sent(
    terminal: Terminal, sent: list[dict[str, object]]
) -> None:
    link = Loop()
    terminal.attach(link)
    link.say("login: ")
    until(lambda: terminal.text == "login:")
    terminal._asked(terminal, {"ask": "text", "text": "root"}, None)
    terminal._asked(terminal, {"ask": "key", "key": "Enter"}, None)
    until(lambda: link.got == [b"root", b"\r"])
    link.say("\x1b[?1h")
    link.say("ready")
    until(lambda: "ready" in terminal.text)
    terminal.press("ArrowUp")
    until(lambda: link.got[-1] == b"\x1bOA")


def test_a_page_gets_only_the_lines_that_changed(terminal: Terminal, sent: list[dict[str, object]]) -> None:
    link = Loop()
    terminal.attach(link)
    link.say("first")
    until(lambda: terminal.text == "first")
    until(lambda: any(row[1][0][0].rstrip() == "first" for row in sent[-1]["rows"]))
    sent.clear()
    link.say("\x1b[5;1Hfifth")
    until(lambda: sent)
    assert {row[0] for each in sent for row in each["rows"]} <= {0, 4}
    terminal._asked(terminal, {"ask": "all"}, None)
    assert [row[0] for row in sent[-1]["rows"]] == list(range(24))


def test_scrolling_back_stays_in_place_while_more_comes(terminal: Terminal, sent: list[dict[str, object]]) -> None:
    link = Loop()
    terminal.attach(link)
    link.say("".join(f"line {at}\r\n" for at in range(100)))
    until(lambda: "line 99" in terminal.text)
    terminal._asked(terminal, {"ask": "scroll", "lines": 20}, None)
    first = sent[-1]["rows"][0]
    link.say("more\r\n" * 5)
    until(lambda: sent[-1]["back"] == 25)
    assert sent[-1]["rows"][0] == first
    terminal._asked(terminal, {"ask": "key", "key": "x"}, None)
    assert sent[-1]["back"] == 0


def test_a_flood_is_dropped_in_part_and_its_end_is_shown(terminal: Terminal) -> None:
    link = Loop()
    terminal.attach(link)
    for _ in range(160):
        link.out.put(b"x" * 65_536)
    link.say("\r\nthe end")
    until(lambda: terminal.text.endswith("the end"))
    assert "came too fast" in terminal.said


def test_the_end_of_a_guest_is_said(terminal: Terminal) -> None:
    link = Loop()
    terminal.attach(link)
    link.say("bye")
    link.out.put(b"")
    until(lambda: not terminal.connected)
    assert terminal.text == "bye"
    assert terminal.said == "The console has ended."


def test_an_error_of_the_link_is_said_in_words_that_do_nothing(terminal: Terminal) -> None:
    link = Loop()
    link.broken = True
    terminal.attach(link)
    terminal.type("x")
    until(lambda: "writing to" in terminal.said)
    assert inert(terminal.said)


def test_another_link_closes_the_one_before(terminal: Terminal) -> None:
    first, second = Loop(), Loop()
    terminal.attach(first)
    first.say("old")
    until(lambda: terminal.text == "old")
    terminal.attach(second)
    assert first.closed
    assert terminal.text == ""
    second.say("new")
    until(lambda: terminal.text == "new")
    terminal.close()
    assert second.closed


@pytest.mark.parametrize(
    "content", [None, 7, {}, {"ask": "fly"}, {"ask": "key"}, {"ask": "key", "key": ["x"]}, {"ask": "text", "text": 7}]
)
def test_what_a_page_cannot_mean_does_nothing(terminal: Terminal, content: object) -> None:
    terminal._asked(terminal, content, None)
    assert terminal.text == ""


def test_without_a_page_there_is_a_still(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    link = Loop()
    terminal.attach(link)
    link.say(MARKUP)
    until(lambda: "window.hacked" in terminal.text)
    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    data, _ = terminal._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html"}
    assert "<script" not in data["text/html"]
    assert "&lt;script&gt;" in data["text/html"]
