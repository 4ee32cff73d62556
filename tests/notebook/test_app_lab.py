"""The dashboard in JupyterLab, of the recorded intrusion: a choice on the timeline reaches the open tab."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("selenium")

from axe import axe, keep
from browser import requests_of, until
from lab import Notebook, wear
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

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
    canvas = browser.find_element(By.CSS_SELECTOR, ".wb-lanes")
    canvas.send_keys(Keys.END, Keys.ARROW_LEFT)
    until(
        browser,
        lambda: notebook.ask("print(shown.panes['Explorer'].widget.moment.id == shown.timeline.selected)") == "True",
        20,
    )
    ids = notebook.ask("print(*case.timeline()['id'][-2:])").split()
    assert notebook.ask("print(shown.timeline.selected)") == ids[0]
    rows = "return document.querySelectorAll('.wb-grid-row').length"
    until(browser, lambda: browser.execute_script(rows) > 3, 120)
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
