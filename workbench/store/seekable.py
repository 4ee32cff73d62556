"""What read-only files of a known size have in common: a position that can be moved.

Refuses to know where bytes come from: who derives fills buffers from `_at` on and moves it.
"""

from __future__ import annotations

import io

__all__ = ["SeekableFile"]


class SeekableFile(io.RawIOBase):
    """A read-only, seekable, binary file without a descriptor.

    Attributes
    ----------
    size : int
        Bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, which may lie past the end; return it.

        Raises
        ------
        ValueError
            If it would be negative, or `whence` is not known.
        """
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}.get(whence)
        if start is None or start + offset < 0:
            raise ValueError(f"cannot seek to {offset} from {whence}")
        self._at = start + offset
        return self._at
