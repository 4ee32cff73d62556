"""Headless Chromium for which no other machine exists; what its pages ask for is read from its own log.

Tests of the notebook use it too. Refuses to resolve any name but 127.0.0.1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

__all__ = ["chromium", "forget", "requests_of", "until"]

T = TypeVar("T")
_ANSWER_S = 600
"""Seconds for the browser's answer: a script of ours may wait for a kernel."""
_NOT_YET = (
    NoSuchElementException, StaleElementReferenceException, ElementNotInteractableException,
    ElementClickInterceptedException, IndexError,
)  # fmt: skip


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """Start a browser; it ends with the body."""
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for word in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--window-size=1100,900",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
    assert not isinstance(browser.command_executor, str)
    browser.command_executor.client_config.timeout = _ANSWER_S
    try:
        yield browser
    finally:
        browser.quit()


def forget(browser: webdriver.Chrome) -> None:
    """Leave the page and drop what was logged."""
    browser.get("about:blank")
    browser.set_window_size(1100, 900)
    for kind in ("performance", "browser"):
        browser.get_log(kind)  # type: ignore[no-untyped-call]


def requests_of(browser: webdriver.Chrome) -> list[str]:
    """Return the addresses that pages asked for since the last look."""
    logged = browser.get_log("performance")  # type: ignore[no-untyped-call]
    entries = [json.loads(each["message"])["message"] for each in logged]
    return [each["params"]["request"]["url"] for each in entries if each["method"] == "Network.requestWillBeSent"]


def until(browser: webdriver.Chrome, check: Callable[[], T], patience: float = 120) -> T:
    """Wait until `check` gives something true, and give that.

    What is not on the page yet, is drawn anew just now or is covered by something else is not true.
    """
    waiting = WebDriverWait(browser, patience, poll_frequency=0.05, ignored_exceptions=_NOT_YET)
    return waiting.until(lambda _: check())
