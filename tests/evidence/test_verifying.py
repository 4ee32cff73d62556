"""A report is verified by making it again: what differs is named, and nothing that stands in a report is run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from recorded import DATASET

from workbench.case import Case
from workbench.errors import FormatError, UsageError
from workbench.evidence import verifying
from workbench.evidence.report import Report, make_report
from workbench.evidence.running import find_template
from workbench.evidence.statement import read_report

pytestmark = pytest.mark.timeout(1800)  # kernels and browsers beside other tests on few processors


@pytest.fixture(scope="module")
def again(case: Case, report: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report made again with everything asked anew: once, for the tests that alter the report and not the case."""
    _, told = read_report(report)
    cache = tmp_path_factory.mktemp("anew")
    return make_report(case.path, case.store.id, find_template("incident"), told.parameters, cache=cache)


@pytest.fixture
def made_once(again: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "make_report", lambda *_words, **_options: again)


@pytest.fixture
def altered(report: Path, tmp_path: Path) -> Any:
    """Write the report with something replaced, once."""

    def alter(before: str, after: str) -> Path:
        page = report.read_text()
        assert before in page
        (tmp_path / "altered.html").write_text(page.replace(before, after, 1))
        return tmp_path / "altered.html"

    return alter


def states(found: verifying.Verification) -> dict[str, str]:
    return dict(zip(found.frame["cell"], found.frame["state"], strict=True))


def differing(found: verifying.Verification) -> set[str]:
    return {cell for cell, state in states(found).items() if state != "same"}


def test_an_honest_report_is_the_same_with_everything_asked_anew(
    case: Case, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = []

    def watched(*words: Any, **options: Any) -> Report:
        caches.append(options["cache"])
        assert list(options["cache"].iterdir()) == []
        made = make_report(*words, **options)
        caches.append(len(list(options["cache"].rglob("*.parquet"))))
        return made

    monkeypatch.setattr(verifying, "make_report", watched)
    found = case.verify_report(report)
    assert found.same
    assert found.page == "same"
    assert set(states(found).values()) == {"same"}
    assert len(found.frame) == 11
    assert caches[1] > 5


@pytest.mark.usefixtures("made_once")
def test_an_altered_exhibit_is_named(case: Case, altered: Any) -> None:
    found = case.verify_report(altered("+sysupd:x:0:0", "+sysupd:x:9:9"))
    assert not found.same
    assert differing(found) == {"texts"}
    assert "What was written in settings" in repr(found)


@pytest.mark.usefixtures("made_once")
def test_a_row_taken_away_is_named(case: Case, report: Path, altered: Any) -> None:
    (row,) = re.findall(r"<tr>(?:(?!<tr>).)*deleted_binary.*?</tr>", report.read_text())
    assert differing(case.verify_report(altered(row, ""))) == {"detect"}


@pytest.mark.usefixtures("made_once")
def test_an_exhibit_taken_away_is_named(case: Case, report: Path, altered: Any) -> None:
    (figure,) = re.findall(r'<figure class="wb-exhibit" id="exhibit-8">.*?</figure>', report.read_text(), re.DOTALL)
    assert differing(case.verify_report(altered(figure, ""))) == {"sockets"}


@pytest.mark.usefixtures("made_once")
def test_a_text_between_exhibits_is_seen(case: Case, altered: Any) -> None:
    found = case.verify_report(altered("may lie about them", "never lies about them"))
    assert not found.same
    assert differing(found) == set()
    assert "outside of its exhibits" in found.notes[0]


@pytest.mark.usefixtures("made_once")
def test_an_altered_digest_is_named(case: Case, report: Path, altered: Any) -> None:
    digest = next(each.digest for each in read_report(report)[1].outputs if each.cell == "files")
    assert differing(case.verify_report(altered(digest, "0" * 64))) == {"files"}


@pytest.mark.usefixtures("made_once")
def test_another_version_is_told_and_does_not_hide_that_the_rest_is_the_same(
    case: Case, report: Path, altered: Any
) -> None:
    version = read_report(report)[1].versions["volatility3"]
    found = case.verify_report(altered(f'"volatility3": "{version}"', '"volatility3": "1.0"'))
    assert found.same
    assert found.notes == (f"made with volatility3 1.0, run again with {version}",)


@pytest.mark.usefixtures("made_once")
def test_a_page_of_another_nbconvert_is_not_called_the_same(case: Case, report: Path, altered: Any) -> None:
    version = read_report(report)[1].versions["nbconvert"]
    path = altered(f'"nbconvert": "{version}"', '"nbconvert": "1.0"')
    path.write_text(path.read_text().replace("<main>", '<main class="other">'))
    found = case.verify_report(path)
    assert found.page == "not compared"
    assert not found.same


def test_another_case_is_refused(case: Case, altered: Any) -> None:
    with pytest.raises(UsageError, match="another case"):
        case.verify_report(altered(f'"case": "{case.store.id}"', '"case": "00000000-0000-4000-8000-000000000000"'))


def test_another_template_is_refused(case: Case, report: Path, altered: Any) -> None:
    digest = read_report(report)[1].template_digest
    with pytest.raises(FormatError, match="not the one that the report was made of"):
        case.verify_report(altered(digest, "0" * 64))


def test_a_template_that_a_report_names_is_not_run(case: Case, altered: Any, tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell(f"open({str(tmp_path / 'ran')!r}, 'w')", metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "evil.ipynb")
    with pytest.raises(UsageError, match="template of its own"):
        case.verify_report(altered('"template": "incident"', f'"template": "{tmp_path / "evil.ipynb"}"'))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", ["latest", "__import__('os')", "../x", 7, None, ["a"]])
def test_parameters_are_ids_and_nothing_else(case: Case, report: Path, altered: Any, value: Any) -> None:
    import json

    since = read_report(report)[1].parameters["since"]
    with pytest.raises(FormatError, match="cannot be read"):
        case.verify_report(altered(f'"since": "{since}"', f'"since": {json.dumps(value)}'))


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"\xff\xfe\x00", (DATASET / "truth.json").read_bytes()])
def test_what_is_no_report_is_refused(case: Case, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report.html").write_bytes(content)
    with pytest.raises(FormatError, match="no report of ours"):
        case.verify_report(tmp_path / "report.html")


def test_a_report_that_is_not_there_is_told(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        case.verify_report(tmp_path / "missing.html")


@pytest.mark.parametrize("block", ["[" * 100_000, "{}", '{"format": 2}', "null", '{"format": 1, "case": 5}'])
def test_a_block_that_lies_is_an_error_of_ours(case: Case, report: Path, tmp_path: Path, block: str) -> None:
    page = re.sub(
        r'(<script type="application/json" id="rewind-report">).*?(</script>)',
        lambda found: found[1] + block + found[2],
        report.read_text(),
        flags=re.DOTALL,
    )
    (tmp_path / "lies.html").write_text(page)
    with pytest.raises(FormatError):
        case.verify_report(tmp_path / "lies.html")
