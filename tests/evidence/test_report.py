"""A report says what happened, from which captures, with the same bytes each time; nothing in it acts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from recorded import DATASET, HOSTILE

from workbench.case import Case
from workbench.errors import AnalysisError, UsageError
from workbench.evidence.statement import read_report

pytestmark = pytest.mark.timeout(1800)  # kernels and browsers beside other tests on few processors
Truth = dict[str, dict[str, Any]]
CAPTURE = re.compile("[0-9a-f]{64}")


class Elements(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def assert_inert(self) -> None:
        """Say that nothing in the page runs or asks."""
        scripts = [attributes for tag, attributes in self.found if tag == "script"]
        assert [each["type"] for each in scripts] == ["application/json"]
        assert not {"iframe", "object", "embed", "form", "link", "base"} & {tag for tag, _ in self.found}
        for _, attributes in self.found:
            assert not [name for name in attributes if name.startswith("on")]
            assert (attributes.get("src") or "data:").startswith("data:")
        policy = next(each["content"] for tag, each in self.found if "http-equiv" in each)
        assert policy is not None
        assert policy.startswith("default-src 'none';")
        assert "script-src" not in policy


def figures(page: str) -> dict[int, str]:
    found = re.findall(r'<figure class="wb-exhibit" id="exhibit-(\d+)">(.*?)</figure>', page, re.DOTALL)
    return {int(number): body for number, body in found}


def test_two_runs_give_the_same_bytes(case: Case, report: Path, tmp_path: Path) -> None:
    again = case.report(tmp_path / "again.html", "before:alert-break_in")
    assert again.read_bytes() == report.read_bytes()


def test_every_exhibit_names_the_captures_that_it_came_from(case: Case, report: Path) -> None:
    page, told = read_report(report)
    known = set(case.timeline()["id"])
    shown = figures(page)
    assert list(shown) == list(range(1, len(told.outputs) + 1))
    assert {each.exhibit: set(each.captures) for each in told.outputs} == {
        number: set(CAPTURE.findall(body.split("<details>")[1])) & known for number, body in shown.items()
    }
    assert all(each.captures and set(each.captures) <= known for each in told.outputs)


def test_it_says_of_itself_what_it_was_made_of(case: Case, report: Path) -> None:
    _, told = read_report(report)
    first, last = case.moment("before:alert-break_in"), case.moment("latest")
    assert told.case == case.store.id
    assert told.parameters == {"since": first.id, "until": last.id, "guest": first.guest.id}
    assert {first.id, last.id} < set(told.captures)
    assert {"rewind-workbench", "volatility3", "nbconvert"} <= set(told.versions)
    assert all(CAPTURE.fullmatch(each.digest) for each in told.outputs)


def test_it_tells_what_was_planted(report: Path, truth: Truth) -> None:
    page, told = read_report(report)
    by_cell = {each.cell: figures(page)[each.exhibit] for each in told.outputs}
    dropped, backdoor = truth["dropped_binary"], truth["backdoor"]
    assert f">{dropped['pid']}<" in by_cell["detect"]
    assert dropped["path"] in by_cell["detect"]
    assert f">{backdoor['port']}<" in by_cell["sockets"]
    assert f"+{truth['new_user']['user']}:x:0:0" in by_cell["texts"]
    assert truth["break_in"]["address"] in by_cell["texts"]
    for step in ("break_in", "new_user", "persistence"):
        assert truth[step]["path"] in by_cell["files"]


def test_nothing_of_the_host_and_of_the_run_is_in_it(report: Path, copied: Path) -> None:
    page = report.read_text()
    repository = DATASET.parents[1]
    for each in (copied, copied.parent, repository, sys.prefix, "rewind-report-"):
        assert not re.search(rf"(?<![\w-]){re.escape(str(each))}(?![\w-])", page), each
    assert "Traceback" not in page


def test_nothing_in_it_runs_or_asks(report: Path) -> None:
    Elements(report.read_text()).assert_inert()


def test_hostile_names_are_inert_and_what_could_not_be_asked_is_said(hostile_case: Path, tmp_path: Path) -> None:
    with Case(hostile_case) as opened:
        first = next(opened.moments()).id
        page = opened.report(tmp_path / "report.html", first).read_text()
    Elements(page).assert_inert()
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "&lt;img src=x onerror=" in page
    assert HOSTILE[-400:] not in page
    shown = figures(page)
    lacking = [number for number, body in shown.items() if "wb-lack" in body or "Not whole" in body]
    assert len(shown) == 11
    assert len(lacking) >= 5  # no kernel, no disk: every question about them


def test_a_file_that_is_there_is_not_replaced(case: Case, tmp_path: Path) -> None:
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        case.report(tmp_path / "mine.html", "start")
    assert (tmp_path / "mine.html").read_text() == "mine"


def test_a_span_has_its_ends_in_order(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ends before it begins"):
        case.report(tmp_path / "report.html", "latest", "start")


def test_an_unknown_template_is_told_with_those_that_are_known(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="incident"):
        case.report(tmp_path / "report.html", "start", template="missing")
    (tmp_path / "no.ipynb").write_text("{}")
    with pytest.raises(UsageError, match=r"no notebook|no parameters"):
        case.report(tmp_path / "report.html", "start", template=tmp_path / "no.ipynb")


def test_a_template_that_fails_leaves_no_report(case: Case, tmp_path: Path) -> None:
    cells = [
        nbformat.v4.new_code_cell("since = until = guest = ''", metadata={"tags": ["parameters"]}, id="parameters")
    ]
    cells.append(nbformat.v4.new_code_cell("raise ValueError('planted')", id="fails"))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "fails.ipynb")
    with pytest.raises(AnalysisError, match="ValueError: planted"):
        case.report(tmp_path / "report.html", "start", template=tmp_path / "fails.ipynb")
    assert not (tmp_path / "report.html").exists()


def test_it_is_printed(report: Path, tmp_path: Path) -> None:
    from workbench.case import print_pdf

    printed = print_pdf(report, tmp_path / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") >= 1
    with pytest.raises(UsageError, match="there already"):
        print_pdf(report, tmp_path / "report.pdf")


def test_the_command_line_makes_and_verifies_it(copied: Path, report: Path, tmp_path: Path) -> None:
    def workbench(*words: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("WORKBENCH_")}
        command = [sys.executable, "-m", "workbench.cli", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1500, check=False)

    target = tmp_path / "report.html"
    made = workbench("report", copied, "--from", "before:alert-break_in", "--to", "latest", "-o", target)
    assert (made.returncode, made.stdout) == (0, f"{target}\n"), made.stderr
    assert target.read_bytes() == report.read_bytes()
    target.write_text(target.read_text().replace("+sysupd:", "+nobody:"))
    checked = workbench("verify-report", target, "--case", copied)
    assert checked.returncode == 1
    assert [line.split()[0] for line in checked.stdout.splitlines() if line.endswith("differs")] == ["6", "the"]
    assert workbench("report", "--from", "latest", "-o", target).returncode == 2
