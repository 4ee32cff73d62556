"""Parts of files that never change, kept on this machine's disk within a bound, for those read from afar.

Entries lie under a digest of what they are of, with a digest of themselves: what was cut short, or tampered with by
accident, is not there. Refuses to matter: what cannot be read or written is fetched again. Any number of processes may
use one directory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import tempfile
from pathlib import Path

from blake3 import blake3

__all__ = ["BlockCache"]

LIMIT = 2 << 30
_HEAD = struct.Struct("<16sQ")  # digest of name, size and content; size of the whole file
_SHARE = 8
_LEAST = 4096


class BlockCache:
    """Blocks by a file's name and number.

    Parameters
    ----------
    directory : Path
        Made when first written to; for this user alone.
    limit : int
        Bytes, about: each process that writes may be an eighth past it before it removes the longest unused.
    """

    def __init__(self, directory: Path, limit: int = LIMIT) -> None:
        self.directory = directory
        self._limit = limit
        self._written = limit  # so that the first write looks at what is there

    def get(self, name: str, block: int) -> tuple[bytes, int] | None:
        """Return a block and the size of its file, or None."""
        path = self._path(name, block)
        with contextlib.suppress(OSError, struct.error):
            data = path.read_bytes()
            digest, size = _HEAD.unpack_from(data)
            content = data[_HEAD.size :]
            if digest == _seal(path.name, size, content):
                os.utime(path)
                return content, size
        return None

    def put(self, name: str, block: int, content: bytes, size: int) -> None:
        """Keep a block."""
        path = self._path(name, block)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            with os.fdopen(descriptor, "wb") as file:
                file.write(_HEAD.pack(_seal(path.name, size, content), size) + content)
            os.replace(temporary, path)
        self._written += max(_LEAST, len(content))
        if self._written > self._limit // _SHARE:
            self._written = 0
            self._sweep()

    def clear(self) -> None:
        """Forget everything."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _path(self, name: str, block: int) -> Path:
        key = blake3(f"{name}\0{block}".encode()).hexdigest(16)
        return self.directory / key[:2] / key[2:]

    def _sweep(self) -> None:
        """Remove the longest unused until the rest is within the bound."""
        found = []
        with contextlib.suppress(OSError):
            for path in self.directory.glob("??/*"):
                with contextlib.suppress(OSError):
                    told = path.stat()
                    found.append((told.st_mtime_ns, max(_LEAST, told.st_size), path))
        used = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if used <= self._limit:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            used -= size


def _seal(name: str, size: int, content: bytes) -> bytes:
    return blake3(name.encode() + size.to_bytes(8, "little") + content).digest(16)
