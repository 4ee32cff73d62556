"""A JupyterLab of one's own, and a notebook in it driven by Chromium: its own folders and token, no news.

Tests of the notebook use it too. Refuses to use what the user has set, and any address but 127.0.0.1.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome

import workbench
from workbench.bench.browser import forget, until

__all__ = ["KERNEL", "TOKEN", "Notebook", "end_sessions", "free_port", "jupyterlab", "wear"]

_START_S = 300
TOKEN = secrets.token_hex(16)
EXTENSIONS = Path(workbench.__file__).parent / "notebook" / "labextensions"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # without it, a dialog asks
ASK = """const [code, done] = arguments, said = [];
const asked = jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code });
asked.onIOPub = (m) => said.push(m.content.text ?? m.content.evalue ?? "");
asked.done.then(() => done(said.join("")));"""
OPEN = """const done = arguments[0], begin = async () => {
  const panel = jupyterapp.shell.currentWidget;
  if (!panel?.sessionContext) return setTimeout(begin, 100);
  await panel.context.ready; await panel.sessionContext.ready;
  const kernel = () => panel.sessionContext.session?.kernel?.connectionStatus;
  const wait = () => kernel() === "connected" ? done(true) : setTimeout(wait, 50);
  wait();
};
begin();"""
# Runs the cells and times until the widget has been drawn and its picture is on the screen.
RUN = """const done = arguments[0], began = performance.now();
jupyterapp.commands.execute("notebook:run-all-cells");
const look = () => document.querySelector("[data-ready-ms]")
  ? requestAnimationFrame(() => done(performance.now() - began)) : setTimeout(look, 5);
look();"""

APPEND = """const [source, done] = arguments, notebook = jupyterapp.shell.currentWidget.content;
const at = notebook.widgets.length;
notebook.model.sharedModel.insertCell(at, { cell_type: "code", source });
notebook.deselectAll(); notebook.activeCellIndex = at;
jupyterapp.commands.execute("notebook:run-cell").then(() => { notebook.scrollToItem(at); done(true); });"""


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def jupyterlab(place: Path) -> Iterator[str]:
    """Start a server over a folder and yield its address; it ends with the body."""
    port = free_port()
    home = place / ".jupyter"
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false"}))
    tracker = home / "settings" / "@jupyterlab" / "notebook-extension"
    tracker.mkdir()
    # Every cell is on the page, whether or not it is in sight.
    (tracker / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))
    folders = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = {
        **os.environ, **folders, "JUPYTER_PREFER_ENV_PATH": "1", "IPYTHONDIR": str(home / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }  # fmt: skip
    words = (
        "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={place}", "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly",
        "--LabApp.expose_app_in_browser=True", f"--LabServerApp.extra_labextensions_path={EXTENSIONS}",
    )  # fmt: skip
    with (place / "lab.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *words], env=environment, stdout=log, stderr=log
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _await(address, process, place / "lab.log")
            yield address
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server; one that waits for a kernel that is only just starting is not waited for."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)


def _await(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/api?token={TOKEN}").close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(log.read_text())


def wear(browser: Chrome, theme: str) -> None:
    """Let JupyterLab wear a theme, "Light" or "Dark", and wait until its style sheet is there."""
    word = f"JupyterLab {theme}"
    browser.execute_script("jupyterapp.commands.execute('apputils:change-theme', { theme: arguments[0] })", word)
    light = str(theme == "Light").lower()
    until(browser, lambda: browser.execute_script("return document.body.dataset.jpThemeLight") == light)
    colour = "return getComputedStyle(document.body).getPropertyValue('--jp-layout-color1').trim().toLowerCase()"
    white = ("white", "#fff", "#ffffff")
    until(browser, lambda: (browser.execute_script(colour) in white) == (theme == "Light"))


def end_sessions(browser: Chrome, address: str) -> None:
    """End the kernels of earlier notebooks; the page that shows one is left first."""
    forget(browser)
    asked = f"{address}/api/sessions"
    with urllib.request.urlopen(f"{asked}?token={TOKEN}") as answer:
        running = json.load(answer)
    for each in running:
        head = {"Authorization": f"token {TOKEN}"}
        urllib.request.urlopen(urllib.request.Request(f"{asked}/{each['id']}", method="DELETE", headers=head)).close()


class Notebook:
    """A notebook open in a browser: one of one cell with this code, or the one that is there."""

    def __init__(self, browser: Chrome, address: str, place: Path, name: str, code: str | None = None) -> None:
        self.browser = browser
        end_sessions(browser, address)
        if code is not None:
            _write(place / name, code)
        browser.set_script_timeout(500)  # the kernel may be asked to wait for what it does
        browser.get(f"{address}/lab/tree/{name}?token={TOKEN}&reset")
        until(browser, lambda: browser.execute_script("return Boolean(window.jupyterapp?.shell?.currentWidget)"))
        browser.execute_async_script(OPEN)

    def run(self) -> float:
        """Run the cell and return the ms until the timeline is drawn."""
        return float(self.browser.execute_async_script(RUN))

    def append(self, code: str) -> None:
        """Add a cell at the end, run it and look at it."""
        self.browser.execute_async_script(APPEND, code)

    def ask(self, code: str) -> str:
        """Run code in the kernel and return what it printed."""
        return str(self.browser.execute_async_script(ASK, code)).strip()


def _write(path: Path, code: str) -> None:
    """Write a notebook of one cell."""
    cell: dict[str, Any] = {
        "id": "cell",
        "cell_type": "code",
        "source": code,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": KERNEL, "cells": [cell]}))
