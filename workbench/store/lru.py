"""A least-recently-used cache bounded by bytes, safe to share between threads; nothing else.

Refuses to grow past its bound, whatever a hostile file makes us decode: an entry larger than the bound is not kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["BoundedCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Keep the newest used values whose sizes sum to at most `limit`.

    Parameters
    ----------
    limit : int
        Bytes (or whatever unit `put` is given).
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        """Return the value of `key`, now the newest used, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Keep `value`, dropping the longest unused until `size` fits."""
        if size > self._limit:
            return
        with self._lock:
            old = self._entries.pop(key, None)
            self._used += size - (old[1] if old else 0)
            self._entries[key] = (value, size)
            self._fit()

    def bound(self, limit: int) -> None:
        """Keep no more than `limit` from now on."""
        with self._lock:
            self._limit = limit
            self._fit()

    def _fit(self) -> None:
        while self._used > self._limit:
            _, (_, freed) = self._entries.popitem(last=False)
            self._used -= freed

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._used = 0
