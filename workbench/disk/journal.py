"""Replay the journal of a crash-consistent ext3 or ext4 on an overlay, and tell where a log could not be replayed.

The volume is written sparsely into a private temporary file, e2fsck replays its journal there, and what changed comes
back as an `Overlay` with digests of before and after. `e2fsck` runs without `-f`: with it, `journal_only` is not obeyed
and a full repair follows, which frees what deleted programs still hold. As a mount does, it still ends the list of
orphans: deleted inodes that were open get a time of deletion (that of the capture), their content stays.

Refuses to touch the capture, and to call replayed what was not: logs of XFS and NTFS, and whatever e2fsck refuses,
are "unreplayed" with the reason.
"""

from __future__ import annotations

import io
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench.disk.filesystem import State
from workbench.disk.image import Overlay, Slice, joined_ranges
from workbench.disk.logs import btrfs_log, ntfs_log, xfs_log
from workbench.disk.signatures import Signature, ext_superblock, identify
from workbench.errors import DiskError

__all__ = ["Replay", "replay"]

_STEP = 4 << 20
_CLUSTER = 4096
_SECONDS = 120
_MOST = 256 << 30
"""Bytes stored of a volume that is copied for its replay."""
_SPARE = 64 << 20
_ADDRESS_SPACE = 4 << 30


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of a volume's journal.

    Attributes
    ----------
    state : State
    volume : Slice
        To be read from now on: over the overlay if there was something to replay.
    reason : str
        Why it is unreplayed; what e2fsck said if it was replayed.
    before, after : str
        BLAKE3 of the changed clusters of the disk (`Overlay.digest`), as captured and as replayed; empty if none.
    overlay : Overlay or None
        Over the disk.
    """

    state: State
    volume: Slice
    reason: str = ""
    before: str = ""
    after: str = ""
    overlay: Overlay | None = None

    @property
    def changed(self) -> list[tuple[int, int]]:
        """(offset, length) on the disk of what the replay wrote, ascending."""
        if self.overlay is None:
            return []
        size = self.overlay.cluster
        return list(joined_ranges([(index * size, size) for index in self.overlay.changed]))


def replay(
    volume: Slice,
    signature: Signature | None = None,
    *,
    time_ns: int = 0,
    directory: Path | None = None,
    seconds: float = _SECONDS,
) -> Replay:
    """Replay what has to be replayed.

    Parameters
    ----------
    volume : Slice
        Of the disk as it was captured.
    signature : Signature, optional
        What the volume is.
    time_ns : int
        When "now" is for e2fsck: the capture's time, so that the same capture gives the same bytes.
    directory : Path, optional
        Where the temporary copy goes; it takes as many bytes as the volume has that are not zero.
    seconds : float
        How long e2fsck may take.

    Raises
    ------
    StoreError
        If the capture cannot be read.
    """
    signature = signature or identify(volume)
    if signature.kind == "xfs":
        return _told(volume, xfs_log(volume))
    if signature.kind == "ntfs":
        return _told(volume, ntfs_log(volume))
    if signature.kind == "btrfs":
        return _told(volume, btrfs_log(volume))
    if not signature.dirty:
        return Replay("clean", volume)
    tool = shutil.which("e2fsck", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if tool is None:
        return Replay("unreplayed", volume, "e2fsck is not installed")
    try:
        with tempfile.TemporaryDirectory(prefix="replay-", dir=directory) as place:
            return _replayed(tool, volume, signature, Path(place) / "volume", time_ns, seconds)
    except (DiskError, OSError) as error:
        return Replay("unreplayed", volume, f"the journal could not be replayed: {error}")


def _told(volume: Slice, reason: str) -> Replay:
    return Replay("unreplayed" if reason else "clean", volume, reason)


def _replayed(tool: str, volume: Slice, signature: Signature, copy: Path, time_ns: int, seconds: float) -> Replay:
    stretches = list(volume.stretches(0, volume.size))
    _check_room(copy.parent, sum(length for _, length in stretches))
    with copy.open("xb") as file:
        _write(file, volume, stretches, signature.backup)
    words = _e2fsck(tool, copy, signature, time_ns, seconds)
    overlay = Overlay(volume.under, cluster=_CLUSTER)
    with copy.open("rb") as file:
        for offset, length in joined_ranges(stretches + list(_data(file, volume.size))):
            _compare(file, volume, overlay, offset, length)
        file.seek(1024)
        after = ext_superblock(file.read(1024))
    if after is None or after.dirty:
        raise DiskError(f"e2fsck left the journal as it was: {words}")
    return Replay("replayed", volume.over(overlay), words, overlay.digest_under(), overlay.digest(), overlay)


def _check_room(place: Path, needed: int) -> None:
    if needed > _MOST:
        raise DiskError("too much to copy for a replay", needed=needed, most=_MOST)
    free = shutil.disk_usage(place).free
    if needed + _SPARE > free:
        raise DiskError("no room for the copy that a replay needs", needed=needed, free=free, place=str(place.parent))


def _write(file: io.BufferedWriter, volume: Slice, stretches: list[tuple[int, int]], backup: int) -> None:
    """Write a volume so that what is zero stays a hole."""
    file.truncate(volume.size)
    for begin, length in stretches:
        for offset in range(begin, begin + length, _STEP):
            data = volume.read(offset, min(_STEP, begin + length - offset))
            file.seek(offset)
            file.write(data)
    if backup:
        file.seek(1024)
        file.write(volume.read(backup, 1024))


def _e2fsck(tool: str, copy: Path, signature: Signature, time_ns: int, seconds: float) -> str:
    """Run e2fsck on a copy, bounded in time and space; return what it said in one line."""
    environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "E2FSCK_CONFIG": os.devnull}
    if time_ns:
        environment["E2FSCK_TIME"] = str(time_ns // 10**9)
    words = [tool, "-E", "journal_only", "-y", str(copy)]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    try:
        resource.prlimit(process.pid, resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (copy.stat().st_size, copy.stat().st_size))
        said, _ = process.communicate(timeout=seconds)
    except ProcessLookupError:
        said, _ = process.communicate()
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise DiskError(f"e2fsck took longer than {seconds:g} s on this {signature.kind}") from None
    told = said.decode("utf-8", "replace").replace(str(copy), "the volume")
    told = "; ".join(line.strip() for line in told.splitlines()[1:] if line.strip())[:500]
    if process.returncode not in (0, 1):
        raise DiskError(f"e2fsck ended with {process.returncode}: {told}")
    return told


def _data(file: io.BufferedReader, size: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of what is no hole in a file."""
    at = 0
    while at < size:
        try:
            at = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
        yield at, min(end, size) - at
        at = end


def _compare(file: io.BufferedReader, volume: Slice, overlay: Overlay, begin: int, length: int) -> None:
    """Put what differs into the overlay."""
    for offset in range(begin, begin + length, _STEP):
        count = min(_STEP, begin + length - offset)
        old = volume.read(offset, count)
        file.seek(offset)
        new = file.read(count)
        if old == new:
            continue
        for at in range(0, count, _CLUSTER):
            if old[at : at + _CLUSTER] != new[at : at + _CLUSTER]:
                volume.patch(overlay, offset + at, new[at : at + _CLUSTER])
