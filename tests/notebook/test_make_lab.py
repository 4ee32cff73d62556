"""`make lab`: JupyterLab answers on this machine alone, at an address that needs nothing typed, with the quickstart."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("selenium")

from lab import free_port

ROOT = Path(__file__).parents[2]


def answers(address: str) -> None:
    """Wait until a server that has told its address listens there."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(address).close()
        except OSError:
            time.sleep(0.1)
        else:
            return


def test_the_address_that_is_printed_opens_the_quickstart(tmp_path: Path) -> None:
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "RUNTIME")}
    words = [str(ROOT / ".ci/lab"), "--no-browser", f"--ServerApp.port={free_port()}"]
    with subprocess.Popen(words, env={**os.environ, **folders}, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = (re.search(r"http://127\.0\.0\.1:\d+/lab/\S*\?token=\w+", line) for line in process.stderr)
        address = next(each[0] for each in said if each)
        try:
            answers(address)
            with urllib.request.urlopen(address) as page:
                told = page.read().decode()
            base, token = address.split("/lab/")[0], urlsplit(address).query
            with urllib.request.urlopen(f"{base}/api/contents/README.md?content=0&{token}") as answer:
                assert json.load(answer)["path"] == "README.md"
        finally:
            process.kill()
    assert urlsplit(address).path == "/lab/tree/notebooks/00-quickstart.ipynb"
    assert "rewind-workbench/static/launcher.js" in told or '"rewind-workbench"' in told
