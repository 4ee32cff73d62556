"""Answers kept in the case, as Parquet, under what was asked: the same question twice is one answer.

A case may come from a stranger, and its cache with it: an entry counts only if its name proves that this user wrote
these very bytes (keyed BLAKE3, key in the user's own directory). What is damaged, foreign or of another version is
asked anew. Refuses to keep what depended on luck: an answer that ran out of time or memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from workbench.inquiry.answer import Answer
from workbench.inquiry.wire import frame_of, table_of

__all__ = ["READING", "AnswerCache"]

READING = 5
"""Version of our own reading; a change of what an answer holds raises it, and old answers are asked again."""
_FACTS = b"workbench"
_KEY_BYTES = 32


class AnswerCache:
    """The answers of one case.

    Parameters
    ----------
    directory : Path
        Made when first written to.
    key_file : Path, optional
        By default in the user's cache directory.
    """

    def __init__(self, directory: Path, key_file: Path | None = None) -> None:
        self.directory = directory
        self._key_file = key_file or _default_key_file()
        self._key: bytes | None = None

    def get(self, capture: str, question: str, arguments: Mapping[str, Any], symbols: str = "") -> Answer | None:
        """Return the answer that was kept, or None.

        Parameters
        ----------
        symbols : str
            Digest of a symbol table that was named by the user; empty for the capture's own.
        """
        name = _name(capture, question, arguments, symbols)
        for path in sorted((self.directory / name[:2]).glob(f"{name}.*.parquet")):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, pa.ArrowException):
                data = path.read_bytes()
                if path.name == f"{name}.{self._seal(name, data)}.parquet":
                    table = pq.read_table(pa.BufferReader(data))
                    return Answer.from_attributes(frame_of(table), json.loads(table.schema.metadata[_FACTS]))
        return None

    def put(self, question: str, answer: Answer, symbols: str = "") -> None:
        """Keep an answer under the question as it was asked; that it cannot be written costs only the time."""
        name = _name(answer.facts["capture"], question, answer.facts["arguments"], symbols)
        table = table_of(answer.frame)
        metadata = {**(table.schema.metadata or {}), _FACTS: json.dumps(answer.attributes()).encode()}
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
        data = bytes(sink.getvalue())
        with contextlib.suppress(OSError):
            place = self.directory / name[:2]
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, temporary = tempfile.mkstemp(dir=place, prefix=".new-")
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, place / f"{name}.{self._seal(name, data)}.parquet")

    def _seal(self, name: str, data: bytes) -> str:
        if self._key is None:
            self._key = _read_key(self._key_file)
        return blake3(name.encode() + data, key=self._key).hexdigest(16)


def _name(capture: str, question: str, arguments: Mapping[str, Any], symbols: str) -> str:
    by = [READING, version("volatility3"), version("yara-x")]
    asked = json.dumps([capture, question, dict(arguments), by, symbols], sort_keys=True)
    return blake3(asked.encode()).hexdigest(16)


def _default_key_file() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rewind-workbench" / "answers.key"


def _read_key(path: Path) -> bytes:
    """Return this user's key, made at first use; of two processes that make it at once, one wins for both."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".key-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)
    os.unlink(temporary)
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        path.unlink()
        return _read_key(path)
    return key
