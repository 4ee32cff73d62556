"""The rules of a guest's configuration as one text: what is written there, and files of the service's own directory.

Whether they compile is found out in a process of its own. Refuses a path: whoever configures a guest over the network
must not have the service read any other file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from workbench.errors import UsageError
from workbench.memory.rules import read_rules
from workbench.service.configuration import IncrementSettings
from workbench.store.told import as_error

__all__ = ["check", "rules_text"]

_CHECK_S = 120.0


def rules_text(wanted: IncrementSettings, directory: Path | None) -> str:
    """Return the text of all rules; empty where there are none.

    Parameters
    ----------
    wanted : IncrementSettings
    directory : Path or None
        Where files of rules lie.

    Raises
    ------
    UsageError
        If there is no such file, it is no text, or too much.
    StoreError
        If a file cannot be read.
    """
    if wanted.rule_files and directory is None:
        raise UsageError(
            "the service has no directory of rules", cure="Name one with `rules` in its settings, or send the text."
        )
    parts = [wanted.rules] if wanted.rules.strip() else []
    for name in wanted.rule_files:
        assert directory is not None
        parts.append(f"//== rules {name} ==\n{read_rules(directory / name)}")
    return "\n".join(parts)


def check(wanted: IncrementSettings, directory: Path | None) -> None:
    """Make sure that rules are there and compile.

    Raises
    ------
    UsageError
        If not: the file, line and column where.
    StoreError
        If a file cannot be read.
    """
    text = rules_text(wanted, directory)
    if not text:
        return
    words = [sys.executable, "-m", "workbench.service.examiner", "check"]
    try:
        done = subprocess.run(
            words, input=json.dumps({"rules": text}), capture_output=True, text=True, timeout=_CHECK_S, check=False
        )
        told = json.loads(done.stdout)
    except (ValueError, subprocess.TimeoutExpired):
        cure = "Use fewer of them, or smaller ones."
        raise UsageError("whether the rules compile could not be found out", cure=cure) from None
    if "error" in told:
        raise as_error(told["error"])
