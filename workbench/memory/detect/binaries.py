"""Programs without a file to look at: run from one that was deleted, or from memory that never was a file.

Both are ways to leave nothing on the disk. A program that was replaced while it runs (an upgrade) looks like a deleted
one, and container runtimes start themselves from memory: the path says which. Refuses to judge which of them it is.
"""

from __future__ import annotations

import pandas as pd

from workbench.memory.detect.findings import Finding, Report, as_hex
from workbench.memory.detect.programs import Program, programs
from workbench.memory.detect.reading import Reader
from workbench.memory.questions import Scene

__all__ = ["deleted_binaries", "find_deleted", "find_memfd", "memfd_executables"]


def deleted_binaries(scene: Scene) -> pd.DataFrame:
    """Look for processes whose program has no name any more.

    Returns
    -------
    DataFrame
        As `Report.frame`; finding "deleted_binary", subject the path that it was started by (without " (deleted)"),
        address of the file's `inode`; the content may still be in the page cache under that inode.

    Raises
    ------
    AnalysisError
        If no process can be found.
    """
    return find_deleted(Reader(scene.sight)).frame()


def memfd_executables(scene: Scene) -> pd.DataFrame:
    """Look for processes whose program is memory that never had a name.

    Returns
    -------
    DataFrame
        As `Report.frame`; finding "memfd_executable", subject "/memfd:" and the name it was given, address of the
        file's `inode`.

    Raises
    ------
    AnalysisError
        If no process can be found.
    """
    return find_memfd(Reader(scene.sight)).frame()


def find_deleted(reader: Reader) -> Report:
    """Find the programs of a capture that were deleted."""
    found, unseen = programs(reader)
    gone = [each for each in found if not each.memfd and (each.links == 0 or each.unhashed)]
    return Report([_finding("deleted_binary", each, _deleted(each)) for each in gone], unseen)


def _deleted(program: Program) -> str:
    if program.links:
        return "a program's file must have the name it was started by; the name is gone, another is left"
    return "a program's file must have a name; it was deleted or replaced while the program runs"


def find_memfd(reader: Reader) -> Report:
    """Find the programs of a capture that are memory only."""
    found, unseen = programs(reader)
    reason = "a program must come from a file; it was started from memory (memfd_create) that never was one"
    return Report([_finding("memfd_executable", each, reason) for each in found if each.memfd], unseen)


def _finding(kind: str, program: Program, reason: str) -> Finding:
    evidence = (
        f"inode {program.inode} at {as_hex(program.file)} on device {program.device}, {program.size} bytes, "
        f"{program.links} names, name in use: {'no' if program.unhashed else 'yes'}"
    )
    task = program.task
    return Finding(kind, program.path, reason, evidence, program.file, task.pid, task.comm)
