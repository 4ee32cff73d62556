"""A report on paper: the page printed by Chromium. A rendering, not evidence: its dates differ with every run.

Refuses to look for a browser in other places than PATH, and to let it ask the network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from workbench.errors import StoreError, UnsupportedError, UsageError

__all__ = ["print_pdf"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_LONGEST_S = 600


def print_pdf(page: Path, target: Path) -> Path:
    """Print a page into a file that is not there yet.

    Raises
    ------
    UnsupportedError
        If there is no Chromium, or it fails.
    UsageError
        If the file is there.
    StoreError
        If it cannot be written.
    """
    browser = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if browser is None:
        raise UnsupportedError("a PDF is printed by Chromium, and there is none", cure="apt-get install chromium")
    if target.exists():
        raise UsageError("a file is there already", path=str(target), cure="Name a new one.")
    with tempfile.TemporaryDirectory(prefix="rewind-pdf-") as scratch:
        made = Path(scratch) / "page.pdf"
        _print(browser, page.absolute(), made, Path(scratch) / "profile")
        try:
            shutil.copyfile(made, target)
        except OSError as error:
            raise StoreError(f"the PDF cannot be written: {error.strerror}", path=str(target)) from error
    return target


def _print(browser: str, page: Path, made: Path, profile: Path) -> None:
    words = [
        browser,
        "--headless",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--no-pdf-header-footer",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={profile}",
        f"--print-to-pdf={made}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),  # Chromium's sandbox does not run as root
        page.as_uri(),
    ]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise UnsupportedError(f"Chromium did not print within {_LONGEST_S} s") from error
    if not made.is_file():
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UnsupportedError(f"Chromium did not print: {last[:300]}")
