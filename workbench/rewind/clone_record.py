"""What is written down of a clone: `clone.json` in its directory, by which any process finds, lists and removes it.

A case may be a stranger's: refuses a description that does not fit where it lies, or says what no clone of ours could
have been. It is put in its place whole, so that whoever lists clones (a prune keeps their moments) misses none.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import UsageError
from workbench.model import CaptureId
from workbench.rewind.identity import told_identity
from workbench.rewind.network import network_of
from workbench.rewind.network_segment import Segment
from workbench.store import CaseStore

__all__ = ["CloneRecord", "clone_sockets", "describe", "find_clone", "list_clones", "told_options"]

_RECORD = "clone.json"
_LARGEST = 1 << 16
"""Bytes of a description."""
_LONGEST = 255
"""Characters of a domain's name: libvirt names files after it."""
_CAPTURE = re.compile(r"[0-9a-f]{64}")
_END_OF_TIME = 1 << 63
_LONG_START = 1e6
"""Seconds; no clone took longer to start."""
_NONSENSE = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, OSError)


@dataclass(frozen=True, slots=True)
class CloneRecord:
    """A clone as its directory describes it.

    Attributes
    ----------
    name, uuid, uri : str
        The domain and where it runs.
    capture : CaptureId
        The moment it started from.
    directory : str
        Its overlays and logs.
    sockets : str
        Its sockets, by the names that the guest's have.
    started_ns : int
    seconds : float
        From the call to running.
    memory : str
        "mapped": its main memory is a file that all clones of the moment share until they write; "written": its own.
    network : str
        "none", "as-guest" or "shared".
    segment : str
        The segment that it is on, where it shares one.
    identity : mapping of str to str
        What is new: of hostname, mac, machine_id and address those that are.
    clock : str
        "kept": it went on from the moment; "now": it was set to the present.
    thaw : str
        Of a moment with frozen file systems: "thawed", "frozen still: ..." and why, "not yet: ..." where it stands.
    """

    name: str
    uuid: str
    uri: str
    capture: CaptureId
    directory: str
    sockets: str
    started_ns: int
    seconds: float
    memory: str = "written"
    network: str = "none"
    segment: str = ""
    identity: Mapping[str, str] = field(default_factory=dict)
    clock: str = "kept"
    thaw: str = ""


def clone_sockets(identity: str) -> Path:
    """Return where the sockets of a clone are: short for the kernel's sake, and made exclusively."""
    return Path("/tmp") / f"rwb-{identity}"


def describe(record: CloneRecord) -> None:
    """Write a description, in the place of the one that is there."""
    path = Path(record.directory) / _RECORD
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(record)))
    new.replace(path)


def list_clones(store: CaseStore) -> list[CloneRecord]:
    """Return the clones of a case, oldest first; a directory without a description is one that never came up."""
    found = []
    for path in (store.path / "clones").glob(f"*/{_RECORD}"):
        with contextlib.suppress(*_NONSENSE):
            found.append(_read(path))
    return sorted(found, key=lambda clone: clone.started_ns)


def find_clone(store: CaseStore, name: str) -> CloneRecord:
    """Return the clone of a name or UUID.

    Raises
    ------
    UsageError
        If the case has none.
    """
    there = list_clones(store)
    for clone in there:
        if name in (clone.name, clone.uuid):
            return clone
    raise UsageError(f"no clone {name!r} in this case", known=", ".join(each.name for each in there) or "none")


def _read(path: Path) -> CloneRecord:
    """Read a description that a stranger may have written: what it says must fit where it lies."""
    told, place = _told(path), path.parent
    if str(uuid.UUID(place.name)) != place.name or told["uuid"] != place.name:
        raise ValueError("the description is another clone's")
    if not _CAPTURE.fullmatch(told["capture"]):
        raise ValueError("a clone of no capture")
    return CloneRecord(
        str(told["name"])[:_LONGEST],
        place.name,
        str(told["uri"])[:_LARGEST],
        CaptureId(told["capture"]),
        str(place),
        str(clone_sockets(place.name)),
        int(_within(told["started_ns"], _END_OF_TIME)),
        float(_within(told["seconds"], _LONG_START)),
        **told_options(told),
    )


def told_options(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what somebody tells of how a clone was started, as fields of its record; an older one told less.

    Raises
    ------
    ValueError, TypeError, KeyError
        If no clone could have been started so.
    """
    try:
        network = network_of(str(told.get("network", "none")))
        segment = Segment(Path(), told["segment"]).name if network == "shared" else ""
    except UsageError as error:
        raise ValueError(error.message) from error
    return {
        "memory": "mapped" if told.get("memory") == "mapped" else "written",
        "network": network,
        "segment": segment,
        "identity": told_identity(told.get("identity", {})),
        "clock": "now" if told.get("clock") == "now" else "kept",
        "thaw": str(told.get("thaw", ""))[:500],
    }


def _told(path: Path) -> dict[str, Any]:
    """Return the object that a plain file of a plain directory holds; anything else there is a stranger's."""
    if path.parent.is_symlink():
        raise ValueError("a clone's directory lies somewhere else")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("a description that is no file")
        told = json.loads(file.read(_LARGEST))
    if not isinstance(told, dict):
        raise TypeError("a description that is no object")
    return told


def _within(number: float, end: float) -> float:
    if not 0 <= number < end:
        raise ValueError("an impossible number")
    return number
