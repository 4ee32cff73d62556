"""How a worker is talked to: JSON, and a table of Arrow where there is one. No pickles: a worker reads hostile data.

A message is two little-endian lengths (uint32 of the JSON, uint64 of the table), the JSON, and the table. Refuses
lengths beyond its bounds, and tables that Arrow cannot read.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

import pandas as pd
import pyarrow as pa

from workbench.errors import AnalysisError

__all__ = ["frame_of", "receive", "send", "table_of"]

_HEAD = struct.Struct("<IQ")
_MOST_JSON = 512 << 20
_MOST_TABLE = 4 << 30


def table_of(frame: pd.DataFrame) -> pa.Table:
    """Return a frame as an Arrow table that `frame_of` turns back into it; its `attrs` are left out."""
    plain = frame.copy(deep=False)
    plain.attrs = {}
    return pa.Table.from_pandas(plain, preserve_index=False)


def frame_of(table: pa.Table) -> pd.DataFrame:
    """Return the frame that `table_of` was given."""
    frame: pd.DataFrame = table.to_pandas()
    return frame


def send(channel: socket.socket, message: dict[str, Any], frame: pd.DataFrame | None = None) -> None:
    """Send a message.

    Raises
    ------
    OSError
        If nobody reads.
    """
    text = json.dumps(message).encode()
    table = b"" if frame is None else _packed(frame)
    channel.sendall(_HEAD.pack(len(text), len(table)) + text)
    channel.sendall(table)


def receive(channel: socket.socket) -> tuple[dict[str, Any], pd.DataFrame | None]:
    """Wait for a message.

    Raises
    ------
    EOFError
        If the other end is closed.
    AnalysisError
        If what comes is no message.
    OSError
    """
    text_length, table_length = _HEAD.unpack(_exactly(channel, _HEAD.size))
    if text_length > _MOST_JSON or table_length > _MOST_TABLE:
        raise AnalysisError("a message of an impossible length", json=text_length, table=table_length)
    message = json.loads(_exactly(channel, text_length))
    if not table_length:
        return message, None
    return message, _unpacked(_exactly(channel, table_length))


def _packed(frame: pd.DataFrame) -> memoryview:
    sink = pa.BufferOutputStream()
    table = table_of(frame)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue())  # megabytes of a file: not copied once more


def _unpacked(data: bytearray) -> pd.DataFrame:
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            return frame_of(reader.read_all())
    except (pa.ArrowException, ValueError) as error:
        raise AnalysisError(f"a table that cannot be read: {error}") from error


def _exactly(channel: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = channel.recv_into(view, min(len(view), 1 << 20))
        if not count:
            raise EOFError("the other end is closed")
        view = view[count:]
    return data
