"""The content of a file as a seekable, read-only binary file.

Refuses to write, and to give bytes past the size that the file system states.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from workbench.disk.filesystem import Extent
from workbench.disk.image import Bytes
from workbench.errors import DiskError
from workbench.store.seekable import SeekableFile

__all__ = ["Content", "PiecedContent", "RunContent"]

_MOST = 8 << 20
"""Bytes given at once."""


class Content(SeekableFile):
    """Content of a known size; who derives says where bytes come from."""

    def __init__(self, size: int) -> None:
        if size < 0:
            raise DiskError("a file of a negative size", size=size)
        super().__init__(size)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes that lie inside; fewer only if there are no more, which is an error then.

        Raises
        ------
        DiskError
        StoreError
        """
        raise NotImplementedError

    def readinto(self, buffer: object) -> int:
        """Fill `buffer` from the position on; return how many bytes, 0 at the end.

        Raises
        ------
        DiskError, StoreError
        """
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        length = min(len(view), _MOST, max(0, self.size - self._at))
        data = self.read_at(self._at, length) if length else b""
        if length and not data:
            raise DiskError("content ends before the size that is stated", offset=self._at, size=self.size)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


class PiecedContent(Content):
    """Content that is put together of pieces; who derives gives the one at an offset."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes that lie inside.

        Raises
        ------
        DiskError
            If the volume ends before.
        StoreError
        """
        parts, end = [], offset + length
        while offset < end:
            part = self._part(offset, end)
            parts.append(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _part(self, offset: int, end: int) -> bytes:
        """Return at least one byte from `offset` on, none from `end` on."""
        raise NotImplementedError


class RunContent(PiecedContent):
    """Content that lies in runs of a volume; what is in no run is zero.

    Parameters
    ----------
    volume : Bytes
    runs : sequence of Extent
        `offset` is of the *volume* here, -1 for a hole.
    size : int
        Bytes.
    """

    def __init__(self, volume: Bytes, runs: Sequence[Extent], size: int) -> None:
        super().__init__(size)
        self._volume = volume
        self._runs = sorted((run for run in runs if run.offset >= 0), key=lambda run: run.file_offset)
        self._starts = [run.file_offset for run in self._runs]

    def _part(self, offset: int, end: int) -> bytes:
        at = bisect_right(self._starts, offset) - 1
        run = self._runs[at] if at >= 0 else None
        if run is None or offset >= run.file_offset + run.length:
            following = self._starts[at + 1] if at + 1 < len(self._starts) else end
            return bytes(min(end, following) - offset)
        count = min(end, run.file_offset + run.length) - offset
        data = self._volume.read(run.offset + offset - run.file_offset, count)
        if not data:
            raise DiskError("content that lies outside of the volume", offset=offset)
        return data
