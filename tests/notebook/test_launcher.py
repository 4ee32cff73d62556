"""The launcher's card: it is there, makes a notebook from the template, and what is in the notebook runs."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("selenium")

from axe import axe
from browser import requests_of
from jupyter_core.paths import jupyter_path
from lab import TOKEN, end_sessions
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

import workbench

ROOT = Path(__file__).parents[2]
CARD = '.jp-LauncherCard[title="A notebook that opens a case and shows its dashboard"]'


def test_the_card_makes_a_notebook_from_the_template(browser: Chrome, address: str, place: Path) -> None:
    folder = place / "incidents"
    folder.mkdir()
    end_sessions(browser, address)
    browser.get(f"{address}/lab/tree/incidents?token={TOKEN}&reset")
    card = WebDriverWait(browser, 200).until(lambda it: it.find_element(By.CSS_SELECTOR, CARD))
    assert card.text == "New incident notebook"
    assert card.find_elements(By.TAG_NAME, "svg")
    assert axe(browser, CARD) == []
    card.send_keys(Keys.ENTER)
    made = WebDriverWait(browser, 200).until(lambda _: next(folder.glob("incident-*.ipynb"), None))
    opened = "return jupyterapp.shell.currentWidget?.context?.path ?? ''"
    WebDriverWait(browser, 200).until(lambda it: it.execute_script(opened) == f"incidents/{made.name}")
    outside = [each for each in requests_of(browser) if not each.startswith((address, "data:", "blob:", "about:"))]
    assert outside == []

    notebook = nbformat.read(made, 4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name
    code = [each.source for each in notebook.cells if each.cell_type == "code"]
    assert code[0].startswith("%load_ext workbench")
    assert code[-1] == "workbench.app(case)"
    assert all(compile(each.replace("%load_ext", "#"), "cell", "exec") for each in code)


def test_an_installation_puts_it_where_jupyterlab_looks() -> None:
    """What is installed is told by pyproject.toml; where it is looked for, by Jupyter."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    (source, target) = next(iter(wheel["shared-data"].items()))
    assert any(Path(each) == Path(sys.prefix) / "share" / "jupyter" for each in jupyter_path())
    assert target == "share/jupyter/labextensions"
    told = json.loads((ROOT / source / "rewind-workbench" / "package.json").read_text())
    assert (ROOT / source / told["name"] / told["jupyterlab"]["_build"]["load"]).is_file()
    assert told["version"] == workbench.__version__
