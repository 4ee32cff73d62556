"""What our objects look like in a notebook: inert, the same twice, a picture that is nothing but a picture."""

from __future__ import annotations

import base64
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

sys.path.insert(0, os.path.dirname(__file__))

from small import CONTROL, HOSTILE, MARKUP, NOON, Forked, Large, experiment_in, kept_experiment
from things import results_of

import workbench
import workbench.case
from workbench.case import Case, Clone, Identity, Predicate
from workbench.notebook.reprs import HTML
from workbench.notebook.timeline import Timeline
from workbench.rewind.clone import CloneRecord

WORDS = ("command", "replay", "finding", "machine", "quiesce", "rewound", "tick", "probe", "predicate", "retention")
"""What has no picture: a record of a few fields, or words of a guest."""
IDS = ["markup", "control", "backwards", "long", "signs"]
HARMLESS = {"div", "p", "pre", "strong", "bdi", "table", "thead", "tbody", "tr", "th", "td", "img", "style"}


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def pictures_of(html: str) -> list[str]:
    return [
        base64.b64decode(each).decode() for each in re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", html)
    ]


def assert_inert(html: str) -> None:
    for tag, attributes in Elements(html).found:
        assert tag in HARMLESS
        assert not any(name.startswith("on") for name in attributes)
        if tag == "img":
            assert (attributes["src"] or "").startswith("data:image/svg+xml;base64,")
    for text in (html, *pictures_of(html)):
        assert not set(text) & set("\x1b\x07\x00\r\u202e\u2066\u2028")
        assert "A" * 1000 not in text
    for svg in pictures_of(html):
        assert {each.tag.split("}")[1] for each in ET.fromstring(svg).iter()} <= {
            "svg", "title", "rect", "text", "path", "circle", "line"
        }  # fmt: skip


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    running = InteractiveShell()
    workbench.load_ipython_extension(running)
    yield running
    running.history_manager.end_session()


def html_of(shell: InteractiveShell, thing: Any) -> str:
    data, _ = shell.display_formatter.format(thing)
    return str(data["text/html"])


def things_of(case: Case, forked: Forked) -> dict[str, Any]:
    a, b = (case.moment(f"id:{forked.ids[second]}") for second in (0, 22))
    name = str(case.guests()[0].name)
    bisection = case.bisect(Predicate(name, lambda moment: moment.id == b.id), (a, b))
    for each in bisection.asked:
        object.__setattr__(each, "seconds", 0.0)  # what it took is not the same twice
    clone = CloneRecord(name, "uuid", name, a.id, f"/cases/{name}", "/tmp/rwb", NOON, 1.5)
    return {
        "case": case, "moment": b, "diff": case.diff(a, b), "clone": Clone(case, clone),
        "test plan": case.plan_rewind(a), "production plan": case.plan_rewind(a, "production"),
        "bisection": bisection, "experiment": experiment_in(case, kept_experiment(name)), **results_of(case, name),
        "timeline": Timeline(case), "moments": case.timeline(), "summary": case.diff(a, b).summary(),
    }  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=IDS)
def test_names_from_a_guest_are_inert_in_every_repr(shell: InteractiveShell, tmp_path: Path, name: str) -> None:
    forked = Forked(tmp_path / "case").build(name)
    with Case(forked.path) as case:
        for what, thing in things_of(case, forked).items():
            data, _ = shell.display_formatter.format(thing)
            assert_inert(data["text/html"])
            assert not set(data["text/plain"]) & set("\x1b\x07\x00\r\u202e\u2066\u2028"), what
            assert "A" * 1000 not in data["text/plain"]


def test_every_object_has_a_picture_and_the_same_bytes_twice(shell: InteractiveShell, tmp_path: Path) -> None:
    forked = Forked(tmp_path / "case").build()
    with Case(forked.path) as case, Case(forked.path) as again:
        for (what, thing), other in zip(
            things_of(case, forked).items(), things_of(again, forked).values(), strict=True
        ):
            html = html_of(shell, thing)
            assert html == html_of(shell, other), what
            assert bool(pictures_of(html)) == (what not in ("moments", "summary", *WORDS)), what


def test_everything_that_the_one_door_gives_has_a_look_of_its_own(shell: InteractiveShell) -> None:
    classes = {name: each for name in workbench.case.__all__ if isinstance(each := getattr(workbench.case, name), type)}
    known = shell.display_formatter.formatters["text/html"]
    assert {name for name, each in classes.items() if each not in known} == set()
    assert {f"{module}.{name}" for module, name in HTML} - {
        f"{each.__module__}.{each.__qualname__}" for each in map(located, HTML)
    } == set()


def located(where: tuple[str, str]) -> type:
    """The class that a look is for; it is where it is said to be."""
    found = getattr(importlib.import_module(where[0]), where[1])
    assert isinstance(found, type)
    return found


