"""A moment's disks opened: volumes, file systems after replay, and where the guest mounts them.

The guest's own `/etc/fstab` says what is mounted where; what it does not name is below `/vda1/...`. Everything that
could not be opened is a finding. Refuses to leave the guest's names: links are followed inside of its own file systems,
as often as a kernel would, and no further.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from workbench.disk.filesystem import Entry, FileSystem
from workbench.disk.fstab import Wanted, is_meant, wanted
from workbench.disk.image import Image, Slice
from workbench.disk.journal import Replay, replay
from workbench.disk.opening import can_open, open_filesystem
from workbench.disk.pagecache import CachedFileSystem, Held, PageCache
from workbench.disk.volumes import Volume, find_volumes
from workbench.errors import DiskError, UnsupportedError
from workbench.model import RegionKind
from workbench.store import CaptureView
from workbench.store.types import I64

__all__ = ["Cached", "Disks", "Finding", "Mounted", "open_disks"]

_MOST_LINKS = 40
"""As Linux has it (MAXSYMLINKS)."""
_MOST_FSTAB = 1 << 20
_MOST_PARTS = 4096


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that could not be opened, or not as it should be.

    Attributes
    ----------
    volume : str
        Its name, or the disk's.
    words : str
    """

    volume: str
    words: str


@dataclass(frozen=True, slots=True)
class Mounted:
    """A file system of a moment, open.

    Attributes
    ----------
    volume : Volume
    mount : str
        "/", "/home", or "/vda1" where nobody knows.
    image : Image
        The disk as it was captured.
    replay : Replay
        Its `volume` is what the file system reads, unless `cached` says so.
    filesystem : FileSystem
    cached : Cached or None
        Where a page cache lies over it.
    """

    volume: Volume
    mount: str
    image: Image
    replay: Replay
    filesystem: FileSystem
    cached: Cached | None = None


@dataclass(frozen=True, slots=True)
class Cached:
    """A volume under a page cache.

    Attributes
    ----------
    volume : Slice
        What the file system reads: replayed, with the metadata from memory over it.
    ranges : (n, 2) int64
        Offsets on the disk and lengths of that metadata.
    held : Held
    """

    volume: Slice
    ranges: I64
    held: Held


def open_disks(view: CaptureView, *, directory: Path | None = None, cache: PageCache | None = None) -> Disks:
    """Find the volumes of all disks of a capture; nothing is replayed or opened yet.

    Parameters
    ----------
    view : CaptureView
    directory : Path, optional
        Where the temporary copies for replays go.
    cache : PageCache, optional
        Of the same instant, to be laid over the file systems.

    Raises
    ------
    StoreError
    """
    return Disks(view, directory, cache)


