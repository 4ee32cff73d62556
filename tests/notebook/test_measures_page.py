"""What an experiment measured, in a real browser: signs, keys, light and dark, what is hostile does nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("selenium")

from axe import axe, keep
from browser import opened
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from small import BACKWARDS, CONTROL, LONG, MARKUP, experiment_in, inert, kept_experiment

from workbench.case import Case
from workbench.notebook.measures import Measures

ROWS = ".wb-measures [role=listbox]"


@contextmanager
def showing(browser: Chrome, widget: Measures, theme: str = "light") -> Iterator[Chrome]:
    browser.set_window_size(1100, 500)
    with opened(browser, widget, theme):
        yield browser


def selected(browser: Chrome) -> Any:
    return browser.execute_script("return window.model.get('selected')")


def test_keys_and_clicks_choose_runs_and_the_status_says_which(browser: Chrome, case: Case) -> None:
    with showing(browser, Measures(experiment_in(case, kept_experiment()))):
        control, other = browser.find_elements(By.CSS_SELECTOR, ROWS)
        for row, key, position in (
            (control, Keys.ARROW_RIGHT, 1), (control, Keys.ARROW_RIGHT, 3), (control, Keys.END, 5),
            (control, Keys.HOME, 1), (control, Keys.ESCAPE, 0), (other, Keys.ARROW_RIGHT, 2), (other, Keys.END, 6),
        ):  # fmt: skip
            row.send_keys(key)
            assert selected(browser) == position, key
        said = browser.find_element(By.CSS_SELECTOR, ".wb-chosen").text
        assert "run 3 of B: no value, hung: workload: a command did not end" in said
        assert other.get_attribute("aria-activedescendant")
        assert not control.get_attribute("aria-activedescendant")
        control.send_keys(Keys.ARROW_DOWN)
        assert browser.switch_to.active_element == other
        browser.find_element(By.CSS_SELECTOR, '[data-run="3"]').click()
        assert selected(browser) == 3


def test_a_value_stands_where_it_is_on_the_scale(browser: Chrome, case: Case) -> None:
    """1, 2, 3 of the control and 9 of B: one scale for all rows and for the axis, what has no value beside it."""
    with showing(browser, Measures(experiment_in(case, kept_experiment()))):
        script = """const middle = (it) => { const box = it.getBoundingClientRect(); return box.left + box.width / 2; };
            const [a, b, c, d] = [1, 3, 5, 2].map((run) => middle(document.querySelector(`[data-run="${run}"]`)));
            const ends = [...document.querySelectorAll(".wb-axis span")].map(middle);
            return [b - a, c - b, d - a, middle(document.querySelector(".wb-median")) - b, ends[0] - a, ends[1] - d];"""
        one, two, eight, off, *axis = browser.execute_script(script)
        assert one > 0
        assert abs(one - two) < 1
        assert abs(off) < 1.5
        assert abs(eight - 8 * one) < 2
        assert max(map(abs, axis)) < 1.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_can_be_seen_and_heard_whatever_a_guest_says(browser: Chrome, case: Case, theme: str) -> None:
    hostile = Measures(experiment_in(case, kept_experiment(f"{MARKUP} {CONTROL} {BACKWARDS} {LONG}")))
    with showing(browser, hostile, theme):
        browser.find_elements(By.CSS_SELECTOR, ROWS)[1].send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        assert axe(browser, ".wb-measures") == []
        assert browser.execute_script("return window.hacked ?? null") is None
        shown = browser.execute_script("return document.body.textContent + document.body.innerHTML")
        assert inert(shown)
        assert browser.execute_script("return document.querySelectorAll('.wb img, .wb script').length") == 0
        assert browser.execute_script("return document.body.scrollWidth <= window.innerWidth")
        keep(browser, f"measures-{theme}")
