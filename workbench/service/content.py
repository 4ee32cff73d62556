"""The files of the case for those who may read them, guest by guest.

A name has to be one that the store itself gives, whole, before it becomes a path. Records, deltas, marks and
tombstones lie under their guest; a pack is named by a digest, and says in its footer whose it is (design, 3.2), which
is remembered. What is not for a caller is not there for it. Refuses locks, unfinished files, caches, and whatever is no
regular file.
"""

from __future__ import annotations

import bisect
import os
import re
import stat
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from workbench.errors import MissingError, StoreError, WorkbenchError
from workbench.model import GuestId
from workbench.service.identity import Caller
from workbench.store.case import CaseStore
from workbench.store.packs import Packs

__all__ = ["Contents"]

_GUEST = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TIMED = r"[0-9]{20}-[0-9a-f]{64}"
_OF_GUEST = (
    rf"guest\.json|captures/{_TIMED}\.capture|deltas/[0-9a-f]{{64}}\.delta|marks/{_TIMED}\.mark|pruned/{_TIMED}\.pruned"
)
_FILE = re.compile(
    rf"case\.json|guests/(?P<guest>{_GUEST})/(?:{_OF_GUEST})"
    r"|packs/(?P<two>[0-9a-f]{2})/(?P<pack>(?P=two)[0-9a-f]{30})\.pack"
)
_FOLDER = re.compile(rf"guests|guests/(?P<guest>{_GUEST})/(?:captures|deltas|marks|pruned)|packs(?:/[0-9a-f]{{2}})?")
_SUFFIXES = (".capture", ".delta", ".mark", ".pruned", ".pack")
_MOST_PACKS = 200_000


class Contents:
    """What a case's files are to callers.

    Parameters
    ----------
    case : Path
    """

    def __init__(self, case: Path) -> None:
        self._store = CaseStore.open(case)
        self._lock = threading.Lock()
        self._owners: OrderedDict[str, GuestId] = OrderedDict()
        self._names: dict[GuestId, str] = {}

    def open(self, caller: Caller, name: str) -> BinaryIO:
        """Open a file for a caller.

        Raises
        ------
        MissingError
            If there is none, or it is not for the caller.
        StoreError
        """
        found = _FILE.fullmatch(name)
        if found is None or not self._is_for(caller, found["guest"], found["pack"], name):
            raise _missing(name)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # neither a link nor a pipe is ours
        try:
            handle = os.open(self._store.path / name, flags)
        except OSError as error:
            raise _missing(name) from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise _missing(name)
        return os.fdopen(handle, "rb", buffering=0)

    def list(self, caller: Caller, prefix: str, after: str, limit: int) -> tuple[Sequence[str], bool]:
        """Return the names under a prefix past `after`, ascending, at most `limit`; and whether there are more.

        Raises
        ------
        MissingError
            If there is no such prefix, or it is not for the caller.
        StoreError
        """
        names = self._listed(caller, prefix)
        first = bisect.bisect_right(names, after)
        return names[first : first + limit], len(names) > first + limit

    def many(self, caller: Caller, prefix: str, begin: str, limit: int, most: int) -> Iterator[tuple[str, bytes]]:
        """Yield small files under a prefix from the name `begin` on, as many as `most` bytes hold.

        Raises
        ------
        MissingError
            If there is no such prefix, or it is not for the caller.
        StoreError
        """
        names = self._listed(caller, prefix)
        first = bisect.bisect_left(names, begin)
        for name in names[first : first + limit]:
            try:
                with self.open(caller, f"{prefix}/{name}") as file:
                    most -= os.fstat(file.fileno()).st_size
                    if most < 0:
                        return
                    data = file.read()
            except MissingError:  # pruned, or no file of ours: whoever asks for it by name is told
                continue
            yield name, data

    def _listed(self, caller: Caller, prefix: str) -> Sequence[str]:
        found = _FOLDER.fullmatch(prefix)
        if found is None or (found["guest"] and not self._sees(caller, GuestId(found["guest"]))):
            raise _missing(prefix)
        if prefix.startswith("packs") and caller.guests:
            raise _missing(prefix)  # the names of packs say how much others have
        names = sorted(name for name in self._store.backend.list(prefix) if _is_told(prefix, name))
        if prefix == "guests":
            names = [name for name in names if self._sees(caller, GuestId(name))]
        return names

    def _is_for(self, caller: Caller, guest: str | None, pack: str | None, name: str) -> bool:
        if not caller.guests or (guest is None and pack is None):
            return True
        owner = GuestId(guest) if guest else self._owner(str(pack), name)
        return owner is not None and self._sees(caller, owner)

    def _sees(self, caller: Caller, guest: GuestId) -> bool:
        if not caller.guests:
            return True
        if guest not in self._names:
            try:
                self._names[guest] = self._store.guest(guest).name
            except WorkbenchError:
                return False
        return caller.sees(guest, self._names[guest])

    def _owner(self, pack: str, name: str) -> GuestId | None:
        """Return whose pack this is, as its footer says; None where there is no such pack, or it cannot be told."""
        with self._lock:
            known = self._owners.get(pack)
        if known is None:
            try:
                self._store.backend.size(name)
                packs = Packs(self._store.backend)
                footer = packs.pack(packs.table.number(bytes.fromhex(pack)))
            except StoreError:
                return None
            known = GuestId(str(uuid.UUID(bytes=footer.guest)))
            with self._lock:
                self._owners[pack] = known
                if len(self._owners) > _MOST_PACKS:
                    self._owners.popitem(last=False)
        return known


def _is_told(prefix: str, name: str) -> bool:
    if prefix in ("guests", "packs"):
        return _FOLDER.fullmatch(f"{prefix}/{name}/captures" if prefix == "guests" else f"packs/{name}") is not None
    return name.endswith(_SUFFIXES) and _FILE.fullmatch(f"{prefix}/{name}") is not None


def _missing(name: str) -> MissingError:
    return MissingError("no such file, or not for the caller", path=name[:200], cure="List what there is.")
