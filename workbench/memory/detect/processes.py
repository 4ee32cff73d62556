"""Hidden processes: those that some of the kernel's own structures know and others, which they must be in, do not.

Refuses to call a thread, a zombie, a process that is just made or an idle task hidden, and to be silent where a
structure could not be followed.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from workbench.errors import AnalysisError, UnreadableError
from workbench.memory.detect.findings import Finding, Report, as_hex
from workbench.memory.detect.reading import Reader
from workbench.memory.detect.task_scan import scan_view
from workbench.memory.detect.tasks import (
    Task,
    View,
    children_view,
    is_live,
    is_process,
    list_view,
    number_view,
    read_task,
)
from workbench.memory.questions import Scene

__all__ = ["find_hidden", "hidden_processes", "live_processes"]


def hidden_processes(scene: Scene) -> pd.DataFrame:
    """Look for processes that are missing from the task list, the process numbers or their parent's children.

    Returns
    -------
    DataFrame
        As `Report.frame`; finding "hidden_process", address of the task, subject its name.

    Raises
    ------
    AnalysisError
        If the task list itself cannot be followed.
    """
    return find_hidden(Reader(scene.sight)).frame()


def find_hidden(reader: Reader) -> Report:
    """Compare the ways to the processes of a capture."""
    listed = list_view(reader)
    if listed.unseen:
        raise AnalysisError("; ".join(listed.unseen), capture=reader.sight.capture)
    numbers, children = number_view(reader), children_view(reader)
    known = listed.found | numbers.found | children.found
    scanned = scan_view(reader, known)
    views = (listed, numbers, children, scanned)
    # A structure that could not be followed to its end proves nothing by what it lacks.
    complete = [view for view in (listed, numbers, children) if not view.unseen]
    report = Report(unseen=[each for view in views for each in view.unseen])
    for address in sorted(known | scanned.found):
        lacking = [view for view in complete if address not in view.found]
        if lacking and (task := _live(reader, address, report)) is not None:
            report.findings.append(_hidden(task, views, lacking))
    return report


def _live(reader: Reader, address: int, report: Report) -> Task | None:
    try:
        task = read_task(reader, address)
    except UnreadableError as error:
        report.unseen.append(f"a task at {as_hex(address)} cannot be read: {error}")
        return None
    return task if is_live(task) and is_process(task) else None


def _hidden(task: Task, views: Sequence[View], lacking: Sequence[View]) -> Finding:
    missing = " and the ".join(view.name for view in lacking)
    there = " and the ".join(view.name for view in views if task.address in view.found)
    reason = f"a live process must be in the {missing}; it is not, yet it is in the {there}"
    seen = ", ".join(f"{view.name}: {'yes' if task.address in view.found else 'no'}" for view in views)
    evidence = f"task {as_hex(task.address)}; {seen}; state {task.state:#x}, references {task.usage}"
    return Finding("hidden_process", task.comm, reason, evidence, task.address, task.pid, task.comm)


def live_processes(reader: Reader) -> tuple[list[Task], list[str]]:
    """Return the live processes by number that list, numbers or parents lead to, and what could not be looked at.

    Raises
    ------
    AnalysisError
        If there is none.
    """
    views = (list_view(reader), number_view(reader), children_view(reader))
    report = Report(unseen=[each for view in views for each in view.unseen])
    found = [_live(reader, each, report) for each in sorted(set().union(*(view.found for view in views)))]
    tasks = sorted((task for task in found if task is not None), key=lambda task: (task.pid, task.address))
    if not tasks:
        raise AnalysisError("no live process was found", unseen=report.unseen)
    return tasks, report.unseen
