"""What file systems read through a library have in common: walking, look-ups, damage, and whose fault an error is.

A library says of a failed read only that it failed; its view of the volume (`Source`) keeps what the store said, which
is raised instead. Refuses walks without an end: names, depth and lengths of paths are bounded, what is cut is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, TypeVar

from workbench.disk.content import Content
from workbench.disk.filesystem import Entry, Extent, State
from workbench.disk.image import Slice
from workbench.disk.signatures import Signature
from workbench.errors import DiskError, NoSuchFileError
from workbench.store.lru import BoundedCache

__all__ = ["LibraryFileSystem", "Source"]

_MOST_ENTRIES = 20_000_000
_MOST_DEPTH = 2048
_MOST_PATH = 65536
_MOST_DAMAGE = 1000
_NAMES = 400_000
"""Names of directories kept for look-ups."""
T = TypeVar("T")
Listing = Callable[[int, str, bool], Iterable[tuple[T | None, str, int | None]]]
"""Inode of a directory, its path, and whether it is the root, to what is in it: what to yield, its path, and the inode
where that is a directory to go down into."""


class Source(Content):
    """A volume as a library reads it; keeps the error that a read ended with."""

    def __init__(self, volume: Slice) -> None:
        super().__init__(volume.size)
        self._volume = volume
        self.failed: Exception | None = None

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes that lie inside.

        Raises
        ------
        DiskError, StoreError
        """
        try:
            return self._volume.read(offset, length)
        except Exception as error:
            self.failed = error
            raise

    def get_size(self) -> int:
        """Return the bytes of the volume, as libyal asks for them."""
        return self.size


class LibraryFileSystem:
    """A file system read through a library; who derives says how entries are listed and looked at.

    Attributes
    ----------
    As `FileSystem` says.
    """

    _root: int
    _source: Source

    def __init__(self, volume: Slice, signature: Signature, state: State) -> None:
        self.volume = volume
        self.kind, self.label, self.uuid = signature.kind, signature.label, signature.uuid
        self.cluster = signature.cluster
        self.state: State = state
        self._damage: list[str] = []
        self._names: BoundedCache[int, dict[str, int]] = BoundedCache(_NAMES)

    # What a library has to say.

    def _listed(self, inode: int, path: str, *, first: bool = False) -> Iterator[Entry]:
        """Yield the entries of a directory; those that cannot be read are counted.

        Raises
        ------
        DiskError
            If the directory cannot be read, and is the `first`.
        StoreError
        """
        raise NotImplementedError

    def _at(self, inode: int, path: str) -> Entry:
        """Return an inode as an entry.

        Raises
        ------
        DiskError
            If there is none.
        StoreError
        """
        raise NotImplementedError

    # Damage.

    def note(self, *lines: str) -> None:
        """Add lines to `damage`, as long as there are not too many."""
        self._damage += lines[: max(0, _MOST_DAMAGE - len(self._damage))]

    def damage(self) -> list[str]:
        """Return what could not be read so far, a line each."""
        return list(self._damage)

    def _fail(self, words: str, error: Exception) -> NoReturn:
        """Raise what the store said, or that the guest's bytes are no good."""
        self._raise_store()
        first = str(error).strip().splitlines()
        raise DiskError(words, reason=first[0] if first else type(error).__name__) from error

    def _raise_store(self) -> None:
        failed, self._source.failed = self._source.failed, None
        if failed is not None:
            raise failed

    # Names.

    def walk(self) -> Iterator[Entry]:
        """Yield every entry once, directories before what is in them; damaged parts are skipped and counted.

        Raises
        ------
        DiskError
            If not even the root can be read.
        StoreError
        """
        yield self._at(self._root, "/")
        yield from self._traversed(self._entries)

    def _entries(self, inode: int, path: str, first: bool) -> Iterator[tuple[Entry, str, int | None]]:
        for entry in self._listed(inode, path, first=first):
            yield entry, entry.path, entry.inode if entry.kind == "directory" else None

    def _traversed(self, listing: Listing[T]) -> Iterator[T]:
        """Yield what is listed in every directory, each directory once, by what leads to it first."""
        seen, waiting, count = {self._root}, [("/", self._root, 0)], 0
        while waiting:
            above, inode, depth = waiting.pop()
            below = []
            for found, path, directory in listing(inode, above, not depth):
                count += 1
                if found is not None:
                    yield found
                if directory is not None and directory not in seen:
                    seen.add(directory)
                    below.append((path, directory, depth + 1))
            if count > _MOST_ENTRIES:
                self.note(f"more than {_MOST_ENTRIES} names: the rest is left out")
                return
            waiting += [each for each in reversed(below) if self._allowed(each[0], each[2])]

    def _allowed(self, path: str, depth: int) -> bool:
        if depth <= _MOST_DEPTH and len(path) <= _MOST_PATH:
            return True
        self.note(f"a directory {depth} levels deep is left out: {path[:80]}...")
        return False

    def children(self, path: str) -> Iterator[Entry]:
        """Yield the entries of a directory.

        Raises
        ------
        DiskError
            If there is no such directory.
        StoreError
        """
        above = self.lookup(path)
        if above.kind != "directory":
            raise DiskError("not a directory", path=path)
        yield from self._listed(above.inode, path, first=True)

    def lookup(self, path: str) -> Entry:
        """Return the entry with this path; links are not followed.

        Raises
        ------
        DiskError
            If there is none.
        StoreError
        """
        inode, parts = self._root, [part for part in path.split("/") if part and part != "."]
        for number, part in enumerate(parts):
            found = self._named(inode, part)
            if found is None:
                return self._unnamed(inode, "/" + "/".join(parts), last=number == len(parts) - 1)
            inode = found
        return self._at(inode, "/" + "/".join(parts))

    def _unnamed(self, inode: int, path: str, *, last: bool) -> Entry:  # noqa: ARG002  (for who knows other names)
        """Return what a path means whose next part is no name in a directory."""
        raise NoSuchFileError("no such file or directory", path=path)

    def _named(self, directory: int, name: str) -> int | None:
        """Return the inode of a name in a directory."""
        names = self._names.get(directory)
        if names is None:
            names = dict(self._pairs(directory))
            self._names.put(directory, names, len(names) + 1)
        return self._match(names, name)

    def _pairs(self, directory: int) -> Iterator[tuple[str, int]]:
        """Yield names and inodes of a directory; nothing for what is none."""
        if self._at(directory, "/").kind == "directory":
            for entry in self._listed(directory, "/"):
                yield entry.path[1:], entry.inode

    def _match(self, names: dict[str, int], name: str) -> int | None:
        return names.get(name)

    # Places.

    def _placed(self, runs: Iterable[Extent]) -> Iterator[Extent]:
        """Turn offsets of the volume into those of its disk."""
        for run in runs:
            if run.offset < 0:
                yield run
                continue
            for at, disk, count in self.volume.places(run.offset, run.length):
                yield Extent(run.file_offset + at - run.offset, disk, count)
