"""Paths of inodes: names from the kernel's cache of directory entries, below the mount point of their file system.

Source: Linux include/linux/dcache.h, fs.h, fs/mount.h. All entries of one depth are read together.

Refuses chains without an end, and names longer than Linux allows. Names are the guest's: not to be printed raw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.memory.owning.frames import U64
from workbench.memory.owning.structures import Moment
from workbench.memory.owning.virtual import field, strings

__all__ = ["File", "Paths"]

_DEEPEST = 128
_LONGEST_NAME = 256
_LONGEST_PATH = 4096
_MOST_MOUNTS = 32
_MOST_ENTRIES = 1 << 19


@dataclass(frozen=True, slots=True)
class File:
    """What a file is called.

    Attributes
    ----------
    path : str
        Empty where the kernel has forgotten its name.
    detail : str
        "deleted", or which inode it is where it has no name.
    """

    path: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """A directory entry."""

    parent: int
    name: str
    block: int
    unlinked: bool


class Paths:
    """Paths in one moment; what was looked up is kept.

    Attributes
    ----------
    error : str
        What was cut; empty where nothing was.
    """

    def __init__(self, moment: Moment) -> None:
        self._moment = moment
        self.error = ""
        self._entries: dict[int, _Entry] = {}
        self._mounted: dict[int, str] = {}

    def of_inodes(self, inodes: U64) -> list[File]:
        """Return what inodes are called, by their first name.

        Parameters
        ----------
        inodes : (n,) uint64
            Virtual addresses.

        Raises
        ------
        SymbolsError, StoreError
        """
        structures, words = self._moment.structures, self._moment.virtual.words
        link = words(inodes + np.uint64(structures.offset("inode", "i_dentry.first")))
        entries = np.where(link != 0, link - np.uint64(structures.offset("dentry", "d_u.d_alias")), np.uint64(0))
        numbers = words(inodes + np.uint64(structures.offset("inode", "i_ino"))).tolist()
        blocks = words(inodes + np.uint64(structures.offset("inode", "i_sb"))).tolist()
        self._learn(entries[entries != 0])
        return [
            self._file(entry) if entry else File("", f"inode {number} of {self._file_system(block)}, without a name")
            for entry, number, block in zip(entries.tolist(), numbers, blocks, strict=True)
        ]

    def of_entries(self, entries: U64) -> list[File]:
        """Return what directory entries are called; 0 is nothing.

        Raises
        ------
        SymbolsError, StoreError
        """
        self._learn(entries[entries != 0])
        return [self._file(entry) if entry else File("", "") for entry in entries.tolist()]

    def _learn(self, entries: U64) -> None:
        """Read entries and all above them."""
        structures, virtual = self._moment.structures, self._moment.virtual
        at = {
            name: structures.offset("dentry", name)
            for name in ("d_parent", "d_name.name", "d_name.len", "d_sb", "d_hash.pprev")
        }
        todo = np.unique(entries)
        for _ in range(_DEEPEST):
            todo = np.array([each for each in todo.tolist() if each and each not in self._entries], np.uint64)
            if len(self._entries) + len(todo) > _MOST_ENTRIES:
                self.error = f"more than {_MOST_ENTRIES:,} names in paths: some paths are cut"
                return
            if not len(todo):
                return
            rows, _whole = virtual.gather(todo, min(4096, structures.size("dentry")))
            length = np.minimum(field(rows, at["d_name.len"], "<u4"), _LONGEST_NAME - 1).astype(np.int64)
            text, _whole = virtual.gather(field(rows, at["d_name.name"]), _LONGEST_NAME)
            text[np.arange(_LONGEST_NAME)[None, :] >= length[:, None]] = 0
            parent, block, hashed = (field(rows, at[name]) for name in ("d_parent", "d_sb", "d_hash.pprev"))
            for each in zip(
                todo.tolist(), parent.tolist(), strings(text), block.tolist(), hashed.tolist(), strict=True
            ):
                self._entries[each[0]] = _Entry(each[1], each[2], each[3], each[4] == 0)
            todo = np.unique(parent)

    def _file(self, entry: int) -> File:
        names, block = self._names(entry)
        path = self._mount(block) + "/" + "/".join(reversed(names))
        found = self._entries.get(entry)
        gone = found is not None and found.unlinked and found.parent != entry
        return File(path[:_LONGEST_PATH], "deleted" if gone else "")

    def _names(self, entry: int) -> tuple[list[str], int]:
        """Return the names from an entry up to its file system's root, and that file system."""
        names: list[str] = []
        block = 0
        for _ in range(_DEEPEST):
            found = self._entries.get(entry)
            if found is None:
                break
            block = found.block
            if found.parent == entry:
                break
            names.append(found.name)
            entry = found.parent
        return names, block

    def _mount(self, block: int) -> str:
        """Return where a file system is mounted, without a last "/"; its kind in brackets where it is not."""
        if block not in self._mounted:
            self._mounted[block] = f"[{self._file_system(block)}]"  # what a cycle of mounts comes back to
            self._mounted[block] = self._mount_point(block)
        return self._mounted[block]

    def _mount_point(self, block: int) -> str:
        structures, word = self._moment.structures, self._moment.word
        head = block + structures.offset("super_block", "s_mounts")
        first = word(head)
        mount = first - structures.offset("mount", "mnt_instance")
        if not first or first == head or not word(mount + structures.offset("mount", "mnt_ns")):
            return self._mounted[block]
        parts: list[str] = []
        for _ in range(_MOST_MOUNTS):
            parent = word(mount + structures.offset("mount", "mnt_parent"))
            if parent in (0, mount):
                break
            point = word(mount + structures.offset("mount", "mnt_mountpoint"))
            self._learn(np.array([point], np.uint64))
            parts += self._names(point)[0]
            mount = parent
        return "".join(f"/{name}" for name in reversed(parts))

    def _file_system(self, block: int) -> str:
        structures, word = self._moment.structures, self._moment.word
        kind = word(block + structures.offset("super_block", "s_type"))
        name = word(kind + structures.offset("file_system_type", "name"))
        return strings(self._moment.virtual.gather(np.array([name], np.uint64), 32)[0])[0] or "a file system"
