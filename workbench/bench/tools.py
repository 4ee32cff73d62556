"""Programs that the bench runs, and what is in a directory. Refuses to hide what a program complained of."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from workbench.errors import GuestError, UnsupportedError

__all__ = ["allocated_bytes", "run", "total_bytes"]

_LIMIT = 600


def run(*words: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it printed.

    Raises
    ------
    UnsupportedError
        If it is not installed.
    GuestError
        If it fails or takes longer than ten minutes.
    """
    program = shutil.which(words[0])
    if program is None:
        raise UnsupportedError(f"{words[0]} is not installed", cure="See .ci/system-packages")
    command = [program, *(str(word) for word in words[1:])]
    surroundings = {**os.environ, **(env or {})}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LIMIT, check=False, env=surroundings, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GuestError(f"{words[0]}: {error}") from error
    if done.returncode:
        raise GuestError(f"{words[0]} failed: {' '.join(done.stderr.strip().splitlines()[-1:])}")
    return done.stdout


def total_bytes(directory: Path) -> int:
    """Return the bytes in all files of a directory, by their sizes."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def allocated_bytes(path: Path) -> int:
    """Return the bytes that a file, or all files of a directory, take on the volume."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(file.stat().st_blocks for file in files) * 512
