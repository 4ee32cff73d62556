"""The timeline in JupyterLab: a click reaches the kernel, the kernel reaches the page, keys, themes, no request out."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

pytest.importorskip("selenium")

from axe import keep
from browser import requests_of, until
from lab import Notebook, wear
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from small import NOON, Forked

HERE = Path(__file__).parent
CODE = """%load_ext workbench
from workbench import Case
case = Case({path!r})
timeline = get_ipython().run_line_magic("wb", "timeline")
timeline"""
LARGE = """import sys; sys.path.insert(0, {here!r})
from small import Large
from workbench.notebook.timeline import Timeline
timeline = Timeline(Large({captures}))
timeline"""


def test_page_and_kernel_are_one(browser: Chrome, address: str, place: Path) -> None:
    forked = Forked(place / "case").build()
    notebook = Notebook(browser, address, place, "small.ipynb", CODE.format(path=str(forked.path)))
    notebook.run()
    canvas = browser.find_element(By.CSS_SELECTOR, ".wb-lanes")

    def chosen() -> str:
        return str(notebook.ask("print(timeline.selected_moment.id if timeline.selected else '')"))

    ActionChains(browser).move_to_element(canvas).click().perform()
    for key, second in ((Keys.END, 24), ("m", 22), (Keys.ARROW_LEFT, 20), (Keys.ARROW_UP, 8)):
        canvas.send_keys(key)
        until(browser, lambda second=second: chosen() == forked.ids[second])
    about = browser.find_element(By.CSS_SELECTOR, ".wb-about")
    until(browser, lambda: forked.ids[8][:12] in about.text)

    # Keys that JupyterLab would take for itself: a and b make cells, m makes text of one.
    canvas.send_keys("a", "b", "m")
    until(browser, lambda: chosen() == forked.ids[22])
    assert browser.execute_script("return jupyterapp.shell.currentWidget.content.widgets.length") == 1
    assert browser.execute_script("return jupyterapp.shell.currentWidget.content.activeCell.model.type") == "code"

    status = browser.find_element(By.CSS_SELECTOR, ".wb-status")
    notebook.ask(f"timeline.selected = '{forked.ids[0][:8]}'; timeline.brush = [{NOON / 1e6}, {NOON / 1e6 + 5000}]")
    until(browser, lambda: forked.ids[0][:12] in status.text and "5.0 s" in status.text)

    # Captures that come while the page is open, and a note from the page.
    notebook.ask("timeline.live = True")
    forked.append(26)
    canvas.send_keys("l")
    until(browser, lambda: canvas.send_keys("l") or chosen() == forked.ids[26])
    canvas.send_keys("n")
    browser.switch_to.active_element.send_keys("flag", Keys.ENTER)
    until(browser, lambda: notebook.ask("print([each.name for each in case.marks()][-1])") == "flag")
    until(browser, lambda: "Saved the mark flag" in status.text)

    for action in ("list", "help"):
        browser.find_element(By.CSS_SELECTOR, f'[data-action="{action}"]').click()
    root = browser.find_element(By.CSS_SELECTOR, ".wb-timeline")
    over = "return arguments[0].scrollWidth - arguments[0].clientWidth"
    until(browser, lambda: browser.execute_script(over, root) <= 0)

    for theme in ("Light", "Dark"):
        wear(browser, theme)
        keep(browser, f"timeline-lab-{theme.lower()}")
    outside = [each for each in requests_of(browser) if not each.startswith((address, "data:", "blob:", "about:"))]
    assert outside == []


@pytest.mark.parametrize("captures", [20_000, 100_000])
def test_many_captures_reach_the_page(browser: Chrome, address: str, place: Path, captures: int) -> None:
    """How long it took is printed, and is the bench's to judge."""
    code = LARGE.format(here=str(HERE), captures=captures)
    notebook = Notebook(browser, address, place, f"large-{captures}.ipynb", code)
    notebook.ask(code.rsplit("timeline = ", 1)[0])  # the imports are not what is measured
    notebook.ask(f"large = Large({captures}); len(large.frame)")
    browser.execute_script(
        "const cell = jupyterapp.shell.currentWidget.content.widgets[0];"
        "cell.model.sharedModel.setSource('timeline = Timeline(large)\\ntimeline')"
    )
    took = notebook.run() / 1000
    began = time.perf_counter()
    browser.find_element(By.CSS_SELECTOR, ".wb-lanes").send_keys("l")
    until(browser, lambda: notebook.ask("print(len(timeline.selected))") == "64")
    answered = time.perf_counter() - began
    print(f"{captures} captures: cell run to drawn {took:.2f} s; key to kernel {answered:.2f} s")  # noqa: T201
