"""The files of /proc/net: whether each is made by what the kernel made it with.

A rootkit that cannot write to constant operations puts operations of its own into the file's entry, which is in
ordinary memory. The entries are in a tree by name. Refuses a tree that does not end.

Sources: Linux 6.1 fs/proc/{internal.h,proc_net.c}, include/linux/rbtree.h.
"""

from __future__ import annotations

from collections.abc import Iterator

from workbench.errors import AnalysisError
from workbench.memory.detect.findings import Finding, as_hex
from workbench.memory.detect.pointers import Pointers

__all__ = ["find_replaced_sequences"]

_SEQUENCES = {
    "tcp": "tcp4_seq_ops", "tcp6": "tcp6_seq_ops", "udp": "udp_seq_ops", "udp6": "udp6_seq_ops", "raw": "raw_seq_ops",
    "raw6": "raw6_seq_ops", "unix": "unix_seq_ops", "packet": "packet_seq_ops", "arp": "arp_seq_ops",
}  # fmt: skip
"""By which operations the files are made that sockets are read from, where they are part of the kernel's image."""
_ENTRY = "proc_dir_entry"
_MOST_ENTRIES = 1 << 12
_RB_RIGHT, _RB_LEFT = 8, 16
_FORMAT, _REGULAR = 0o170000, 0o100000
_LONGEST_NAME = 255


def find_replaced_sequences(pointers: Pointers) -> Iterator[Finding]:
    """Yield the files of the first network namespace whose operations are not the kernel's.

    Raises
    ------
    UnreadableError
        If the entries lead to what is not mapped.
    AnalysisError
        If there is no /proc/net, or its entries do not end.
    """
    reader = pointers.reader
    directory = reader.member(reader.must("init_net"), "net", "proc_net")
    if not directory:
        raise AnalysisError("the kernel has no /proc/net")
    for entry in _entries(pointers, directory):
        if reader.member(entry, _ENTRY, "mode", 2) & _FORMAT != _REGULAR:
            continue
        name = reader.text(reader.member(entry, _ENTRY, "name"), _LONGEST_NAME)
        for member in ("seq_ops", "proc_ops"):
            target = reader.member(entry, _ENTRY, member)
            wrong = _wrong(pointers, name, member, target) if target else ""
            if wrong:
                evidence = f"{_ENTRY} {as_hex(entry)}: {member} is {as_hex(target)}"
                yield Finding("seq_ops_hook", f"/proc/net/{name} {member}", wrong, evidence, target)


def _entries(pointers: Pointers, directory: int) -> Iterator[int]:
    reader = pointers.reader
    inside = reader.offset(_ENTRY, "subdir_node")
    waiting, seen = [reader.member(directory, _ENTRY, "subdir")], set[int]()
    while waiting:
        node = waiting.pop()
        if not node:
            continue
        if node in seen or len(seen) >= _MOST_ENTRIES:
            raise AnalysisError("the tree of /proc/net does not end", address=hex(node), seen=len(seen))
        seen.add(node)
        waiting += [reader.word(node + _RB_RIGHT), reader.word(node + _RB_LEFT)]
        yield node - inside


def _wrong(pointers: Pointers, name: str, member: str, target: int) -> str:
    """Say what is wrong with the operations of a file; empty where nothing is."""
    names = pointers.names.at(target)
    expected = _SEQUENCES.get(name) if member == "seq_ops" else None
    if expected is not None and pointers.names.get(expected) is not None:
        found = names[0] if names else f"an address {pointers.where(target)}"
        return "" if expected in names else f"expected {expected}, found {found}"
    if names or pointers.module(target) is not None:
        return ""
    return f"expected operations of the kernel or of a module, found an address {pointers.where(target)}"
