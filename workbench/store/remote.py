"""A case that a service offers, as a backend to read by: files and ranges of files over HTTP.

What never changes under its name (packs, records, marks, tombstones) is kept on this machine; listings and deltas are
asked for each time, since a prune puts other deltas in their place. Refuses to write, and to take what is not what was
asked for: another range, a file that changed its length, names that are none. What the bytes mean is checked above, by
digests, as with any backend.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

from workbench.errors import DamagedError, MissingError, StoreError, UnsupportedError
from workbench.store.backend import Lock, Staging, checked_name
from workbench.store.blockcache import BlockCache
from workbench.store.link import Link, Reply
from workbench.store.lru import BoundedCache
from workbench.store.parts import LASTING, names_of, size_told, unpacked

__all__ = ["BLOCK", "RemoteBackend"]

BLOCK = 256 << 10
"""Bytes that are fetched and kept at a time."""
_RUN = 16
"""Blocks of one request at most."""
_NEAR = 16 << 20
_PAGE = 10_000
_MOST_NAMES = 10_000_000
_WHOLE = {".json": 1 << 20, ".mark": 1 << 20, ".capture": 64 << 20, ".pruned": 256 << 20, ".delta": 512 << 20}
"""Endings of files that are read whole, and the bytes that they may have."""
_MOST_AHEAD = 512
_AHEAD_BYTES = 8 << 20


class RemoteBackend:
    """The files of a service's case; for any number of threads.

    Parameters
    ----------
    link : Link
    cache : BlockCache, optional
        Without it nothing is kept past this process.
    """

    def __init__(self, link: Link, cache: BlockCache | None = None) -> None:
        self.link = link
        self.cache = cache
        self._near: BoundedCache[tuple[str, int], tuple[bytes, int]] = BoundedCache(_NEAR)
        self._sizes: BoundedCache[str, int] = BoundedCache(100_000)
        self._ahead: dict[str, tuple[str, int]] = {}  # by prefix: the last name that was asked for, and how many

    def __repr__(self) -> str:
        return f"<RemoteBackend {self.link.address!r}>"

    # Reading.

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return exactly `length` bytes from `offset`, or all to the end; see `Backend.get`."""
        ending = _ending(name)
        if ending in _WHOLE:
            data = self._whole(name, ending)
            wanted = len(data) - offset if length is None else length
            return _exactly(name, data[offset : offset + wanted], offset, wanted)
        wanted = self.size(name) - offset if length is None else length
        if wanted <= 0:
            return b""
        first, last = offset // BLOCK, (offset + wanted - 1) // BLOCK
        data = b"".join(self._blocks(name, first, last))
        skip = offset - first * BLOCK
        return _exactly(name, data[skip : skip + wanted], offset, wanted)

    def size(self, name: str) -> int:
        """Return the bytes of a file; see `Backend.size`."""
        ending = _ending(name)
        if ending in _WHOLE:
            return len(self._whole(name, ending))
        known = self._sizes.get(name)
        if known is None:
            next(self._blocks(name, 0, 0))
            known = self._sizes.get(name)
        return known or 0

    def list(self, prefix: str) -> list[str]:
        """Return the last segments of the names directly under `prefix`; see `Backend.list`."""
        names: list[str] = []
        more, after = True, ""
        while more:
            try:
                told = self.link.look("/content", prefix=checked_name(prefix), after=after, limit=_PAGE)
            except MissingError:
                return []
            page, more = told.get("names"), told.get("more") is True
            names += names_of(page, after, _PAGE)
            if len(names) > _MOST_NAMES:
                raise StoreError("the service lists more names than a case has", prefix=prefix, most=_MOST_NAMES)
            if more and not page:
                raise StoreError("the service's list does not go on", prefix=prefix, cure="Ask who runs it.")
            after = names[-1] if names else ""
        return names

    def forget(self) -> None:
        """Drop everything that is kept: the next read asks the service."""
        self._near.clear()
        self._sizes.clear()
        self._ahead.clear()
        if self.cache is not None:
            self.cache.clear()

    def _whole(self, name: str, ending: str) -> bytes:
        """Return a file that is read whole."""
        lasting = ending in LASTING
        known = self._lasting(name) if lasting else None
        if known is not None:
            return known
        reply = self._ask(name, most=_WHOLE[ending])
        if reply.status != 200:
            raise StoreError("the service answers with a part of a file", path=name, status=reply.status)
        if lasting and self.cache is not None:
            self.cache.put(name, 0, reply.body, len(reply.body))
        return reply.body

    def _lasting(self, name: str) -> bytes | None:
        """Return a small file that is at hand, or came with those after it because such are read one after another."""
        for ahead in (False, True):
            if ahead and not self._read_ahead(name):
                return None
            found = self._near.get((name, 0))
            if found is None and self.cache is not None:
                found = self.cache.get(name, 0)
            if found is not None:
                return found[0]
        return None

    def _read_ahead(self, name: str) -> bool:
        """Ask for a file and those after it, twice as many each time that one was missing past the last."""
        prefix, _, first = name.rpartition("/")
        last, count = self._ahead.get(prefix, ("~", 0))
        count = min(_MOST_AHEAD, 2 * count) if first > last else 1
        self._ahead[prefix] = first, count
        if count == 1:
            return False
        try:
            asked: dict[str, str | int] = {"prefix": prefix, "begin": first, "limit": count}
            found = list(unpacked(self.link.read("/contents", most=_AHEAD_BYTES, params=asked).body))
        except MissingError:
            return False
        for each, data in found:
            self._near.put((f"{prefix}/{each}", 0), (data, len(data)), len(data))
            if self.cache is not None:
                self.cache.put(f"{prefix}/{each}", 0, data, len(data))
        if found:
            self._ahead[prefix] = found[-1][0], count
        return True

    def _blocks(self, name: str, first: int, last: int) -> Iterator[bytes]:
        """Yield blocks in order, those that are not at hand fetched in runs; it ends early at the end of the file."""
        at = first
        while at <= last:
            known = self._known(name, at)
            if known is not None:
                yield known
                if len(known) < BLOCK:
                    return
                at += 1
                continue
            count = 1
            while at + count <= last and count < _RUN and self._known(name, at + count) is None:
                count += 1
            parts = self._fetch(name, at, count)
            yield from parts
            if len(parts) < count:
                return
            at += count

    def _known(self, name: str, block: int) -> bytes | None:
        """Return a block that is at hand."""
        found = self._near.get((name, block))
        if found is None and self.cache is not None:
            found = self.cache.get(name, block)
            if found is not None and len(found[0]) > BLOCK:
                return None
        if found is None:
            return None
        self._keep(name, block, *found)
        return found[0]

    def _fetch(self, name: str, first: int, count: int) -> Sequence[bytes]:
        """Ask for blocks, and keep them; fewer come back at the end of the file.

        Raises
        ------
        MissingError, DamagedError, StoreError
        """
        start, most = first * BLOCK, count * BLOCK
        reply = self._ask(name, most=most, span=f"bytes={start}-{start + most - 1}")
        size = size_told(reply, name, start, most)
        if self._sizes.get(name) not in (None, size):
            raise DamagedError(
                "file changed its length while it was read", path=name, expected=self._sizes.get(name), found=size
            )
        parts = [reply.body[at : at + BLOCK] for at in range(0, len(reply.body), BLOCK)]
        for number, part in enumerate(parts, first):
            self._keep(name, number, part, size)
            if self.cache is not None:
                self.cache.put(name, number, part, size)
        return parts

    def _keep(self, name: str, block: int, content: bytes, size: int) -> None:
        self._near.put((name, block), (content, size), len(content))
        self._sizes.put(name, size, 1)

    def _ask(self, name: str, *, most: int, span: str = "") -> Reply:
        try:
            return self.link.read(f"/content/{name}", most=most, headers={"Range": span} if span else {})
        except MissingError as error:
            raise MissingError("cannot read: no such file, or not for the caller", path=name) from error

    # Writing: not from here.

    def _refuse(self, act: str, **facts: object) -> NoReturn:
        raise UnsupportedError(
            f"cannot {act}: a service's case is not written from afar",
            service=self.link.address,
            cure="Use what the service offers: record, mark, rewind, clone, configure.",
            **facts,
        )

    def put(self, name: str, data: bytes) -> bool:
        """Refuse."""
        self._refuse("store a file", path=name, bytes=len(data))

    def delete(self, name: str) -> None:
        """Refuse."""
        self._refuse("delete a file", path=name)

    def delete_many(self, names: Sequence[str]) -> None:
        """Refuse."""
        self._refuse("delete files", count=len(names))

    def stage(self, owner: str) -> Staging:
        """Refuse."""
        self._refuse("write", owner=owner)

    def sweep(self, owner: str) -> None:
        """Refuse."""
        self._refuse("sweep", owner=owner)

    def lock(self, name: str) -> Lock:
        """Refuse."""
        self._refuse("lock", path=name)

    def holder(self, name: str) -> str | None:
        """Refuse."""
        self._refuse("look at the lock", path=name)


def _ending(name: str) -> str:
    stem, dot, ending = checked_name(name).rpartition("/")[2].rpartition(".")
    return f"{dot}{ending}" if stem else ""


def _exactly(name: str, data: bytes, offset: int, wanted: int) -> bytes:
    if len(data) != max(wanted, 0):
        raise DamagedError("file is too short", path=name, offset=offset, expected=wanted, found=len(data))
    return data
