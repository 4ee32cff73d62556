"""The demonstration's look into memory and disk: who is the intruder, since when, what was changed and wiped.

With the public API alone, and held against what the guest says that it did. Refuses to take "nothing found" for well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from workbench.case import Case
from workbench.errors import GuestError

__all__ = ["RULES", "MemoryReport", "look_at_disk", "look_into_memory"]

RULES = r"""
rule intruder
{
    strings:
        $file = "/tmp/.hidden/busybox-update"
    condition:
        $file
}
"""
"""What an analyst would write who has seen the intruder's file once."""


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """What memory says of the intruder.

    Attributes
    ----------
    process : dict
        pid, name, executable, started: of the program that runs from a deleted file.
    first_seen : Timestamp
        Of the first capture in which it was.
    first_mark : str
        That capture's mark.
    page : dict
        rule, address, where (file or "[heap]" ...), pid, process, time: the first page of that process with the
        intruder's mark.
    listens : str
        The address and port of the backdoor, and since when.
    """

    process: dict[str, Any]
    first_seen: pd.Timestamp
    first_mark: str
    page: dict[str, Any]
    listens: str


def look_into_memory(case: Case, planted: dict[str, dict[str, Any]]) -> MemoryReport:
    """Find the intruder in the recorded memory.

    Parameters
    ----------
    planted : dict
        The guest's own truth, by step.

    Raises
    ------
    GuestError
        If memory does not show what was planted.
    """
    moment = case.moment("alert-dropped_binary")
    finding = moment.vol("workbench.deleted_binaries")
    pid = planted["dropped_binary"]["pid"]
    if finding["pid"].tolist() != [pid]:
        raise GuestError("the detector does not find the deleted program", expected=pid, found=finding["pid"].tolist())
    process = moment.processes().set_index("pid", drop=False).loc[pid].to_dict()
    life = case.lifelines("processes").query("pid == @pid").iloc[0]
    hits = case.yara(RULES)
    page = hits[hits["pid"] == pid]
    if page.empty:
        raise GuestError("no page of the intruder carries its mark", pid=pid)
    marks = {mark.capture: mark.name for mark in case.marks() if mark.kind == "event"}
    return MemoryReport(
        process,
        life["first_seen"],
        marks.get(life["first_capture"], life["first_capture"][:12]),
        page.assign(where=page["path"].fillna(page["detail"])).iloc[0].to_dict(),
        _listening(case, planted["backdoor"]["port"]),
    )


def _listening(case: Case, port: int) -> str:
    sockets = case.lifelines("sockets")
    found = sockets[(sockets["Source Port"] == str(port)) & (sockets["State"] == "LISTEN")]
    if found.empty:
        raise GuestError("the backdoor's socket is not in memory", port=port)
    row = found.iloc[0]
    return f"{row['Process Name']} ({row['PID']}) on port {port} since {row['first_seen']:%H:%M:%S.%f}"[:-3]


def look_at_disk(case: Case) -> list[str]:
    """Return how the intruder changed /etc/passwd, and the log that was wiped, as it was before.

    Raises
    ------
    GuestError
        If the disk does not show it.
    """
    change = case.diff("before:alert-break_in", "alert-wiped_log").text("/etc/passwd").splitlines()
    wiped = case.moment("alert-wiped_log").read_text("/var/log/auth.log")
    # Of the step before: a regular capture may fall between the wiping and the one that is taken for it.
    before = case.moment("alert-persistence").read_text("/var/log/auth.log").splitlines()
    if not any(line.startswith("+sysupd") for line in change) or wiped or not before:
        raise GuestError("the disk does not show the second root, or the wiped log", change=change, wiped=wiped)
    return [*change, "", f"/var/log/auth.log, {len(before)} lines, now empty; the last of them:", *before[-3:]]
