"""All detectors at once, in one table.

Refuses to let one that cannot look keep the others from it, and to leave out that it could not.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from workbench.errors import AnalysisError
from workbench.memory.detect.binaries import find_deleted, find_memfd
from workbench.memory.detect.findings import Report
from workbench.memory.detect.hooks import find_hooks
from workbench.memory.detect.mimics import find_mimics
from workbench.memory.detect.modules import find_hidden_modules
from workbench.memory.detect.processes import find_hidden
from workbench.memory.detect.reading import Reader
from workbench.memory.questions import Scene

__all__ = ["DETECTORS", "detect"]

DETECTORS: dict[str, Callable[[Reader], Report]] = {
    "hidden_processes": find_hidden,
    "hidden_modules": find_hidden_modules,
    "hooks": find_hooks,
    "deleted_binaries": find_deleted,
    "memfd_executables": find_memfd,
    "mimics": find_mimics,
}
"""The detectors by the name of their question, without "workbench."."""


def detect(scene: Scene) -> pd.DataFrame:
    """Ask all detectors.

    Returns
    -------
    DataFrame
        As `Report.frame`, the findings of one after those of another; empty where nothing was found.
        `attrs["error"]` names each detector that could not look, and why.

    Raises
    ------
    StoreError
        If the capture cannot be read.
    """
    reader, report = Reader(scene.sight), Report()
    for number, (name, find) in enumerate(DETECTORS.items()):
        scene.progress(100 * number / len(DETECTORS), f"Looking for {name.replace('_', ' ')}")
        try:
            found = find(reader)
        except AnalysisError as error:
            found = Report(unseen=[str(error)])
        report.add(Report(found.findings, [f"{name}: {each}" for each in found.unseen]))
    return report.frame()