class Disks:
    """The disks of one capture.

    Attributes
    ----------
    images : dict of str to Image
        By the disk's name ("vda").
    volumes : tuple of Volume
        All of them, those that cannot be opened too.
    """

    def __init__(self, view: CaptureView, directory: Path | None = None, cache: PageCache | None = None) -> None:
        names = [region.spec.name for region in view.record.regions if region.spec.kind is RegionKind.DISK]
        self._time_ns = view.record.time_ns
        self._directory = directory
        self._cache = cache
        self._cached: dict[str, Cached] = {}
        self.images = {image.name: image for image in (Image(view, name) for name in names)}
        self.volumes = tuple(volume for name, image in self.images.items() for volume in find_volumes(image, name))
        self._findings = [Finding(volume.name, volume.note) for volume in self.volumes if volume.note]
        self._opened: dict[str, tuple[Replay, FileSystem] | DiskError | UnsupportedError] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Whatever was found wrong so far; complete once `mounted` was asked for."""
        return tuple(self._findings)

    def volume(self, name: str) -> Volume:
        """Return a volume by name.

        Raises
        ------
        DiskError
            If there is none.
        """
        for volume in self.volumes:
            if volume.name == name:
                return volume
        raise DiskError("no such volume", volume=name, cure=f"There are: {', '.join(v.name for v in self.volumes)}.")

    def open(self, name: str) -> tuple[Replay, FileSystem]:
        """Open a volume's file system, after a replay of its journal where that can be done; it stays open.

        Raises
        ------
        DiskError, UnsupportedError
            If it cannot be opened.
        StoreError
        """
        found = self._opened.get(name)
        if found is None:
            try:
                found = self._open(self.volume(name))
            except (DiskError, UnsupportedError) as error:
                found = error
                self._findings.append(Finding(name, str(error)))
            self._opened[name] = found
        if isinstance(found, Exception):
            raise found
        return found

    def _open(self, volume: Volume) -> tuple[Replay, FileSystem]:
        content = volume.of(self.images[volume.disk])
        replayed = replay(content, time_ns=self._time_ns, directory=self._directory)
        if replayed.state == "unreplayed":
            self._findings.append(Finding(volume.name, f"unreplayed: {replayed.reason}"))
        held = self._cache.of(volume.name, volume.kind, volume.uuid) if self._cache is not None else None
        if held is not None:
            try:
                return replayed, self._under_cache(volume.name, replayed, held)
            except (DiskError, UnsupportedError) as error:  # a guest may put anything there
                self._findings.append(Finding(volume.name, f"the page cache cannot be laid over it: {error}"))
        return replayed, open_filesystem(replayed.volume, state=replayed.state)

    def _under_cache(self, name: str, replayed: Replay, held: Held) -> FileSystem:
        content, ranges = held.over(replayed.volume)
        found = CachedFileSystem(open_filesystem(content, state=replayed.state), held)
        found.lookup("/")
        self._cached[name] = Cached(content, ranges, held)
        return found

    @cached_property
    def mounted(self) -> tuple[Mounted, ...]:
        """Every file system that can be opened, by where it is mounted.

        Raises
        ------
        StoreError
        """
        found = {}
        for volume in self.volumes:
            if can_open(volume.kind) and volume.pieces:
                try:
                    found[volume.name] = self.open(volume.name)
                except (DiskError, UnsupportedError):
                    continue  # it is in `findings`
            elif volume.kind == "btrfs":
                self._findings.append(
                    Finding(volume.name, "btrfs cannot be read here: pip install rewind-workbench[btrfs]")
                )
        points = self._points({name: system for name, (_, system) in found.items()})
        mounted = [
            Mounted(
                volume,
                points[volume.name],
                self.images[volume.disk],
                *found[volume.name],
                self._cached.get(volume.name),
            )
            for volume in self.volumes
            if volume.name in found
        ]
        return tuple(sorted(mounted, key=lambda each: each.mount))

    def _points(self, systems: dict[str, FileSystem]) -> dict[str, str]:
        """Return the mount point of each volume."""
        points = {name: f"/{name}" for name in systems}
        root, lines = self._root(systems)
        if root is None:
            return points
        points[root] = "/"
        for line in lines:
            meant = [volume.name for volume in self.volumes if is_meant(line.source, volume)]
            names = [name for name in meant if name in systems]
            if names and line.point != "/" and line.point not in points.values() and names[0] != root:
                points[names[0]] = line.point
            elif not meant and line.kind not in ("tmpfs", "proc", "sysfs", "devpts"):
                self._findings.append(Finding(root, f"/etc/fstab names {line.source!r}: no volume here is that"))
        return points

    def _root(self, systems: dict[str, FileSystem]) -> tuple[str | None, list[Wanted]]:
        """Return whose `/etc/fstab` counts: the one that calls itself the root, else the first that looks like one."""
        tables = {name: _fstab(system) for name, system in systems.items()}
        for name, lines in tables.items():
            if any(line.point == "/" and is_meant(line.source, self.volume(name)) for line in lines or ()):
                return name, lines or []
        candidates = [name for name in systems if tables[name] is not None] or [
            name for name, system in systems.items() if _looks_like_root(system)
        ]
        return (candidates[0], tables[candidates[0]] or []) if candidates else (None, [])

    # Paths.

    def resolve(self, path: str, *, follow: bool = True) -> tuple[FileSystem, str]:
        """Find the file system and the path inside of it that a path of the guest means.

        Parameters
        ----------
        path : str
            Absolute, as the guest has it; "/vda1/..." for what is not mounted.
        follow : bool
            Whether the last part is followed too if it is a link.

        Raises
        ------
        DiskError
            If there is no such file, or links go round in a loop.
        StoreError
        """
        mounted, inner, _ = self.find(path, follow=follow)
        return mounted.filesystem, inner

    def find(self, path: str, *, follow: bool = True) -> tuple[Mounted, str, Entry]:
        """Find what a path of the guest means: as `resolve`, with what is mounted there and the entry itself.

        Raises
        ------
        DiskError
            If there is no such file, or links go round in a loop.
        StoreError
        """
        done: list[str] = []
        left, links = [part for part in reversed(path.split("/")) if part], 0
        while left:
            part = left.pop()
            if part in (".", ".."):
                done = done[: -1 if part == ".." else None]
                continue
            entry = self._look(done, part, path)
            if entry is None or entry.target is None or not (left or follow):
                done.append(part)
                continue
            links += 1
            if links > _MOST_LINKS or len(left) > _MOST_PARTS:
                raise DiskError("too many links: they go round in a loop", path=path, links=links)
            if entry.target.startswith("/"):
                done = []
            left += [each for each in reversed(entry.target.split("/")) if each]
        mounted, inner = self._split(done, path)
        return mounted, inner, mounted.filesystem.lookup(inner)

    def _look(self, done: list[str], part: str, path: str) -> Entry | None:
        """Return the entry that a step leads to; None for a mount point and what leads to one."""
        here = "/" + "/".join([*done, part])
        if any(each.mount == here or each.mount.startswith(here + "/") for each in self.mounted):
            return None
        mounted, inner = self._split([*done, part], path)
        return mounted.filesystem.lookup(inner)

    def _split(self, parts: list[str], path: str) -> tuple[Mounted, str]:
        whole = "/" + "/".join(parts)
        for each in sorted(self.mounted, key=lambda each: -len(each.mount)):
            base = each.mount.rstrip("/")
            if whole == each.mount or whole.startswith(base + "/"):
                return each, whole[len(base) :] or "/"
        names = ", ".join(each.mount for each in self.mounted) or "none"
        raise DiskError("no file system is mounted there", path=path, cure=f"There are: {names}.")


def _fstab(system: FileSystem) -> list[Wanted] | None:
    """Read a file system's own `/etc/fstab`; None if it has none."""
    try:
        entry = system.lookup("/etc/fstab")
        if entry.kind != "file":
            return None
        return list(wanted(_start(system, entry.inode)))
    except DiskError:
        return None


def _start(system: FileSystem, inode: int) -> bytes:
    content = system.open(inode)
    return b"".join(iter(lambda: content.read(65536) if content.tell() < _MOST_FSTAB else b"", b""))


def _looks_like_root(system: FileSystem) -> bool:
    names = set(_names(system))
    return "/etc" in names and bool(names & {"/usr", "/bin"})


def _names(system: FileSystem) -> Iterator[str]:
    try:
        for number, entry in enumerate(system.children("/")):
            if number > _MOST_PARTS:
                return
            yield entry.path
    except DiskError:
        return
