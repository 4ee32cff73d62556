"""The map of memory in headless Chromium: mouse and keys choose, traits go both ways, nothing asks another machine."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

sys.path.insert(0, os.path.dirname(__file__))

pytest.importorskip("selenium")

from axe import axe, keep
from browser import opened, until
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from small import HOSTILE, inert
from test_rammap import GIB, pages, ranges

from workbench.notebook.rammap import RamMap

CELL, CAPTION = 13, 18
OWNERS = ("process", "slab", "page cache", "free", "kernel data", "kernel text", "vmalloc", "anonymous", "unknown")


class Shown:
    """A page that shows a map."""

    def __init__(self, browser: Chrome, widget: RamMap) -> None:
        self.browser, self.widget = browser, widget
        self.canvas = browser.find_element(By.CSS_SELECTOR, ".wb-cells")

    def get(self, trait: str) -> Any:
        return self.browser.execute_script("return window.model.get(arguments[0])", trait)

    def set(self, trait: str, value: Any) -> None:
        self.browser.execute_script("window.model.set(arguments[0], arguments[1])", trait, value)

    def answer(self) -> None:
        """Do what the kernel does: cut anew for the part that the page asks for."""
        self.widget.view = self.get("view")
        for trait in ("step", "bands", "ends"):
            self.set(trait, getattr(self.widget, trait))
        script = (
            "const bytes = Uint8Array.from(atob(arguments[0]), (each) => each.charCodeAt(0));"
            "window.model.set('columns', new DataView(bytes.buffer))"
        )
        self.browser.execute_script(script, base64.b64encode(self.widget.columns).decode())

    def status(self) -> str:
        return self.browser.find_element(By.CSS_SELECTOR, ".wb-status").text

    def across(self) -> int:
        return int((self.canvas.size["width"] - 2) // CELL)

    def at(self, cell: int) -> tuple[int, int]:
        """Where a cell of the first band lies, from the canvas's middle, as ActionChains counts."""
        row, column = divmod(cell, self.across())
        size = self.canvas.size
        x, y = 1 + column * CELL + CELL // 2, CAPTION + row * CELL + CELL // 2
        return round(x - size["width"] / 2), round(y - size["height"] / 2)

    def mouse(self) -> ActionChains:
        return ActionChains(self.browser, duration=20)

    def button(self, action: str) -> None:
        self.browser.find_element(By.CSS_SELECTOR, f'[data-action="{action}"]').click()

    def until(self, check: Any) -> None:
        until(self.browser, check)


@contextmanager
def showing(browser: Chrome, widget: RamMap, theme: str = "light") -> Iterator[Shown]:
    with opened(browser, widget, theme):
        yield Shown(browser, widget)


def planted() -> RamMap:
    """300 pages, one per cell: page 10 of a process, 11 and 250 of the slab."""
    return RamMap(pages((10, "process"), (11, "slab"), (250, "slab")), ranges((0, 300)))


def test_mouse_and_keys_choose_cells(browser: Chrome) -> None:
    with showing(browser, planted()) as shown:
        shown.mouse().move_to_element_with_offset(shown.canvas, *shown.at(250)).perform()
        assert shown.status() == "0xfa000 to 0xfb000: 1 of 1 pages changed: \u2068slab\u2069 1"
        shown.mouse().click().perform()
        assert shown.get("span") == [250, 251]
        assert browser.switch_to.active_element == shown.canvas
        shown.mouse().move_to_element_with_offset(shown.canvas, *shown.at(10)).click_and_hold().perform()
        shown.mouse().move_to_element_with_offset(shown.canvas, *shown.at(12)).release().perform()
        assert shown.get("span") == [10, 13]
        across = shown.across()
        for key, cell in (
            (Keys.HOME, 0), (Keys.ARROW_RIGHT, 1), (Keys.ARROW_DOWN, 1 + across), (Keys.ARROW_UP, 1), ("n", 10),
            ("n", 11), ("n", 250), ("n", 250), ("p", 11), (Keys.END, 299), (Keys.ARROW_RIGHT, 299),
        ):  # fmt: skip
            shown.canvas.send_keys(key)
            assert shown.status().startswith(f"{cell * 4096:#x} "), key
        shown.canvas.send_keys(Keys.ENTER)
        assert shown.get("span") == [299, 300]
        shown.canvas.send_keys(Keys.ESCAPE)
        assert (shown.get("span"), shown.get("owner")) == ([], "")


