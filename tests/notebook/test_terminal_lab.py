"""A terminal in JupyterLab: what a guest says is drawn as text, keys reach it, Ctrl+] leaves it, nothing goes out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from pages import Page

sys.path.insert(0, os.path.dirname(__file__))

pytest.importorskip("selenium")

from axe import axe, keep
from browser import requests_of, until
from lab import Notebook, wear
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By

CODE = f"""import sys; sys.path[:0] = [{os.path.dirname(__file__)!r}, {os.path.dirname(os.path.dirname(__file__))!r}]
from IPython.display import display
from small import HOSTILE, MARKUP
from test_terminal import Loop
from workbench.notebook import Terminal
from workbench.notebook.sparks import Sparkline
link, terminal, spark = Loop(), Terminal(MARKUP), Sparkline(MARKUP, "ms", [1.0, 4.0, 2.0])
terminal.attach(link)
link.say("\\x1b[1;32mroot@demo\\x1b[0m:\\x1b[34m~\\x1b[0m# \\x1b[7mmark\\x1b[0m \\u6f22\\u5b57 \\u05d0\\u05d1\\r\\n")
for name in HOSTILE: link.say(name[:200] + "\\r\\n")
display(terminal, spark)"""
PASTE = """const clipboardData = new DataTransfer();
clipboardData.setData("text/plain", "echo a\\nb");
arguments[0].dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));"""


class Shown:
    """The terminal on the page."""

    def __init__(self, browser: Chrome, notebook: Notebook) -> None:
        self.browser, self.notebook = browser, notebook
        self.field = until(browser, lambda: browser.find_element(By.CSS_SELECTOR, ".wb-terminal textarea"))
        self.until(lambda: any("root@demo" in row for row in self.rows()))

    def until(self, check: Any) -> None:
        until(self.browser, check)

    def rows(self) -> list[str]:
        script = "return [...document.querySelectorAll('.wb-terminal .wb-row')].map((row) => row.textContent)"
        found: list[str] = self.browser.execute_script(script)
        return found

    def got(self) -> str:
        return str(self.notebook.ask("print(b''.join(link.got).hex())"))

    def heard(self, data: bytes) -> None:
        self.until(lambda: self.got() == data.hex())
        self.notebook.ask("link.got.clear()")

    def focus(self) -> str:
        return str(self.browser.execute_script("return document.activeElement.textContent"))


def test_a_terminal(browser: Chrome, address: str, place: Path) -> None:
    notebook = Notebook(browser, address, place, "terminal.ipynb", CODE)
    notebook.run()
    shown = Shown(browser, notebook)

    # What is hostile is text, in its cells.
    shown.until(lambda: any("window.hacked" in row for row in shown.rows()))
    assert browser.execute_script("return window.hacked ?? null") is None
    assert browser.find_elements(By.CSS_SELECTOR, ".wb-row img, .wb-row script") == []
    texts = "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent.trim())"
    shown.until(lambda: browser.execute_script(texts, ".wb-row .wb-b") == ["root@demo"])
    shown.until(lambda: browser.execute_script(texts, ".wb-row .wb-w") == ["\u6f22", "\u5b57"])
    keep(browser, "terminal")
    assert axe(browser, ".wb-terminal") == []
    assert axe(browser, ".wb-spark") == []

    # The mouse gives it the keys; each reaches the guest, none JupyterLab.
    ActionChains(browser).move_to_element(browser.find_element(By.CSS_SELECTOR, ".wb-screen")).click().perform()
    shown.field.send_keys("ab", Keys.ENTER)
    shown.heard(b"ab\r")
    shown.field.send_keys(Keys.TAB, Keys.ESCAPE, Keys.ARROW_UP, Keys.BACKSPACE)
    shown.heard(b"\t\x1b\x1b[A\x7f")
    shown.field.send_keys(Keys.CONTROL, "c")
    shown.heard(b"\x03")
    browser.execute_script(PASTE, shown.field)
    shown.heard(b"echo a\rb")
    assert browser.execute_script("return jupyterapp.shell.currentWidget.content.widgets.length") == 1

    # Ctrl+] leaves; what scrolled away is looked at with a button, and comes back with a key.
    notebook.ask("link.say('\\r\\n'.join(f'line {at}' for at in range(60)))")
    shown.until(lambda: any(row.startswith("line 59") for row in shown.rows()))
    shown.field.send_keys(Keys.CONTROL, "]")
    shown.until(lambda: shown.focus() == "Earlier lines")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    shown.until(lambda: any(row.startswith("line 20") for row in shown.rows()))
    browser.switch_to.active_element.send_keys(Keys.TAB)
    assert shown.focus() == "Later lines"
    shown.field.send_keys("x")
    shown.until(lambda: any(row.startswith("line 59") for row in shown.rows()))

    # Sparklines are live; the end of the guest is said.
    notebook.ask("spark.add(8.0); link.out.put(b'')")
    shown.until(lambda: "8 ms" in browser.find_element(By.CSS_SELECTOR, ".wb-spark-words").text)
    shown.until(lambda: "has ended" in browser.find_element(By.CSS_SELECTOR, ".wb-terminal .wb-said").text)
    assert [each for each in requests_of(browser) if not each.startswith((address, "data:", "blob:", "about:"))] == []


PARTS = f"""import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
from IPython.display import display
from pathlib import Path
from small import Forked
from workbench import Case
from workbench.notebook import CapturePanel, CloneConsole, RewindButton
case = Case(Forked(Path({{path!r}})).build().path)
console, panel = CloneConsole(case.moment()), CapturePanel(case)
button = RewindButton(case.moment("2 captures ago"), "production")
button.work.wait(60)
display(console, panel, button)"""


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_panels_in_both_themes(browser: Chrome, address: str, place: Path, theme: str) -> None:
    name = theme.lower()
    notebook = Notebook(browser, address, place, f"panels-{name}.ipynb", PARTS.format(path=str(place / f"case-{name}")))
    wear(browser, theme)
    notebook.run()
    until(browser, lambda: "Rewind of demo" in browser.find_element(By.CSS_SELECTOR, ".jp-OutputArea").text)
    assert notebook.ask("print(button.go.disabled)") == "True"
    Page(browser, notebook).send('input[placeholder="type the guest\'s name"]', "demo")
    until(browser, lambda: notebook.ask("print(button.go.disabled)") == "False")
    keep(browser, f"panels-{name}")
    assert axe(browser, ".jp-OutputArea") == []
