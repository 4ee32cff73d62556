"""`%wb`: the words that give widgets, links, and what Tab offers through IPython's own completer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from small import BACKWARDS, CONTROL, MARKUP, NOON, Forked, inert, kept_experiment

import workbench
import workbench.notebook
from workbench.case import Case
from workbench.experiment.document import write
from workbench.notebook.completion import Completion
from workbench.notebook.verbs import VERBS, last_word


@pytest.fixture
def forked(tmp_path: Path) -> Forked:
    return Forked(tmp_path / "case").build("web one")


@pytest.fixture
def shell(forked: Forked) -> Iterator[InteractiveShell]:
    running = InteractiveShell()
    workbench.load_ipython_extension(running)
    with Case(forked.path) as case:
        running.user_ns["case"] = case
        yield running
    InteractiveShell.clear_instance()


def tab(shell: InteractiveShell, line: str) -> list[str]:
    """The lines that Tab at the end of a line would make."""
    with provisionalcompleter():
        found = list(shell.Completer.completions(line, len(line)))
    return [line[: each.start] + each.text for each in found]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%wb ti", ["%wb timeline"]),
        ("%wb mom", ["%wb moments", "%wb moment"]),
        ("%wb timeline w", ["%wb timeline 'web one'"]),
        ("%wb timeline 'we", ["%wb timeline 'web one'"]),
        ("%wb moment al", ["%wb moment alert-7"]),
        ("%wb moment before:al", ["%wb moment before:alert-7"]),
        ("%wb diff latest after:a", ["%wb diff latest after:alert-7"]),
        ("%wb diff latest alert-7 w", ["%wb diff latest alert-7 'web one'"]),
        ("m = %wb moment la", ["m = %wb moment latest"]),
        ("%wb experiment", ["%wb experiments", "%wb experiment"]),
        ("%wb bisect latest latest /root/x w", ["%wb bisect latest latest /root/x 'web one'"]),
        ("%wb moment '2 ca", ["%wb moment '2 captures ago'"]),
    ],
)
def test_tab_offers_words_moments_and_guests(shell: InteractiveShell, line: str, offered: list[str]) -> None:
    assert sorted(tab(shell, line)) == sorted(offered)


@pytest.mark.parametrize("line", ["%wb fly w", "%wb moment latest 'web one' w", "%wb app w", "wb timeline w"])
def test_tab_offers_nothing_of_ours_where_nothing_is_asked_for(shell: InteractiveShell, line: str) -> None:
    assert [each for each in tab(shell, line) if each.count("web one") > line.count("web one")] == []


def test_tab_offers_every_verb(shell: InteractiveShell) -> None:
    assert set(tab(shell, "%wb ")) == {f"%wb {verb}" for verb in VERBS}


def test_tab_offers_ids_that_begin_so(shell: InteractiveShell, forked: Forked) -> None:
    begun = forked.ids[6][:4]
    assert f"%wb moment {forked.ids[6][:12]}" in tab(shell, f"%wb moment {begun}")


def test_tab_offers_plugins_once_they_are_known(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = threading.Event()

    def plugins(self: Case, prefix: str = "linux.") -> Any:
        ready.wait(30)
        return {"plugin": ["linux.bash", "linux.pslist"]}

    monkeypatch.setattr(Case, "plugins", plugins)
    assert tab(shell, "%wb vol latest linux.p") == []
    ready.set()
    for each in threading.enumerate():
        if each.name == "plugins":
            each.join(30)
    assert tab(shell, "%wb vol latest linux.p") == ["%wb vol latest linux.pslist"]


def test_tab_elsewhere_is_as_it_was(shell: InteractiveShell) -> None:
    assert not any("timeline" in each for each in tab(shell, "print('%wbx ti"))
    assert any(each.endswith("%matplotlib") for each in tab(shell, "%matplo"))


@pytest.mark.parametrize("name", [CONTROL, BACKWARDS, "A" * 5000])
def test_tab_offers_no_name_that_is_not_what_it_looks_like(tmp_path: Path, name: str) -> None:
    forked = Forked(tmp_path / "hostile").build(name)
    with Case(forked.path) as case:
        completion = Completion(lambda: case)
        assert completion.offers("guest", "") == []
        assert name[:100] in ("A" * 100, *(mark.name for mark in case.marks()))  # the mark is there
        assert all(len(each) <= 160 and inert(each) for each in completion.offers("moment", ""))


def test_tab_quotes_what_a_shell_would_read(tmp_path: Path) -> None:
    forked = Forked(tmp_path / "hostile").build(MARKUP)
    with Case(forked.path) as case:
        offered = Completion(lambda: case).offers("guest", "<img")
        assert last_word(f"{offered[0]} ") == ([MARKUP], "")


def test_tab_without_a_case_offers_nothing_and_raises_nothing(tmp_path: Path) -> None:
    running = InteractiveShell()
    workbench.load_ipython_extension(running)
    assert not any("web" in each for each in tab(running, "%wb timeline w"))
    assert tab(running, "%wb timel") == ["%wb timeline"]


def test_loading_twice_offers_once(shell: InteractiveShell) -> None:
    workbench.load_ipython_extension(shell)
    assert tab(shell, "%wb ti") == ["%wb timeline"]


def test_a_copied_link_is_a_moment(shell: InteractiveShell, forked: Forked) -> None:
    timeline = shell.run_line_magic("wb", "timeline")
    timeline.selected = forked.ids[6]
    assert shell.run_line_magic("wb", f"moment {timeline.link}").id == forked.ids[6]
    with pytest.raises(UsageError, match="another case"):
        shell.run_line_magic("wb", f"moment wb://{'0' * 8}-0000-0000-0000-{'0' * 12}/{forked.ids[6]}")


def test_the_newest_experiment_is_meant_and_its_id_is_offered(shell: InteractiveShell, forked: Forked) -> None:
    with pytest.raises(UsageError, match="keeps no experiment"):
        shell.run_line_magic("wb", "variants")
    case = shell.user_ns["case"]
    old, new = (
        write(case.store.backend, replace(kept_experiment(moment=forked.ids[0]), made_ns=NOON + at))
        for at in (0, 10**9)
    )
    assert shell.run_line_magic("wb", "experiments")["id"].tolist() == [old, new]
    assert shell.run_line_magic("wb", "experiment").id == new
    assert shell.run_line_magic("wb", f"variants {old[:8]}").experiment.id == old
    assert set(tab(shell, "%wb variants ")) == {f"%wb variants {each[:12]}" for each in (old, new)}


def test_a_bisection_says_what_it_could_not_begin_with(shell: InteractiveShell) -> None:
    with pytest.raises(UsageError, match="cannot be told at the beginning"):
        shell.run_line_magic("wb", "bisect 2024-05-01T12:30:02 latest /root/planted")


WIDGETS = [
    ("explorer alert-7", "Explorer", [22]),
    ("files", "FileBrowser", [24]),
    ("diffview 2024-05-01T12:30:02 latest", "DiffView", [2, 24]),
    ("console before:alert-7 'web one'", "CloneConsole", [20]),
    ("rewind 2024-05-01T12:30:02", "RewindButton", [2]),
]


@pytest.mark.parametrize(("line", "name", "seconds"), WIDGETS)
def test_a_word_gives_its_widget_at_its_moments(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, line: str, name: str, seconds: list[int]
) -> None:
    monkeypatch.setitem(vars(workbench.notebook), name, lambda *moments: [each.record.time_ns for each in moments])
    assert shell.run_line_magic("wb", line) == [NOON + second * 10**9 for second in seconds]
