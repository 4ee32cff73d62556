"""The captures of a guest as the names of its files tell of them, each made into a record only when it is looked at.

Names sort as instants do, so whoever seeks one among tens of thousands touches a few of them. Refuses names that are
not of captures: they are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import compress
from typing import overload

import numpy as np

from workbench.model import CaptureId, CaptureRef

__all__ = ["Listing", "capture_name"]

_DIGITS = 20
_ID = slice(_DIGITS + 1, _DIGITS + 1 + 64)
_SUFFIX = ".capture"
_LENGTH = _ID.stop + len(_SUFFIX)


def capture_name(ref: CaptureRef) -> str:
    """Return the file name of a capture's record: instant and identity."""
    return f"{ref.time_ns:020d}-{ref.id}{_SUFFIX}"


class Listing(Sequence[CaptureRef]):
    """Captures by time; equal to any sequence of the same ones.

    Parameters
    ----------
    names : iterable of str
        File names in any order, others among them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = _captures_among(sorted(name for name in names if len(name) == _LENGTH and name.isascii()))

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, at: int) -> CaptureRef: ...

    @overload
    def __getitem__(self, at: slice) -> list[CaptureRef]: ...

    def __getitem__(self, at: int | slice) -> CaptureRef | list[CaptureRef]:
        return [_ref(name) for name in self._names[at]] if isinstance(at, slice) else _ref(self._names[at])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Listing):
            return self._names == other._names
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Listing({list(self)!r})"

    def find(self, capture: CaptureId) -> CaptureRef | None:
        """Return the capture of this identity; None if it is not here."""
        name = self._by_id.get(capture)
        return None if name is None else _ref(name)

    @cached_property
    def _by_id(self) -> dict[str, str]:
        return {name[_ID]: name for name in self._names}


def _ref(name: str) -> CaptureRef:
    return CaptureRef(int(name[:_DIGITS]), CaptureId(name[_ID]))


def _captures_among(names: list[str]) -> list[str]:
    """Return those of `names`, each ASCII and of the right length, that name captures: one look at all letters."""
    table = np.frombuffer("".join(names).encode(), np.uint8).reshape(len(names), _LENGTH)
    digit = (table >= ord("0")) & (table <= ord("9"))
    hexadecimal = digit | ((table >= ord("a")) & (table <= ord("f")))
    fits = digit[:, :_DIGITS].all(axis=1) & hexadecimal[:, _ID].all(axis=1) & (table[:, _DIGITS] == ord("-"))
    fits &= (table[:, _ID.stop :] == np.frombuffer(_SUFFIX.encode(), np.uint8)).all(axis=1)
    return names if fits.all() else list(compress(names, fits.tolist()))
