"""The interactive page works from one file: its timeline is alive, it asks nothing, and what is hostile stays text."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe import axe, keep
from browser import chromium, forget, requests_of
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from workbench.case import Case
from workbench.errors import UnsupportedError
from workbench.evidence import interactive

pytestmark = pytest.mark.timeout(1800)  # kernels and browsers beside other tests on few processors
CANVAS = ".wb-timeline canvas"


@pytest.fixture(scope="module")
def page(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("interactive") / "report.html"
    return case.report(target, "before:alert-break_in", interactive=True)


@pytest.fixture(scope="module")
def window() -> Iterator[Chrome]:
    with chromium() as running:
        yield running


def opened(window: Chrome, page: Path, theme: str = "light") -> None:
    forget(window)
    window.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    window.get(page.as_uri())
    WebDriverWait(window, 120).until(lambda _: window.find_elements(By.CSS_SELECTOR, CANVAS))


def test_the_timeline_is_alive(window: Chrome, page: Path) -> None:
    opened(window, page)
    assert len(window.find_elements(By.CSS_SELECTOR, ".wb-timeline")) == 1
    lanes = window.find_element(By.CSS_SELECTOR, ".wb-timeline .wb-lanes")
    before = window.execute_script("return arguments[0].toDataURL()", lanes)
    ActionChains(window).move_to_element(lanes).click().send_keys(Keys.ARROW_LEFT, "+").perform()
    WebDriverWait(window, 120).until(
        lambda _: window.execute_script("return arguments[0].toDataURL()", lanes) != before
    )


def test_it_asks_nothing(window: Chrome, page: Path) -> None:
    opened(window, page)
    time.sleep(1)
    asked = [each for each in requests_of(window) if not each.startswith(("data:", "blob:", "about:"))]
    assert asked == [page.as_uri()]
    assert [each["message"] for each in window.get_log("browser") if each["level"] == "SEVERE"] == []


def test_it_can_be_read_by_all_in_light_and_dark(window: Chrome, page: Path) -> None:
    for theme in ("light", "dark"):
        opened(window, page, theme)
        keep(window, f"report-interactive-{theme}")
        assert axe(window, "main") == []


def test_the_report_itself_can_be_read_by_all_in_light_and_dark(window: Chrome, report: Path) -> None:
    for theme in ("light", "dark"):
        forget(window)
        told = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        window.execute_cdp_cmd("Emulation.setEmulatedMedia", told)
        window.get(report.as_uri())
        asked = [each for each in requests_of(window) if not each.startswith(("data:", "about:"))]
        assert asked == [report.as_uri()]
        keep(window, f"report-{theme}")
        assert axe(window, "main") == []


def test_hostile_names_do_nothing(window: Chrome, hostile_case: Path, tmp_path: Path) -> None:
    with Case(hostile_case) as opened_case:
        first = next(opened_case.moments()).id
        pages = [opened_case.report(tmp_path / f"{live}.html", first, interactive=live) for live in (False, True)]
    for each in pages:
        forget(window)
        window.get(each.as_uri())
        time.sleep(2)
        assert window.title == "Report: incident"
        assert not window.find_elements(By.CSS_SELECTOR, "img[src='x'], [onerror]")
    WebDriverWait(window, 120).until(lambda _: window.find_elements(By.CSS_SELECTOR, CANVAS))  # of the live one
    assert not window.find_elements(By.CSS_SELECTOR, "img[src='x'], [onerror]")


def test_without_npm_the_cure_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="make interactive"):
        interactive.fetch(tmp_path / "empty")


def test_without_a_network_the_cure_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(words: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 1, "", "npm error code ENOTFOUND\nmore")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(UnsupportedError, match=r"ENOTFOUND.*make interactive"):
        interactive.fetch(tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


def test_a_script_that_is_not_what_it_was_is_refused(tmp_path: Path) -> None:
    for part in interactive._PARTS:
        (tmp_path / part.sha256).write_text("alert(1)")
    with pytest.raises(UnsupportedError, match="not what it was"):
        interactive.fetch(tmp_path)
