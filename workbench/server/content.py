"""Paths that give the case's files to read: lists of names, and files or one range of a file.

What may be read by whom is `service.content`'s. Refuses several ranges at once, and ranges in a unit other than bytes:
the whole file is then the answer, as RFC 9110 (14.2) has it.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from workbench.errors import MissingError
from workbench.server.bodies import ErrorBody
from workbench.server.callers import Reading
from workbench.service.content import Contents

__all__ = ["NameList", "router"]

router = APIRouter()
_AT_ONCE = 1 << 20
_MANY_BYTES = 4 << 20
_HEAD = struct.Struct("<HI")
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_KIND = "application/octet-stream"
_BINARY = {"content": {_KIND: {"schema": {"type": "string", "format": "binary"}}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: _BINARY,
    206: {"description": "The range that was asked for", **_BINARY},
    416: {"model": ErrorBody, "description": "The file has no such range"},
}
Prefix = Annotated[str, Query(min_length=1, max_length=200, description="`guests/UUID/captures`, `packs/ab` ...")]
Name = Annotated[str, Query(max_length=200, description="Where to begin: past it in a list, at it in files.")]
Many = Annotated[int, Query(ge=1, le=10_000)]
Few = Annotated[int, Query(ge=1, le=1_000)]


class NameList(BaseModel):
    """Names directly under a prefix, ascending; `more` says that they go on."""

    names: list[str]
    more: bool


def _contents_of(request: Request) -> Contents:
    found: Contents = request.app.state.contents
    return found


ContentsOf = Annotated[Contents, Depends(_contents_of)]


@router.get("/content", response_model=NameList)
def names(prefix: Prefix, caller: Reading, contents: ContentsOf, after: Name = "", limit: Many = 1_000) -> Any:
    """List files of the case that the caller may read."""
    try:
        found, more = contents.list(caller, prefix, after, limit)
    except MissingError as error:
        raise HTTPException(404) from error
    return {"names": found, "more": more}


@router.get("/contents", response_class=Response, responses={200: _BINARY})
def many(prefix: Prefix, caller: Reading, contents: ContentsOf, begin: Name = "", limit: Few = 100) -> Response:
    """Return small files of one prefix at once: for each the lengths of name and content (u16, u32), and both."""
    try:
        found = list(contents.many(caller, prefix, begin, limit, _MANY_BYTES))
    except MissingError as error:
        raise HTTPException(404) from error
    parts = [part for name, data in found for part in (_HEAD.pack(len(name), len(data)), name.encode(), data)]
    return Response(b"".join(parts), 200, {"Cache-Control": "no-store"}, _KIND)


@router.get("/content/{name:path}", response_class=Response, responses=_ANSWERS)
def content(
    name: str, caller: Reading, contents: ContentsOf, span: Annotated[str, Header(alias="Range", max_length=100)] = ""
) -> Response:
    """Return a file of the case, or one range of it."""
    try:
        file = contents.open(caller, name)
    except MissingError as error:
        raise HTTPException(404) from error
    size = os.fstat(file.fileno()).st_size
    wanted = _wanted(span, size)
    if wanted is None:
        file.close()
        raise HTTPException(416, headers={"Content-Range": f"bytes */{size}"})
    first, length, status = wanted
    headers = {"Accept-Ranges": "bytes", "Cache-Control": "no-store", "Content-Length": str(length)}
    if status == 206:
        headers["Content-Range"] = f"bytes {first}-{first + length - 1}/{size}"
    if length <= _AT_ONCE:
        return Response(b"".join(_parts(file, first, length)), status, headers, _KIND)
    return StreamingResponse(_parts(file, first, length), status, headers, _KIND)


def _wanted(span: str, size: int) -> tuple[int, int, int] | None:
    """Return where to begin, how many bytes, and the status; None if the file has no such range."""
    found = _RANGE.fullmatch(span)
    if found is None or found.groups() == ("", ""):
        return 0, size, 200
    first, last = found.groups()
    if not first:
        begin, end = max(0, size - int(last)), size - 1
    else:
        begin, end = int(first), min(int(last) if last else size - 1, size - 1)
        if last and int(last) < begin:
            return 0, size, 200
    return (begin, end - begin + 1, 206) if begin <= end else None


def _parts(file: BinaryIO, first: int, length: int) -> Iterator[bytes]:
    """Yield a range of a file in parts, and close it; a file that ends early ends the connection."""
    with file:
        file.seek(first)
        while length:
            part = file.read(min(_AT_ONCE, length))
            if not part:
                raise EOFError("the file became shorter")
            length -= len(part)
            yield part
