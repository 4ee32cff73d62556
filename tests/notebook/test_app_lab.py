"""The dashboard in JupyterLab, of the recorded intrusion: a choice on the timeline reaches the open tab."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("selenium")

from axe import axe, keep
from browser import requests_of
from lab import Notebook, wear
from pages import Page
from selenium.webdriver import Chrome, Keys

DATASET = Path(__file__).parents[2] / "datasets" / "intrusion" / "case"
CODE = """%load_ext workbench
import workbench
case = workbench.Case("datasets/intrusion/case")
shown = workbench.app(case)
shown"""


def test_the_open_tab_follows_the_timeline(browser: Chrome, address: str, place: Path) -> None:
    shutil.copytree(DATASET, place / "datasets" / "intrusion" / "case")
    notebook = Notebook(browser, address, place, "incident.ipynb", CODE)
    browser.set_window_size(1280, 1000)
    browser.execute_script("jupyterapp.commands.execute('application:toggle-left-area')")
    notebook.run()
    page = Page(browser, notebook)
    page.send(".wb-lanes", Keys.END, Keys.ARROW_LEFT)
    ids = page.told("*case.timeline()['id'][-2:]").split()
    page.until(lambda: page.told("shown.timeline.selected") == ids[0])
    page.until(lambda: page.told("shown.panes['Explorer'].widget.moment.id") == ids[0])
    rows = "return document.querySelectorAll('.wb-grid-row').length"
    page.until(lambda: browser.execute_script(rows) > 3)
    assert notebook.ask("print([pane.widget is None for pane in shown.panes.values()][1:] == [True] * 5)") == "True"

    for theme in ("Light", "Dark"):
        wear(browser, theme)
        assert axe(browser, ".wb-timeline") == []
        keep(browser, f"app-{theme.lower()}")
    wear(browser, "Light")
    picture = keep(browser, "readme")  # docs/screenshot.png is a copy of it
    assert picture.stat().st_size < 300_000
    for title in ("Files", "Differences", "Console", "Capture", "Rewind"):
        notebook.ask(f"shown.turn_to({title!r}); None")
        told = f"print(type(shown.panes[{title!r}].widget).__name__, repr(shown.panes[{title!r}].said.value))"
        name, said = notebook.ask(told).split(" ", 1)
        assert (name != "NoneType", said) == (True, "''"), title
    outside = [each for each in requests_of(browser) if not each.startswith((address, "data:", "blob:", "about:"))]
    assert outside == []
