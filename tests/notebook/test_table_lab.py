"""A table in JupyterLab: rows come in windows, mouse and keys reach all of them, what is hostile does nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, os.path.dirname(__file__))

pytest.importorskip("selenium")

from axe import axe, keep
from browser import requests_of, until
from lab import Notebook, wear
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By

CODE = f"""import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
import pandas as pd
from small import HOSTILE
from workbench.notebook import Table
rows = 100_000
names = [f"name {{at}}" for at in range(rows)]
names[:len(HOSTILE)] = HOSTILE
frame = pd.DataFrame({{
    "name": names,
    "size": range(rows),
    "address": pd.array(range(0xffff_0000_0000_0000, 0xffff_0000_0000_0000 + rows), dtype="UInt64"),
    "at": pd.date_range("2024-05-01T12:30", periods=rows, freq="s", tz="UTC"),
    "owner": pd.array(["root", None] * (rows // 2), dtype="string"),
    "deep": [at % 3 for at in range(rows)],
}})
frame.attrs["absent"] = [(1, "owner", "unreadable")]
opened = []
table = Table(frame, label="Planted rows", tree="deep")
table.on_open(opened.append)
table"""
COPY = """const clipboardData = new DataTransfer();
const told = new ClipboardEvent("copy", { clipboardData, bubbles: true, cancelable: true });
arguments[0].dispatchEvent(told);
return told.clipboardData.getData("text/plain");"""


class Grid:
    """The table on the page."""

    def __init__(self, browser: Chrome) -> None:
        self.browser = browser
        self.box = browser.find_element(By.CSS_SELECTOR, ".wb-grid-box")

    def until(self, check: Any) -> None:
        until(self.browser, check)

    def cells(self) -> list[list[str]]:
        script = (
            "return [...arguments[0].querySelectorAll('.wb-grid-row')]"
            ".map((row) => [...row.children].map((cell) => cell.textContent))"
        )
        found: list[list[str]] = self.browser.execute_script(script, self.box)
        return found

    def chosen(self) -> str:
        script = "return arguments[0].querySelector('[aria-selected=true]')?.children[1].textContent ?? ''"
        return str(self.browser.execute_script(script, self.box))

    def press(self, *keys: str) -> None:
        self.box.send_keys(*keys)


def test_a_long_table(browser: Chrome, address: str, place: Path) -> None:
    notebook = Notebook(browser, address, place, "table.ipynb", CODE)
    notebook.run()
    grid = Grid(browser)
    grid.until(lambda: grid.cells() and grid.cells()[6][0] == "name 6")

    # What is shown.
    assert grid.box.get_attribute("aria-rowcount") == "100001"
    assert grid.cells()[6] == ["name 6", "6", "0xffff000000000006", "2024-05-01 12:30:06.000Z", "root"]
    assert grid.cells()[1][4] == "unreadable"
    assert len(grid.cells()) == 14
    assert browser.execute_script("return window.hacked ?? null") is None
    assert browser.find_elements(By.CSS_SELECTOR, ".wb-grid-row img, .wb-grid-row script, .wb-grid-row b") == []
    assert not set(grid.box.text) & set("\x1b\x07\x00\u202e\u2066\u2028")
    assert axe(browser, ".wb-grid") == []

    # Keys: to the end and back, the kernel learns each.
    for key, row in (
        (Keys.END, 99_999),
        (Keys.PAGE_UP, 99_985),
        (Keys.ARROW_UP, 99_984),
        (Keys.HOME, 0),
        (Keys.PAGE_DOWN, 14),
    ):
        grid.press(key)
        grid.until(lambda row=row: grid.chosen() == str(row))
        grid.until(lambda row=row: notebook.ask("print(table.selected)") == str(row))
    grid.press(Keys.ENTER)
    grid.until(lambda: notebook.ask("print([int(row['size']) for row in opened])") == "[14]")

    # The mouse: one click chooses, two open; scrolling brings the rows in sight.
    row = browser.find_elements(By.CSS_SELECTOR, ".wb-grid-row")[3]
    at = int(row.get_attribute("data-at"))
    ActionChains(browser).double_click(row).perform()
    grid.until(lambda: notebook.ask("print([int(row['size']) for row in opened])") == f"[14, {at}]")
    browser.execute_script("arguments[0].scrollTop = arguments[0].scrollHeight / 2", grid.box)
    grid.until(lambda: 49_000 < int(grid.cells()[0][1] or 0) < 51_000)

    # The kernel chooses: the row comes in sight.
    notebook.ask("table.selected = 70_000")
    grid.until(lambda: grid.chosen() == "70000")

    # What is copied is the chosen row.
    copied = browser.execute_script(COPY, grid.box).split("\t")
    assert copied[1:3] == ["70000", hex(0xFFFF_0000_0000_0000 + 70_000)]

    # Sorting and the filter.
    head = browser.find_elements(By.CSS_SELECTOR, ".wb-grid-head button")
    head[1].click()
    head = browser.find_elements(By.CSS_SELECTOR, ".wb-grid-head button")
    grid.until(lambda: browser.find_elements(By.CSS_SELECTOR, '[aria-colindex="2"][aria-sort="ascending"]'))
    browser.find_elements(By.CSS_SELECTOR, ".wb-grid-head button")[1].click()
    grid.until(lambda: browser.find_elements(By.CSS_SELECTOR, '[aria-colindex="2"][aria-sort="descending"]'))
    notebook.ask("table.selected = -1")
    field = browser.find_element(By.CSS_SELECTOR, ".wb-grid input")
    field.send_keys("size:9999")
    grid.until(lambda: grid.box.get_attribute("aria-rowcount") == "20")
    grid.until(lambda: grid.cells()[0][1] == "99999")
    assert notebook.ask("print(table.total)") == "19"

    # Keys that JupyterLab would take for itself stay here.
    grid.press("a", "b")
    assert browser.execute_script("return jupyterapp.shell.currentWidget.content.widgets.length") == 1

    # Another frame.
    notebook.ask("table.sought = ''; table.frame = frame.head(3)")
    grid.until(lambda: len(grid.cells()) == 3)
    assert [each for each in requests_of(browser) if not each.startswith((address, "data:", "blob:", "about:"))] == []


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_themes(browser: Chrome, address: str, place: Path, theme: str) -> None:
    notebook = Notebook(browser, address, place, f"table-{theme.lower()}.ipynb", CODE)
    wear(browser, theme)
    notebook.run()
    grid = Grid(browser)
    grid.until(lambda: grid.cells() and grid.cells()[6][0] == "name 6")
    grid.press(Keys.HOME, Keys.ARROW_DOWN)
    grid.until(lambda: grid.chosen() == "1")
    grid.until(lambda: not browser.find_elements(By.ID, "jupyterlab-splash"))
    keep(browser, f"table-{theme.lower()}")
    assert axe(browser, ".wb-grid") == []
