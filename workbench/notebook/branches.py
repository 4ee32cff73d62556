"""The tree of a guest's directories as a frame: those that were opened, each with its entries below it.

A directory is listed when it is opened, and kept. Refuses to list what nobody opened.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator

import pandas as pd

from workbench.errors import DiskError

__all__ = ["ROOT", "Branches", "ancestors", "permissions"]

ROOT = "/"
_KINDS = {"directory": "d", "link": "l", "file": "-"}
_SHOWN = ["name", "kind", "size", "modified", "mode", "uid", "gid", "inode", "target", "path"]


def ancestors(path: str) -> list[str]:
    """Return the directories above a path, the root first."""
    parts = [part for part in path.split("/") if part]
    return [ROOT, *("/" + "/".join(parts[:count]) for count in range(1, len(parts)))]


def permissions(kind: str, mode: int) -> str:
    """Return a mode as `ls -l` writes it; the letter is of the kind as far as it is a common one."""
    return _KINDS.get(kind, "?") + stat.filemode(mode)[1:]


class Branches:
    """The opened part of the tree.

    Parameters
    ----------
    ls : callable
        Lists a directory, as `Moment.ls`.
    """

    def __init__(self, ls: Callable[[str], pd.DataFrame]) -> None:
        self._ls = ls
        self._opened: dict[str, pd.DataFrame] = {}

    @property
    def opened(self) -> list[str]:
        """The directories that are open, parents before children."""
        return sorted(self._opened)

    def open(self, path: str) -> None:
        """List a directory.

        Raises
        ------
        DiskError
        """
        if path not in self._opened:
            self._opened[path] = _entries(self._ls(path))

    def close(self, path: str) -> None:
        """Forget a directory and what was opened below it."""
        below = path.rstrip("/") + "/"
        self._opened = {key: value for key, value in self._opened.items() if key != path and not key.startswith(below)}

    def like(self, other: Branches) -> None:
        """Open what another tree has open, as far as it is here."""
        for path in other.opened:
            try:
                self.open(path)
            except DiskError:
                continue  # it is not there at this moment

    def frame(self) -> pd.DataFrame:
        """Return the tree.

        Returns
        -------
        DataFrame
            name (str; "+ " before a directory, "- " before an open one), kind, size, modified, mode (str), uid, gid,
            inode, target, path, depth (int64).
        """
        pieces = [piece.assign(depth=depth) for piece, depth in self._walk(ROOT, 0)]
        if not pieces:
            return pd.DataFrame(columns=[*_SHOWN, "depth"])
        frame = pd.concat(pieces, ignore_index=True)
        signs = zip(frame["name"], frame["path"], strict=True)
        marked = [f"- {name[2:]}" if path in self._opened else name for name, path in signs]
        frame["name"] = pd.Series(marked, dtype=object)  # pandas' own kind of text refuses what is not UTF-8
        return frame

    def _walk(self, directory: str, depth: int) -> Iterator[tuple[pd.DataFrame, int]]:
        """Yield runs of rows with their depth."""
        entries = self._opened.get(directory)
        if entries is None:
            return
        begin = 0
        for at, path in enumerate(entries["path"]):
            if path in self._opened:
                yield entries.iloc[begin : at + 1], depth
                yield from self._walk(path, depth + 1)
                begin = at + 1
        if begin < len(entries):
            yield entries.iloc[begin:], depth


def _entries(listed: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a directory as they are shown, directories first."""
    names = [str(path).rstrip("/").rpartition("/")[2] for path in listed["path"]]
    is_file = (listed["kind"] != "directory").tolist()
    order = sorted(range(len(names)), key=lambda at: (is_file[at], names[at]))
    found = listed.iloc[order].reset_index(drop=True)
    signs = ("  " if is_file[at] else "+ " for at in order)
    found["name"] = pd.Series([f"{sign}{names[at]}" for sign, at in zip(signs, order, strict=True)], dtype=object)
    modes = zip(found["kind"], found["mode"], strict=True)
    found["mode"] = [permissions(str(kind), int(mode)) for kind, mode in modes]
    found.attrs = {}
    return found[_SHOWN]
