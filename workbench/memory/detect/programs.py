"""The programs that processes run: the file that each was started from, its path, and whether it still has a name.

Refuses names longer than a file's can be, and paths that do not end.

Sources: Linux 6.1 include/linux/{dcache,fs,mount}.h, fs/mount.h, fs/d_path.c (prepend_path), mm/shmem.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.errors import UnreadableError
from workbench.memory.detect.processes import live_processes
from workbench.memory.detect.reading import Reader
from workbench.memory.detect.tasks import Task

__all__ = ["Program", "programs"]

_MOST_STEPS = 1024
_LONGEST_NAME = 255
_MEMFD = "memfd:"
_MINOR_BITS = 20


@dataclass(frozen=True, slots=True)
class Program:
    """A process and the file that it was started from.

    Attributes
    ----------
    task : Task
    path : str
        As it was; the guest's, not to be printed raw. A file that has no name any more keeps its last one.
    inode : int
        Its number.
    device : str
        "major:minor" of its file system.
    size : int
        Bytes.
    links : int
        Names that the file has.
    unhashed : bool
        Whether the name by which it was started was taken away.
    memfd : bool
        Whether it never had one: memory only (`memfd_create`).
    file, root : int
        Addresses of the `inode` and of its file system's `super_block`.
    """

    task: Task
    path: str
    inode: int
    device: str
    size: int
    links: int
    unhashed: bool
    memfd: bool
    file: int


def programs(reader: Reader) -> tuple[list[Program], list[str]]:
    """Return the programs of all live processes with memory of their own, and what could not be looked at.

    Raises
    ------
    AnalysisError
        If there is no process, or the kernel's types lack what is needed.
    """
    tasks, unseen = live_processes(reader)
    found = []
    for task in tasks:
        try:
            program = _program(reader, task) if task.mm and not task.is_kernel_thread else None
        except UnreadableError as error:
            unseen.append(f"the program of process {task.pid} cannot be read: {error}")
            continue
        if program is not None:
            found.append(program)
    return found, unseen


def _program(reader: Reader, task: Task) -> Program | None:
    file = reader.member(task.mm, "mm_struct", "exe_file")
    if not file:
        return None
    path = file + reader.offset("file", "f_path")
    mount, entry = reader.member(path, "path", "mnt"), reader.member(path, "path", "dentry")
    inode = reader.member(entry, "dentry", "d_inode")
    super_block = reader.member(inode, "inode", "i_sb")
    device = reader.member(super_block, "super_block", "s_dev", 4)
    name = _name(reader, entry)
    memfd = name.startswith(_MEMFD) and super_block == _shared_memory(reader)
    return Program(
        task,
        f"/{name}" if memfd else path_of(reader, mount, entry),
        reader.member(inode, "inode", "i_ino"),
        f"{device >> _MINOR_BITS}:{device & (1 << _MINOR_BITS) - 1}",
        reader.member(inode, "inode", "i_size"),
        reader.member(inode, "inode", "i_nlink", 4),
        _unhashed(reader, entry),
        memfd,
        inode,
    )


def _unhashed(reader: Reader, entry: int) -> bool:
    """Tell whether a name was taken away: it is in no table of names, and is not the root of anything."""
    hashed = reader.word(entry + reader.offset("dentry", "d_hash") + reader.offset("hlist_bl_node", "pprev"))
    return not hashed and reader.member(entry, "dentry", "d_parent") != entry


def _shared_memory(reader: Reader) -> int:
    """Return the file system that files of memory only are on (`shm_mnt`), 0 where the kernel names none."""
    at = reader.symbol("shm_mnt")
    return 0 if at is None else reader.member(reader.word(at), "vfsmount", "mnt_sb")


def _name(reader: Reader, entry: int) -> str:
    at = entry + reader.offset("dentry", "d_name")
    length = reader.member(at, "qstr", "len", 4)
    if length > _LONGEST_NAME:
        raise UnreadableError("a file's name is longer than one can be", length=length, address=hex(entry))
    return reader.read(reader.member(at, "qstr", "name"), length).decode("utf-8", "backslashreplace")


def path_of(reader: Reader, vfsmount: int, entry: int) -> str:
    """Return the path of a name, from the root of the outermost mount.

    Raises
    ------
    UnreadableError
        If part of it cannot be read, or it does not end.
    AnalysisError
        If the kernel's types lack what is needed.
    """
    mount = vfsmount - reader.offset("mount", "mnt")
    parts: list[str] = []
    for _ in range(_MOST_STEPS):
        top = reader.member(mount + reader.offset("mount", "mnt"), "vfsmount", "mnt_root")
        parent = reader.member(entry, "dentry", "d_parent")
        if entry not in (top, parent):
            parts.append(_name(reader, entry))
            entry = parent
            continue
        above = reader.member(mount, "mount", "mnt_parent")
        if above == mount:
            return "/" + "/".join(reversed(parts))
        mount, entry = above, reader.member(mount, "mount", "mnt_mountpoint")
    raise UnreadableError("a file's path does not end", address=hex(entry))
