"""What a service's answers about files have to be: a part of a file, files one after another, a page of names.

Refuses whatever is not what was asked for. What the bytes mean is for their digests to tell.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import pairwise

from workbench.errors import StoreError, UsageError
from workbench.store.backend import checked_name
from workbench.store.link import Reply

__all__ = ["LASTING", "names_of", "size_told", "unpacked"]

LASTING = (".mark", ".capture", ".pruned")
"""Endings of small files that never change under their name."""
_HEAD = struct.Struct("<HI")  # of a file among many: lengths of its name and content
_SPAN = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


def size_told(reply: Reply, name: str, start: int, most: int) -> int:
    """Return the size of the file of which this is a part.

    Raises
    ------
    StoreError
        If it is not the part that was asked for.
    """
    told = _SPAN.fullmatch(reply.headers.get("content-range", ""))
    if reply.status != 206 or told is None:
        raise StoreError("the service gives no ranges of files", path=name, status=reply.status)
    first, last, size = (int(each) for each in told.groups())
    if first != start or last != min(start + most, size) - 1 or len(reply.body) != last - first + 1:
        raise StoreError(
            "the service gives another part of the file than was asked for",
            path=name,
            asked=(start, most),
            told=(first, last, size),
            found=len(reply.body),
        )
    return size


def unpacked(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of files that came at once.

    Raises
    ------
    StoreError
        If they make no sense.
    """
    at = 0
    while at < len(body):
        try:
            name_length, length = _HEAD.unpack_from(body, at)
            begin = at + _HEAD.size + name_length
            name = checked_name(body[at + _HEAD.size : begin].decode("ascii"))
        except (struct.error, ValueError, UsageError) as error:
            raise StoreError("the service's files make no sense", cure="Ask who runs it.") from error
        at = begin + length
        if at > len(body) or "/" in name or not name.endswith(LASTING):
            raise StoreError("the service's files make no sense", found=len(body), cure="Ask who runs it.")
        yield name, body[begin:at]


def names_of(page: object, after: str, most: int) -> list[str]:
    """Return a page of names, ascending and past `after`.

    Raises
    ------
    StoreError
        If it is not that.
    """
    try:
        if not isinstance(page, list) or len(page) > most:
            raise ValueError("no page")
        names = [checked_name(str(each)) for each in page]
    except (ValueError, UsageError) as error:
        raise StoreError("the service's list is not of names of a case", cure="Ask who runs it.") from error
    if any("/" in name for name in names) or any(b <= a for a, b in pairwise([after, *names])):
        raise StoreError("the service's list is not in order", cure="Ask who runs it.")
    return names
