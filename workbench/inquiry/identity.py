"""When two rows are the same thing, and what came, went and changed between two answers.

By identity, never by position: a process is its pid and start, a socket its address and holder. Refuses to call a row
new because something beside its identity changed.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

__all__ = ["VOLATILE", "compare", "identity_of", "keys"]

_IDENTITIES: dict[str, tuple[str, ...]] = {
    "workbench.processes": ("pid", "start_ns"),
    "linux.pslist.PsList": ("PID", "TID", "OFFSET (V)", "CREATION TIME"),
    "linux.pstree.PsTree": ("PID", "TID", "OFFSET (V)"),
    "linux.psaux.PsAux": ("PID", "PPID"),
    "linux.pidhashtable.PIDHashTable": ("PID", "TID", "OFFSET"),
    "linux.psscan.PsScan": ("PID", "TID", "OFFSET (P)"),
    "linux.lsmod.Lsmod": ("Module Name", "Offset"),
    "linux.sockstat.Sockstat": ("Sock Offset", "PID", "TID", "FD"),
    "linux.lsof.Lsof": ("PID", "TID", "FD", "Device", "Inode"),
    "linux.mountinfo.MountInfo": ("MNT_NS_ID", "MOUNT ID"),
    "linux.proc.Maps": ("PID", "Start"),
    "linux.envars.Envars": ("PID", "KEY"),
    "linux.kthreads.Kthreads": ("TID", "Handler Address"),
    "linux.pagecache.Files": ("SuperblockAddr", "InodeNum", "FilePath"),
    "linux.elfs.Elfs": ("PID", "Start"),
    "linux.library_list.LibraryList": ("Pid", "LoadAddress"),
    "linux.ip.Addr": ("NetNS", "Index", "IP"),
    "linux.ip.Link": ("NS", "Interface"),
    "linux.capabilities.Capabilities": ("Pid", "Tid"),
    "linux.ebpf.EBPF": ("Address",),
    "linux.malware.check_syscall.Check_syscall": ("Table Name", "Index"),
    "linux.malware.check_idt.Check_idt": ("Index",),
    "linux.malware.malfind.Malfind": ("PID", "Start"),
    "linux.malware.netfilter.Netfilter": ("Net NS", "Proto", "Hook", "Priority", "Handler"),
    "linux.bash.Bash": ("PID", "CommandTime", "Command"),
    "linux.kmsg.Kmsg": ("timestamp", "caller", "line"),
}
VOLATILE = frozenset({"depth"})
"""Columns that say where a row stands, not what it is."""


def identity_of(question: str, columns: Sequence[str]) -> list[str]:
    """Return the columns that make a row of an answer what it is; all of them where nothing better is known."""
    known = [name for name in _IDENTITIES.get(question, ()) if name in columns]
    return known or [name for name in columns if name not in VOLATILE]


def keys(frame: pd.DataFrame, identity: Sequence[str]) -> pd.Series:
    """Return a text per row, equal for rows that are the same thing; the n-th of several equal ones ends in `#n`."""
    if frame.empty:
        return pd.Series([], dtype="string")
    columns = [frame[name].map(_word, na_action=None) for name in identity]
    text = pd.Series(["\x1f".join(row) for row in zip(*columns, strict=True)], dtype="object", index=frame.index)
    nth = text.groupby(text).cumcount()
    return (text + nth.map(lambda count: f"#{count}" if count else "")).astype("string")


def _word(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return "" if value is None or value is pd.NA or value is pd.NaT else str(value)


def compare(question: str, before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return what came, went and changed.

    Returns
    -------
    DataFrame
        `change` (str: "came", "went" or "changed"), `changed` (str, the names of the columns that did), and the
        answer's own columns: of the later moment, for what went of the earlier one. What stayed has no row.
    """
    columns = list(dict.fromkeys([*after.columns, *before.columns]))
    identity = identity_of(question, columns)
    old, new = _keyed(before, columns, identity), _keyed(after, columns, identity)
    came, went, both = (
        new.index.difference(old.index),
        old.index.difference(new.index),
        new.index[new.index.isin(old.index)],
    )
    rest = [name for name in columns if name not in identity and name not in VOLATILE]
    differing = _differing(old.loc[both, rest], new.loc[both, rest]) if len(both) else pd.Series(dtype="object")
    differing = differing[differing != ""]
    parts = [
        _part(new.loc[came], "came", ""),
        _part(old.loc[went], "went", ""),
        _part(new.loc[differing.index], "changed", differing),
    ]
    found = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return found[["change", "changed", *columns]]


def _keyed(frame: pd.DataFrame, columns: list[str], identity: Sequence[str]) -> pd.DataFrame:
    whole = frame.reindex(columns=columns)
    return whole.set_axis(pd.Index(keys(whole, identity), name=None), axis=0)


def _differing(old: pd.DataFrame, new: pd.DataFrame) -> pd.Series:
    """Return, for each row, the names of the columns that differ, joined by commas."""
    names: list[list[str]] = [[] for _ in range(len(old))]
    for column in old.columns:
        pairs = zip(old[column].map(_word, na_action=None), new[column].map(_word, na_action=None), strict=True)
        for row, (one, two) in enumerate(pairs):
            if one != two:
                names[row].append(column)
    return pd.Series([", ".join(each) for each in names], index=old.index, dtype="object")


def _part(frame: pd.DataFrame, change: str, changed: str | pd.Series) -> pd.DataFrame:
    return frame.assign(change=change, changed=changed)
