"""Variants in JupyterLab: signs and rows choose a run, tabs stand side by side, what is hostile does nothing."""

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
from test_diffview_lab import DATASET

CODE = f"""import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
from small import HOSTILE, experiment_in, kept_experiment
from workbench.case import Case
from workbench.notebook import Variants
case = Case("variants")
begin, end = case.moment("start"), case.moment("latest")
alone = next(each for each in case.moments() if each.record.depth == 3)
document = kept_experiment("\\n".join(HOSTILE), begin.id, (alone.id, end.id), begin.guest.id)
variants = Variants(experiment_in(case, document))
variants"""
BESIDE = """const boxes = [...document.querySelectorAll(".wb-grid")].filter((each) => each.offsetParent)
  .map((each) => each.getBoundingClientRect());
return [boxes.length, Math.abs(boxes[0].top - boxes[1].top) < 2 && boxes[0].right <= boxes[1].left + 1];"""


def turn_to(page: Page, title: str) -> None:
    page.click(".jupyter-widgets .lm-TabBar-tab", title)
    page.until(
        lambda: page.told("[variants.title, variants.wait(50), variants.work.error]") == f"['{title}', True, '']"
    )


def test_variants_stand_side_by_side(browser: Chrome, address: str, place: Path) -> None:
    shutil.copytree(DATASET, place / "variants", ignore=shutil.ignore_patterns("cache"))
    notebook = Notebook(browser, address, place, "variants.ipynb", CODE)
    browser.set_window_size(1400, 1300)
    notebook.run()
    wear(browser, "Light")
    page = Page(browser, notebook)
    page.until(lambda: page.seen(".wb-grid-row"))

    # A sign is chosen by keys, its row is chosen with it; a row chooses its sign.
    page.send(".wb-measures [role=listbox]", Keys.END)
    page.until(lambda: page.told("variants.selected, variants.runs.selected") == "5 4")
    page.click(".wb-grid-row", "hung")
    page.until(lambda: page.told("variants.run['outcome']") == "hung")
    page.until(lambda: any("hung" in each for each in page.texts(".wb-chosen")))
    assert axe(browser, ".wb-measures, .wb-grid") == []
    keep(browser, "variants-runs-light")

    # What changed in the clones of each, beside each other.
    turn_to(page, "files")
    page.until(lambda: any("/etc/passwd" in each for each in page.texts(".wb-grid-row")))
    assert browser.execute_script(BESIDE) == [2, True]
    wear(browser, "Dark")
    assert axe(browser, ".wb-measures, .wb-grid") == []
    keep(browser, "variants-files-dark")
    wear(browser, "Light")

    # What the guests said is there, and does nothing.
    turn_to(page, "console")
    page.until(lambda: any("<script>window.hacked=1</script>" in each for each in page.texts(".wb-grid-row")))
    assert browser.execute_script("return window.hacked ?? null") is None
    assert browser.find_elements(By.CSS_SELECTOR, ".wb :is(img, script, b)") == []
    shown = "".join(page.texts(".wb-measures") + page.texts(".wb-grid"))
    assert not set(shown) & set("\x1b\x07\x00\r\u202e\u2066\u2028")
    assert "A" * 1000 not in shown
    keep(browser, "variants-console-light")
    outside = [each for each in requests_of(browser) if not each.startswith((address, "data:", "blob:", "about:"))]
    assert outside == []
