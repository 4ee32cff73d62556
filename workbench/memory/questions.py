"""What can be asked of a moment: Volatility's plugins by their names, and our own questions, `workbench.*`.

An own question is a function of a scene and its arguments that returns a DataFrame; it is answered in a worker, cached,
compared and followed over time like a plugin. Refuses arguments that it does not take.
"""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import UsageError, WorkbenchError
from workbench.inquiry.answer import Answer
from workbench.inquiry.answers import READING
from workbench.memory.volatility.sight import Sight
from workbench.store import CaptureView, CaseStore

__all__ = ["OWN", "Scene", "ask", "is_own"]

OWN: dict[str, str] = {
    "workbench.kernel": "workbench.memory.volatility.kernel_facts:kernel_facts",
    "workbench.processes": "workbench.memory.volatility.processes:processes",
    "workbench.yara": "workbench.memory.scan:yara",
    "workbench.read": "workbench.memory.reading:read",
    "workbench.strings": "workbench.memory.strings:strings",
    "workbench.process_maps": "workbench.memory.reading:process_maps",
    "workbench.process_dump": "workbench.memory.reading:process_dump",
    "workbench.owners": "workbench.memory.owners:owners",
    "workbench.pages": "workbench.memory.pages:pages",
    "workbench.findings": "workbench.memory.findings:findings",
    "workbench.cached": "workbench.memory.cached:cached",
    "workbench.executed": "workbench.memory.code:executed",
    "workbench.detect": "workbench.memory.detect.all:detect",
    "workbench.hidden_processes": "workbench.memory.detect.processes:hidden_processes",
    "workbench.hidden_modules": "workbench.memory.detect.modules:hidden_modules",
    "workbench.hooks": "workbench.memory.detect.hooks:hooks",
    "workbench.deleted_binaries": "workbench.memory.detect.binaries:deleted_binaries",
    "workbench.memfd_executables": "workbench.memory.detect.binaries:memfd_executables",
    "workbench.mimics": "workbench.memory.detect.mimics:mimics",
}
"""Own questions by name: module and function."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Scene:
    """What an own question may look at.

    Attributes
    ----------
    store : CaseStore
        The case, for comparisons with other captures and for disks.
    view : CaptureView
        The capture that is asked.
    sight : Sight
        Its memory under Volatility.
    progress : callable
        Told percent and words.
    """

    store: CaseStore
    view: CaptureView
    sight: Sight
    progress: Progress


def is_own(name: str) -> bool:
    """Tell whether a question is one of ours."""
    return name.startswith("workbench.")


def ask(scene: Scene, name: str, arguments: Mapping[str, Any], files: Path | None = None) -> Answer:
    """Answer a question.

    Raises
    ------
    UsageError
        If there is no such question, or it does not take these arguments.
    AnalysisError, StoreError
    """
    if not is_own(name):
        return scene.sight.run(name, arguments, files, scene.progress)
    function = _function(name)
    taken = list(inspect.signature(function).parameters)[1:]
    if unknown := set(arguments) - set(taken):
        raise UsageError(f"{name} takes no {', '.join(sorted(unknown))}", takes=taken)
    began = time.monotonic()
    frame = function(scene, **arguments)
    facts = {
        "capture": scene.view.record.id,
        "plugin": name,
        "arguments": dict(arguments),
        "versions": {"workbench": str(READING)},
        "kernel": scene.sight.kernel.release,
        "configuration": {},
        "seconds": round(time.monotonic() - began, 3),
    }
    error = frame.attrs.pop("error", "")
    return Answer(frame, facts, error=error)


def _function(name: str) -> Callable[..., pd.DataFrame]:
    if name not in OWN:
        raise UsageError(f"no question {name!r}", known=sorted(OWN))
    module, function = OWN[name].split(":")
    try:
        found: Callable[..., pd.DataFrame] = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise WorkbenchError(f"{name} cannot be asked here: {error}") from error
    return found
