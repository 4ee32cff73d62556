"""The explorer and the file browser in JupyterLab: tabs, rows and buttons lead on; a file is read and downloaded."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, os.path.dirname(__file__))

pytest.importorskip("selenium")

from axe import axe, keep
from browser import requests_of
from lab import Notebook, wear
from pages import Page
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

DATASET = Path(__file__).parents[2] / "datasets" / "intrusion"
CODE = """from workbench.case import Case
from workbench.notebook import Explorer, FileBrowser
case = Case({path!r})
widget = {widget}
widget"""
# What is on the page: the rows of the table in sight, the first of those that are shown.
ROWS = """const box = [...document.querySelectorAll(".wb-grid-box")].find((each) => each.offsetParent);
const rows = [...(box?.querySelectorAll(".wb-grid-row") ?? [])];
return rows.map((row) => [...row.children].map((cell) => cell.textContent));"""
BOX = """return [...document.querySelectorAll(".wb-grid-box")].find((each) => each.offsetParent);"""
# Downloads are kept here instead of being saved.
CATCH = """window.caught = [];
const make = URL.createObjectURL.bind(URL);
URL.createObjectURL = (blob) => {
  blob.text().then((text) => window.caught.push([blob.type, text]));
  return make(blob);
};
HTMLAnchorElement.prototype.click = function () { window.saved = this.download; };"""
CHOSEN = "return Boolean(arguments[0].querySelector('[aria-selected=true]'))"
LARGE = """data = b"rewind " * ((10 << 20) // 7 + 1)
widget.preview.show("/large", [], 10 << 20, lambda at, length: data[:10 << 20][at:at + length], b"\\0" + data[1:100])"""


class Shown(Page):
    """A widget in JupyterLab."""

    def rows(self) -> list[list[str]]:
        found: list[list[str]] = self.browser.execute_script(ROWS)
        return found

    def names(self) -> list[str]:
        return [row[0] for row in self.rows()]

    def box(self) -> Any:
        return self.browser.execute_script(BOX)

    def button(self, words: str) -> None:
        self.click(".jp-OutputArea-output button:not([disabled])", words)

    def themes(self, name: str) -> None:
        """Look at it in the dark and in the light, which stays."""
        for theme in ("Dark", "Light"):
            wear(self.browser, theme)
            self.until(lambda: not self.browser.find_elements(By.ID, "jupyterlab-splash"))
            keep(self.browser, f"{name}-{theme.lower()}")
            assert axe(self.browser, ".jp-OutputArea-output") == []


def shown(browser: Chrome, address: str, place: Path, name: str, widget: str) -> Shown:
    path = place / f"{name}-case"
    shutil.copytree(DATASET / "case", path)
    code = CODE.format(path=str(path), widget=widget)
    notebook = Notebook(browser, address, place, f"{name}.ipynb", code)
    notebook.run()
    return Shown(browser, notebook)


def test_a_process_is_opened_and_left_again(browser: Chrome, address: str, place: Path) -> None:
    truth = json.loads((DATASET / "truth.json").read_text())
    pid = next(each["pid"] for each in truth if each["what"] == "backdoor")
    page = shown(browser, address, place, "explorer", 'Explorer(case.moment("alert-backdoor"))')
    page.until(lambda: "init" in page.names())
    page.send(".wb-grid input", f"pid:{pid} nc")
    page.until(lambda: page.told("widget.table.sought") == f"pid:{pid} nc")
    page.until(lambda: page.names() == ["nc"])
    page.box().send_keys(Keys.HOME, Keys.ENTER)
    page.until(lambda: any("busybox" in row[4] for row in page.rows() if len(row) > 4))
    page.wait(".jp-OutputArea-output button[disabled]", f"Maps of {pid} nc")
    page.button("Environment")
    page.until(lambda: any("PATH" in row for row in page.rows()))
    page.button("Processes")
    page.until(lambda: "init" in page.names())

    tabs = ".jp-OutputArea-output .lm-TabBar-tab"
    page.click(tabs, "Sockets")
    page.until(lambda: any("4444" in row for row in page.rows()))
    page.notebook.ask('widget.moment = case.moment("alert-break_in")')
    page.until(lambda: page.rows() and not any("4444" in row for row in page.rows()))
    page.themes("explorer")
    page.click(tabs, "Ask")
    page.until(lambda: len(browser.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output option")) > 50)
    assert axe(browser, ".jp-OutputArea-output") == []
    outside = [each for each in requests_of(browser) if not each.startswith((address, "data:", "blob:", "about:"))]
    assert outside == []


def test_a_file_is_found_read_and_downloaded(browser: Chrome, address: str, place: Path) -> None:
    page = shown(browser, address, place, "files", 'FileBrowser(case.moment("latest"))')
    page.until(lambda: "+ etc" in page.names())
    at = page.names().index("+ etc")
    page.box().send_keys(Keys.HOME, *[Keys.ARROW_DOWN] * at, Keys.ENTER)
    page.until(lambda: "- etc" in page.names())
    field = browser.find_element(By.CSS_SELECTOR, ".jp-OutputArea-output .widget-text input")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("/etc/passwd", Keys.ENTER)
    body = browser.find_element(By.CSS_SELECTOR, ".wb-file-body")
    page.until(lambda: "sysupd" in body.text)
    page.wait('.wb-grid-row[aria-selected="true"]', "passwd")

    browser.execute_script(CATCH)
    page.button("Download")
    page.until(lambda: browser.execute_script("return window.caught.length"))
    kind, text = browser.execute_script("return window.caught[0]")
    assert kind == "application/octet-stream"
    assert text == page.notebook.ask("print(case.moment().read_text('/etc/passwd'))") + "\n"
    assert browser.execute_script("return window.saved") == "passwd"
    page.button("Hex")
    page.until(lambda: body.text.startswith("00000000  72 6f 6f 74 3a"))

    # More than a Jupyter server lets through at once, were it not asked for part by part.
    page.notebook.ask(LARGE)
    page.until(lambda: "page 1 of 160" in browser.find_element(By.CSS_SELECTOR, ".wb-file-bar").text)
    browser.execute_script("window.caught = []")
    page.button("Download")
    page.until(lambda: browser.execute_script("return window.caught.length"))
    assert browser.execute_script("return window.caught[0][1].length") == 10 << 20
    page.button("Next page")
    page.until(lambda: "page 2 of 160" in browser.find_element(By.CSS_SELECTOR, ".wb-file-bar").text)
    page.until(lambda: body.text.startswith("00010000  "))
    page.themes("files")
