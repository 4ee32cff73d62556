"""What is seen of a page: its faults for those who do not see or point, by axe-core, and its pictures."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path

from selenium.webdriver import Chrome

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
RUN = """const [selector, done] = arguments;
const wanted = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
axe.run(selector, { runOnly: wanted, rules: { region: { enabled: false } } }).then(
  (found) => done(found.violations.flatMap((each) => each.nodes.map((node) =>
    `${each.id}: ${each.help}: ${node.target.join(" ")}: ${node.failureSummary} ${node.html.slice(0, 200)}`))),
  (error) => done([String(error)]));"""


@cache
def source() -> str:
    """The text of axe-core, from the package that carries it; its driver is not used."""
    found = importlib.util.find_spec("axe_playwright_python")
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def axe(browser: Chrome, selector: str) -> list[str]:
    """The faults within the elements that a selector finds, in words; empty where there are none."""
    assert browser.execute_script("return document.querySelectorAll(arguments[0]).length", selector)
    browser.execute_script(source())
    found: list[str] = browser.execute_async_script(RUN, selector)
    return found


def keep(browser: Chrome, name: str) -> Path:
    """Save what the window shows as build/screenshots/NAME.png, to be looked at; gives where."""
    place = Path(os.environ.get("WORKBENCH_SCREENSHOTS", SHOTS))
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name}.png"
    assert browser.save_screenshot(str(path))
    return path
