"""Make a report of a case, and make it again to verify one.

Refuses to replace a file, and to take a capture by a name that may come to mean another: a report has whole ids.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import StoreError, UsageError
from workbench.evidence.page import page_of, statement_of
from workbench.evidence.running import Template, run
from workbench.evidence.statement import Statement
from workbench.progress import Progress, silent

__all__ = ["Report", "make_report", "write_new"]


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was made.

    Attributes
    ----------
    page : str
        HTML.
    statement : Statement
        What it says of itself.
    notebook : NotebookNode
        The template as it was run.
    """

    page: str
    statement: Statement
    notebook: Any


def make_report(
    case: Path,
    identity: str,
    template: Template,
    parameters: dict[str, str],
    *,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Report:
    """Run a template on a case and return the report.

    Parameters
    ----------
    identity : str
        The case's UUID.
    parameters : dict
        since, until (whole capture ids), guest (UUID).
    cache : Path, optional
        See `running.run`.

    Raises
    ------
    AnalysisError
        If a cell failed.
    """
    notebook = run(template, parameters, case, progress, cache=cache)
    statement = statement_of(notebook, identity, template, parameters)
    return Report(page_of(notebook, statement), statement, notebook)


def write_new(target: Path, content: str) -> Path:
    """Write a file that is not there yet; whole or not at all.

    Raises
    ------
    UsageError
        If something is there.
    StoreError
        If it cannot be written.
    """
    if target.exists():
        raise UsageError("a file is there already", path=str(target), cure="Name a new one.")
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.absolute().parent, prefix=".report-")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        os.replace(temporary, target)
    except OSError as error:
        raise StoreError(f"the report cannot be written: {error.strerror}", path=str(target)) from error
    return target