def test_a_password_is_not_shown(shell: InteractiveShell) -> None:
    assert "secret" not in html_of(shell, Identity(hostname="web", login=("root", "secret")))


def test_how_consistent_a_moment_is_stands_in_it_and_a_strangers_facts_do_nothing(
    shell: InteractiveShell, tmp_path: Path
) -> None:
    with Case(Forked(tmp_path / "case").build().path) as case:
        moment = case.moment()
        told = {"consistency": "application", "frozen": True, "frozen_ns": 12_300_000, "frozen_file_systems": 2}
        html = html_of(shell, with_facts(moment, told))
        assert "12.3 ms, 2 file systems" in html
        assert "clones and rewinds thaw them" in html
        for hostile in HOSTILE:
            facts = {"consistency": hostile, "consistency_why": hostile, "frozen_ns": 1, "frozen_file_systems": hostile}
            assert_inert(html_of(shell, with_facts(moment, facts)))


def with_facts(moment: Any, facts: dict[str, Any]) -> Any:
    moment.record = replace(moment.record, facts=facts)
    return moment


def test_reprs_say_what_there_is(shell: InteractiveShell, tmp_path: Path) -> None:
    forked = Forked(tmp_path / "case").build()
    with Case(forked.path) as case:
        things = things_of(case, forked)
        assert "2024-05-01 12:30:24.000Z" in html_of(shell, case)
        assert forked.ids[22][:12] in html_of(shell, things["moment"])
        assert f"{3 * 65536:,}" in html_of(shell, things["diff"])  # clusters 2, 4 and 6
        assert "stay in the case" in html_of(shell, things["production plan"])
        assert "stay in the case" not in html_of(shell, things["test plan"])
        assert len(pictures_of(html_of(shell, things["moment"]))[0].split("<circle")) == 3  # here, and the moment


def test_a_picture_does_not_grow_with_the_captures() -> None:
    small, large = (len(Timeline(Large(captures)).picture()) for captures in (2_000, 20_000))
    assert large < 1.5 * small


def test_a_damaged_case_is_told_instead_of_shown(shell: InteractiveShell, tmp_path: Path) -> None:
    forked = Forked(tmp_path / "case").build()
    record = next((forked.path / "guests").glob("*/captures/*.capture"))
    record.chmod(0o644)
    record.write_bytes(record.read_bytes()[:-5])
    with Case(forked.path) as case:
        assert "<p>" in html_of(shell, case)
        assert "<img" not in html_of(shell, case)


def test_long_tables_are_cut_and_counted(shell: InteractiveShell) -> None:
    frame = pd.DataFrame({"name": [CONTROL] * 500, "n": range(500)})
    html = html_of(shell, frame)
    assert "500 rows by 2 columns" in html
    assert html.count("<tr") < 20
    assert "499" in html


# %wb.


@pytest.fixture
def magic(shell: InteractiveShell, tmp_path: Path) -> Iterator[Any]:
    forked = Forked(tmp_path / "case").build()
    with Case(forked.path) as case:
        shell.user_ns["case"] = case
        yield lambda line: shell.run_line_magic("wb", line)


def test_the_magic_answers_with_what_the_case_answers(magic: Any) -> None:
    assert isinstance(magic("timeline"), Timeline)
    assert len(magic("moments")) == 8
    assert magic("moment").record.time_ns == NOON + 24 * 10**9
    assert magic("moment before:alert-7").record.time_ns == NOON + 20 * 10**9
    assert list(magic("marks")["kind"]) == ["event", "alert"]
    assert len(magic("diff 2024-05-01T12:30:00Z latest").summary()) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fly", "One of: open, timeline"),
        ("moment nonsense", "no moment and no mark"),
        ("diff latest", "%wb diff MOMENT MOMENT"),
        ("moments nobody", "no guest 'nobody'"),
        ("vol latest", "a moment and a plugin"),
        ("vol latest linux.pslist 7", "not NAME=VALUE"),
        ("moment 'latest", "quotation mark"),
        ("open /nowhere/at/all", "/nowhere/at/all"),
        (f"moment '{MARKUP}\x1b[31m'", "\\x1b[31m"),
    ],
)
def test_what_is_wrong_is_said_in_words(magic: Any, line: str, words: str) -> None:
    with pytest.raises(UsageError) as told:
        magic(line)
    assert words in str(told.value)
    assert "\x1b" not in str(told.value)


def test_a_magic_without_a_case_says_how_to_name_one(shell: InteractiveShell) -> None:
    with pytest.raises(UsageError, match="%wb open PATH"):
        shell.run_line_magic("wb", "moments")


def test_loading_the_extension_imports_no_widget_and_no_case() -> None:
    code = (
        "import sys, workbench; from IPython.core.interactiveshell import InteractiveShell as S; s = S();"
        "workbench.load_ipython_extension(s);"
        "print([m for m in ('workbench.case', 'anywidget', 'libvirt') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
