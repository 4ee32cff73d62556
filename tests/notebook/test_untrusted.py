"""Where a widget cannot be: a notebook that is not trusted, and HTML made of it, show the picture and run nothing."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

pytest.importorskip("selenium")

from browser import forget, requests_of, served, until
from lab import KERNEL, TOKEN, end_sessions
from nbconvert import HTMLExporter
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from small import MARKUP, Forked, inert

from workbench.case import Case
from workbench.notebook.timeline import Timeline

PICTURE = 'img[alt^="<Timeline of 8 captures"]'
DRAWN = "const [it] = arguments; return it.complete && it.naturalWidth"


@pytest.fixture
def kept(tmp_path: Path) -> nbformat.NotebookNode:
    """A notebook whose timeline was shown and kept, of a guest with a hostile name; its kernel is gone."""
    with Case(Forked(tmp_path / "case").build(MARKUP).path) as case:
        data, metadata = Timeline(case)._repr_mimebundle_()
    output = nbformat.v4.new_output("execute_result", data, metadata=metadata, execution_count=1)
    script = nbformat.v4.new_output("display_data", {"text/html": "<script>window.hacked = 1</script><p>here</p>"})
    cell = nbformat.v4.new_code_cell("timeline", outputs=[output, script], execution_count=1)
    return nbformat.v4.new_notebook(cells=[cell], metadata=KERNEL)


def test_a_notebook_that_is_not_trusted_shows_the_picture(
    browser: Chrome, address: str, place: Path, kept: nbformat.NotebookNode
) -> None:
    nbformat.write(kept, place / "untrusted.ipynb")
    end_sessions(browser, address)
    browser.get(f"{address}/lab/tree/untrusted.ipynb?token={TOKEN}&reset")
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, PICTURE))
    assert len(browser.find_elements(By.CSS_SELECTOR, PICTURE)) == 1
    until(browser, lambda: browser.execute_script(DRAWN, browser.find_element(By.CSS_SELECTOR, PICTURE)) == 900)
    trusted = "return jupyterapp.shell.currentWidget.content.widgets[0].model.trusted"
    assert browser.execute_script(trusted) is False
    assert browser.execute_script("return window.hacked ?? null") is None
    outside = [each for each in requests_of(browser) if not each.startswith((address, "data:", "blob:", "about:"))]
    assert outside == []


def test_html_without_a_kernel_shows_the_picture(
    browser: Chrome, kept: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a report is made: the widgets said their stills, and the page asks for nothing."""
    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    with Case(Forked(tmp_path / "again").build(MARKUP).path) as case:
        data, _ = Timeline(case)._repr_mimebundle_()
    kept.cells[0].outputs = [nbformat.v4.new_output("execute_result", data, execution_count=1)]
    exporter = HTMLExporter(template_name="basic")
    html, _ = exporter.from_notebook_node(kept)
    forget(browser)
    with served(
        {"/": ("text/html; charset=utf-8", f'<!doctype html><link rel="icon" href="data:,">{html}')}
    ) as address:
        browser.get(address)
        (picture,) = browser.find_elements(By.CSS_SELECTOR, PICTURE)
        until(browser, lambda: browser.execute_script(DRAWN, picture) == 900)
        assert inert(browser.find_element(By.TAG_NAME, "body").text)
        assert browser.execute_script("return window.hacked ?? null") is None
        asked = [each for each in requests_of(browser) if not each.startswith("data:")]
        assert set(asked) <= {address, "about:blank"}
