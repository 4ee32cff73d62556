"""Hidden modules: those that one way of the kernel to its modules knows, and another does not.

Refuses to demand of a module that is just coming or going what it has only while it is live.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from workbench.errors import AnalysisError, UnreadableError
from workbench.memory.detect.findings import Finding, Report, as_hex
from workbench.memory.detect.module_views import (
    LIVE,
    kobject_view,
    list_modules,
    memory_view,
    module_name,
    module_state,
    tree_view,
)
from workbench.memory.detect.reading import Reader
from workbench.memory.detect.tasks import View
from workbench.memory.questions import Scene

__all__ = ["find_hidden_modules", "hidden_modules"]


def hidden_modules(scene: Scene) -> pd.DataFrame:
    """Look for modules that are missing from the list, from sysfs or from the tree of code addresses.

    Returns
    -------
    DataFrame
        As `Report.frame`; finding "hidden_module", address of its structure, subject its name; no pid, no process.

    Raises
    ------
    AnalysisError
        If the list of modules cannot be followed.
    """
    return find_hidden_modules(Reader(scene.sight)).frame()


def find_hidden_modules(reader: Reader) -> Report:
    """Compare the ways to the modules of a capture; a kernel without modules has none that are hidden."""
    if reader.symbol("modules") is None:
        return Report()
    listed = list_modules(reader)
    if listed.unseen:
        raise AnalysisError("; ".join(listed.unseen), capture=reader.sight.capture)
    linked = [view for view in (listed, kobject_view(reader), tree_view(reader)) if view is not None]
    views = [*linked, memory_view(reader)]
    report = Report(unseen=[each for view in views for each in view.unseen])
    # A structure that could not be followed to its end proves nothing by what it lacks.
    complete = [view for view in linked if not view.unseen]
    for address in sorted(set().union(*(view.found for view in views))):
        lacking = [view for view in complete if address not in view.found]
        if lacking:
            _judge(reader, address, views, lacking, report)
    return report


def _judge(reader: Reader, address: int, views: Sequence[View], lacking: Sequence[View], report: Report) -> None:
    try:
        state, name = module_state(reader, address), module_name(reader, address)
    except UnreadableError as error:
        report.unseen.append(f"a module at {as_hex(address)} cannot be read: {error}")
        return
    if state != LIVE and lacking[0] is not views[0]:
        return  # it is in the list, and comes or goes
    missing = " and the ".join(view.name for view in lacking)
    there = " and the ".join(view.name for view in views if address in view.found)
    reason = f"a loaded module must be in the {missing}; it is not, yet it is in the {there}"
    seen = ", ".join(f"{view.name}: {'yes' if address in view.found else 'no'}" for view in views)
    evidence = f"module {as_hex(address)}; {seen}; state {state}"
    report.findings.append(Finding("hidden_module", name, reason, evidence, address))