def test_the_legend_filters_and_the_list_says_what_the_canvas_shows(browser: Chrome) -> None:
    with showing(browser, planted()) as shown:
        legend = browser.find_elements(By.CSS_SELECTOR, ".wb-legend button")
        assert [each.text.split() for each in legend] == [["slab", "2"], ["process", "1"]]
        legend[0].click()
        assert shown.get("owner") == "slab"
        assert legend[0].get_attribute("aria-pressed") == "true"
        shown.set("owner", "process")
        assert [each.get_attribute("aria-pressed") for each in legend] == ["false", "true"]
        shown.button("list")
        entries = browser.find_elements(By.CSS_SELECTOR, ".wb-list li button")
        assert [each.text.split(" ")[0] for each in entries] == ["0xa000", "0xb000", "0xfa000"]
        entries[1].click()
        assert shown.get("span") == [11, 12]


def test_zooming_asks_for_a_finer_cut_around_the_cell_with_the_focus(browser: Chrome) -> None:
    widget = RamMap(pages((5000, "slab"), (16_000, "free")), ranges((0, 16_384)))
    with showing(browser, widget) as shown:
        shown.canvas.send_keys("n")
        before = shown.status()
        for _ in range(3):
            shown.canvas.send_keys("+")
            shown.answer()
        low, high = shown.get("view")
        assert low <= 5000 < high
        assert (high - low, widget.step) == (2048, 1)
        shown.until(lambda: shown.status() == "0x1388000 to 0x1389000: 1 of 1 pages changed: \u2068slab\u2069 1")
        assert before.startswith("0x1388000 ")
        shown.canvas.send_keys(Keys.PAGE_DOWN)
        assert shown.get("view") == [low + 1024, high + 1024]
        shown.button("fit")
        assert shown.get("view") == []
        assert shown.canvas.get_attribute("data-lm-suppress-shortcuts") == "true"


@pytest.mark.parametrize("name", HOSTILE, ids=["markup", "control", "backwards", "long", "signs"])
def test_names_from_a_guest_do_nothing(browser: Chrome, name: str) -> None:
    widget = RamMap(pages((None, name), (3, name), region=name), ranges((0, 64)))
    with showing(browser, widget) as shown:
        shown.button("list")
        shown.mouse().move_to_element_with_offset(shown.canvas, *shown.at(3)).perform()
        root = browser.find_element(By.CSS_SELECTOR, ".wb-rammap")
        assert browser.execute_script("return window.hacked ?? null") is None
        assert root.find_elements(By.CSS_SELECTOR, "img, script, b") == []
        assert inert(root.text)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_drawn_in_both_themes_and_has_no_faults(browser: Chrome, theme: str) -> None:
    rows = [(at * 97 % (2 * GIB), OWNERS[(at // 40) % len(OWNERS)]) for at in range(3000)]
    widget = RamMap(pages(*rows), ranges((0, 160), (192, 2 * GIB), (4 * GIB, 5 * GIB)))
    widget.span = [0, 40_000]
    with showing(browser, widget, theme) as shown:
        shown.button("list")
        shown.canvas.send_keys("n")
        pixel = "return [...arguments[0].getContext('2d').getImageData(0, 0, 1, 1).data]"
        paper = browser.execute_script(pixel, shown.canvas)
        assert paper[:3] == ([255, 255, 255] if theme == "light" else [17, 17, 17])
        assert axe(browser, ".wb-rammap") == []
        keep(browser, f"rammap-{theme}")
