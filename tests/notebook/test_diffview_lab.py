"""DiffView in JupyterLab: tabs fill, rows and cells lead on, sliders move the moments, what is hostile does nothing."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

pytest.importorskip("selenium")

from axe import axe, keep
from browser import requests_of
from lab import Notebook, wear
from pages import Page
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

DATASET = Path(__file__).parents[2] / "datasets" / "intrusion" / "case"
VIEW = """from workbench.case import Case
from workbench.notebook import DiffView
case = Case("intrusion")
moments = list(case.moments())
view = DiffView(moments[0], moments[-1])
view"""
HOSTILE = f"""import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
import difflib, ipywidgets
from small import HOSTILE
from workbench.notebook.hexdiff import HexDiff, differing
from workbench.notebook.textdiff import TextDiff
lines = [each.replace("\\n", " ") + "\\n" for each in HOSTILE] + [f"line {{at}}\\n" for at in range(500)]
text = "".join(difflib.unified_diff(["x\\n"], lines, HOSTILE[0], HOSTILE[2]))
told = dict(heading=HOSTILE[0], note=HOSTILE[2], facts=[(HOSTILE[4], HOSTILE[1], HOSTILE[0])])
texts, hexes = TextDiff(text, **told), HexDiff(differing(bytes(8000), "".join(HOSTILE).encode()), **told)
ipywidgets.VBox([texts, hexes])"""


def turn_to(page: Page, title: str) -> None:
    page.click(".jupyter-widgets .lm-TabBar-tab", title)
    page.until(lambda: page.told("view.parts[view.tabs.selected_index].name") == title)
    page.until(lambda: page.told("view.parts[view.tabs.selected_index].filled == view.ends") == "True")


def test_the_recorded_intrusion(browser: Chrome, address: str, place: Path) -> None:
    shutil.copytree(DATASET, place / "intrusion")
    notebook = Notebook(browser, address, place, "diffview.ipynb", VIEW)
    browser.set_window_size(1200, 1500)
    notebook.run()
    page = Page(browser, notebook)

    # Files are there at once; a row shows how its text changed, marked by more than colour.
    page.click(".wb-grid-row", "/etc/passwd")
    page.until(lambda: any("sysupd" in each for each in page.texts(".wb-text tr.wb-added")))
    assert page.texts(".wb-text tr.wb-added .wb-heard") == ["added"]
    assert page.texts(".wb-text tr.wb-added .wb-sign span") == ["+", "added"]
    assert axe(browser, ".wb-diff") == []
    keep(browser, "diffview-files-light")

    # Pages: a cell of the map filters the table, a row shows its bytes.
    turn_to(page, "pages")
    page.until(lambda: page.seen(".wb-cells") and page.seen(".wb-grid-row"))
    page.send(".wb-cells", "n", Keys.ENTER)
    page.until(lambda: page.told("len(view.parts[2].map.span)") == "2")
    everything = int(page.told("len(view.diff.pages())"))
    page.until(lambda: 0 < int(page.told("len(view.parts[2].table.frame)")) < everything)
    few = page.told("len(view.parts[2].table.frame)")
    page.until(lambda: page.seen(".wb-grid-box")[0].get_attribute("aria-rowcount") == str(int(few) + 1))
    page.click(".wb-grid-row")
    page.until(lambda: page.seen(".wb-hex mark"))
    assert axe(browser, ".wb-rammap, .wb-diff") == []
    keep(browser, "diffview-pages-light")

    # Zooming is answered by the kernel with a finer cut.
    step = int(page.told("view.parts[2].map.step"))
    page.send(".wb-cells", "+")
    page.until(lambda: int(page.told("view.parts[2].map.step")) < step)

    # A slider moves by keys and acts; the kernel moves it too.
    before = page.told("view.sliders[1].slider.label")
    page.until(lambda: len(page.seen(".noUi-handle")) > 1)
    page.seen(".noUi-handle")[1].send_keys(Keys.ARROW_LEFT)
    page.until(lambda: page.told("view.b == moments[-2].id") == "True")
    page.until(lambda: page.told("view.parts[2].filled == view.ends") == "True")
    notebook.ask("view.b = moments[-1].id")
    page.until(lambda: before == page.seen(".widget-readout")[1].text)

    wear(browser, "Dark")
    keep(browser, "diffview-pages-dark")
    assert axe(browser, ".wb-rammap, .wb-diff") == []
    wear(browser, "Light")
    outside = [each for each in requests_of(browser) if not each.startswith((address, "data:", "blob:", "about:"))]
    assert outside == []


def test_what_a_guest_wrote_does_nothing_and_pages_turn(browser: Chrome, address: str, place: Path) -> None:
    notebook = Notebook(browser, address, place, "diffs.ipynb", HOSTILE)
    browser.set_window_size(1200, 1500)
    notebook.run()
    page = Page(browser, notebook)
    page.until(lambda: len(page.seen(".wb-diff")) == 2)
    assert browser.execute_script("return window.hacked ?? null") is None
    assert browser.find_elements(By.CSS_SELECTOR, ".wb-diff :is(img, script, b)") == []
    shown = "".join(page.texts(".wb-diff"))
    assert not set(shown) & set("\x1b\x07\x00\r\u202e\u2066\u2028")
    assert "<script>window.hacked=1</script>" in shown
    assert axe(browser, ".wb-diff") == []

    following = ".wb-diff button"
    page.click(following, "Next page")
    page.until(lambda: page.told("texts.first") == "400")
    page.until(lambda: "line 399" in page.texts(".wb-text tbody")[0])
    page.until(lambda: not page.seen(following, "Next page")[0].is_enabled())
    page.seen(".wb-diff .wb-scroll")[1].send_keys("n")
    page.until(lambda: page.told("hexes.first") == "128")
    page.until(lambda: page.texts(".wb-hex tbody th")[0] == "00000800")
    notebook.ask("texts.first = 0")
    page.until(lambda: "window.hacked" in page.texts(".wb-text tbody")[0])
    for theme in ("Dark", "Light"):
        wear(browser, theme)
        keep(browser, f"diffs-{theme.lower()}")
        assert axe(browser, ".wb-diff") == []
