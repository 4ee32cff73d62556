"""What an analyst does, in one sitting: the quickstart, the timeline, a process, a file's difference, a live clone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("selenium")

from axe import keep
from browser import requests_of
from lab import Notebook
from pages import Page
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By

from workbench.case import Case
from workbench.demo import DemoGuest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def live(guest: DemoGuest, public_directory: Path) -> Iterator[Case]:
    """A case with one capture of a guest that runs."""
    with Case.create(public_directory / "case", uri=guest.uri) as case:
        with case.record(guest.name) as recording:
            recording.capture("to be cloned")
        yield case
        for each in case.clones():
            each.destroy()


@pytest.mark.timeout(1800)
def test_one_sitting(browser: Chrome, address: str, place: Path, live: Case) -> None:
    shutil.copytree(ROOT / "datasets" / "intrusion", place / "sitting" / "datasets" / "intrusion")
    (place / "sitting" / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "00-quickstart.ipynb", place / "sitting" / "notebooks")
    notebook = Notebook(browser, address, place, "sitting/notebooks/00-quickstart.ipynb")
    browser.set_window_size(1280, 1200)
    page = Page(browser, notebook)

    # Run all.
    notebook.run()
    page.until(lambda: page.told("'files' in globals()") == "True")
    errors = browser.find_elements(By.CSS_SELECTOR, '[data-mime-type="application/vnd.jupyter.stderr"]')
    assert [each.text for each in errors] == []

    # Drag the timeline: the axis is looked through, and a capture chosen when it is let go.
    notebook.append("import workbench\ncase = Case('../datasets/intrusion/case')\nshown = workbench.app(case)\nshown")
    page.wait(".wb-grid-row", "init")
    canvas = page.until(lambda: page.seen(".wb-lanes")[-1])
    browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", canvas)
    mouse = ActionChains(browser, duration=50).move_to_element_with_offset(
        canvas, 300, -canvas.size["height"] // 2 + 10
    )
    mouse.click_and_hold().move_by_offset(-200, 0).move_by_offset(-60, 0).release().perform()
    page.until(lambda: page.told("shown.timeline.selected not in ('', shown.timeline.newest())") == "True")
    chosen = page.told("shown.timeline.selected")
    assert len(chosen) == 64
    page.until(lambda: page.told("shown.panes['Explorer'].widget.moment.id") == chosen)

    # Open a process.
    notebook.ask("shown.timeline.select('alert-backdoor')")
    page.until(lambda: page.told("shown.panes['Explorer'].widget.wait(60)") == "True")
    page.click(".wb-grid-row", "busybox-update")
    page.wait(".wb-grid-row[aria-selected=true]", "busybox-update")
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    # Several of its maps are of the file; among the processes, it is named once.
    page.until(lambda: len(page.seen(".wb-grid-row", "/tmp/.hidden/busybox-update")) > 1)

    # View a file's difference.
    browser.execute_script("arguments[0].click()", page.wait(".lm-TabBar-tabLabel", "Differences"))
    page.click(".jupyter-widgets .lm-TabBar-tab", "Differences", at=-1)
    span = "[case.moment(each).record.time_ns / 1e6 for each in ('before:alert-break_in', 'latest')]"
    notebook.ask(f"shown.timeline.brush = {span}")
    page.click(".wb-grid-row", "/etc/passwd")
    page.wait(".wb-text tr.wb-added", "sysupd")
    keep(browser, "end-to-end-diff")

    # A clone of a guest that runs, and its console.
    code = f"live = workbench.Case({str(live.path)!r}, uri={live.uri!r})\n"
    notebook.append(
        f"{code}from workbench.notebook import CloneConsole\nconsole = CloneConsole(live.moment())\nconsole"
    )
    page.click("button", "Start")
    page.until(lambda: page.told("console.work.wait(60) and console.clone is not None") == "True")
    keys = page.until(lambda: browser.find_elements(By.CSS_SELECTOR, ".wb-keys")[-1])
    keys.send_keys("uptime", Keys.ENTER)
    page.wait(".wb-row", "load average")
    keep(browser, "end-to-end-console")
    notebook.ask("console.clone.destroy()")
    outside = [each for each in requests_of(browser) if not each.startswith((address, "data:", "blob:", "about:"))]
    assert outside == []
