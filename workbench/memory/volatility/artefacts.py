"""Files that plugins take out of memory: kept under their digest, with the guest's name made harmless.

Refuses names with a path, and more than a bound of bytes for one question: a guest can claim mappings of any size.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from volatility3.framework import interfaces

from workbench.errors import AnalysisError
from workbench.inquiry.answer import Artefact

__all__ = ["Artefacts"]

_MOST = 8 << 30


class Artefacts:
    """The files of one question.

    Parameters
    ----------
    directory : Path or None
        Where they go, each under its SHA-256; None refuses all files.
    most : int
        Bytes of all of them together.
    """

    def __init__(self, directory: Path | None, most: int = _MOST) -> None:
        self.directory = directory
        self.left = most
        self.kept: list[Artefact] = []

    def handler(self) -> type[Any]:
        """Return the class that a plugin opens its files with."""
        if self.directory is None:
            raise AnalysisError("there is no place for files that a plugin takes out of memory")
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = self

        class Bound(_File):
            """A file of this question."""

            def __init__(self, filename: str) -> None:
                super().__init__(filename, owner)

        return Bound

    def charge(self, count: int) -> None:
        """Account for bytes that are written.

        Raises
        ------
        AnalysisError
            If they are too many.
        """
        self.left -= count
        if self.left < 0:
            raise AnalysisError(
                "the files of this question grow beyond their bound", cure="Ask for fewer processes or files at a time."
            )


class _File(interfaces.plugins.FileHandlerInterface):
    """A file being written; its digest becomes its name when it is closed."""

    def __init__(self, filename: str, owner: Artefacts) -> None:
        super().__init__(filename)
        assert owner.directory is not None
        self._owner = owner
        descriptor, self._path = tempfile.mkstemp(dir=owner.directory, prefix=".new-")
        self._file = os.fdopen(descriptor, "w+b")

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        return self._file.truncate(size)

    def write(self, data: Any) -> int:
        """Write bytes."""
        self._owner.charge(len(data))
        return self._file.write(data)

    def readinto(self, buffer: Any) -> int:
        """Read bytes back."""
        return self._file.readinto(buffer)

    def close(self) -> None:
        """Keep the file under its digest."""
        if self.closed:
            return
        super().close()
        self._file.seek(0)
        digest = hashlib.file_digest(self._file, "sha256").hexdigest()
        size = self._file.seek(0, os.SEEK_END)
        self._file.close()
        assert self._owner.directory is not None
        os.replace(self._path, self._owner.directory / digest)
        name = self.sanitize_filename(self.preferred_filename or "unnamed")
        self._owner.kept.append(Artefact(name, digest, size))
