"""What an analyst sees and clicks: a notebook's page, looked at and acted on in one step each.

A widget draws itself anew whenever the kernel answers, so what was found a moment ago may be gone: who clicks says what
on, and it is looked for again until the click has reached it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from browser import until
from lab import Notebook
from selenium.webdriver import Chrome
from selenium.webdriver.remote.webelement import WebElement

SEEN = """return [...document.querySelectorAll(arguments[0])].filter((each) => each.offsetParent
  && each.textContent.includes(arguments[1]))"""
TEXTS = """return [...document.querySelectorAll(arguments[0])].filter((each) => each.offsetParent)
  .map((each) => each.textContent)"""


class Page:
    """A notebook in the browser."""

    def __init__(self, browser: Chrome, notebook: Notebook) -> None:
        self.browser, self.notebook = browser, notebook

    def until(self, check: Callable[[], Any], patience: float = 120) -> Any:
        """Wait until it gives something true, and give that."""
        return until(self.browser, check, patience)

    def seen(self, selector: str, text: str = "") -> list[WebElement]:
        """The elements that are shown and hold a text."""
        found: list[WebElement] = self.browser.execute_script(SEEN, selector, text)
        return found

    def texts(self, selector: str) -> list[str]:
        """What the elements say that are shown."""
        found: list[str] = self.browser.execute_script(TEXTS, selector)
        return found

    def wait(self, selector: str, text: str = "") -> WebElement:
        """The first of those elements, once it is there."""
        found: WebElement = self.until(lambda: self.seen(selector, text)[0])
        return found

    def click(self, selector: str, text: str = "", at: int = 0) -> None:
        """Click on one of those elements, the first unless said otherwise, once it is there and can be reached."""
        self.until(lambda: self.seen(selector, text)[at].click() or True)

    def send(self, selector: str, *keys: str) -> None:
        """Press keys in the first of those elements, once it is there."""
        self.until(lambda: self.seen(selector)[0].send_keys(*keys) or True)

    def told(self, code: str) -> str:
        """What the kernel says that an expression is."""
        return self.notebook.ask(f"print({code})")
