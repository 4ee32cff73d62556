"""What is written down of a clone: `clone.json` in its directory, by which any process finds, lists and removes it.

A case may be a stranger's: refuses a description that does not fit where it lies.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from workbench.model import CaptureId
from workbench.store import CaseStore

__all__ = ["CloneRecord", "clone_sockets", "describe", "list_clones"]

_RECORD = "clone.json"


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
    """Write a description."""
    (Path(record.directory) / _RECORD).write_text(json.dumps(asdict(record)))


def list_clones(store: CaseStore) -> list[CloneRecord]:
    """Return the clones of a case, oldest first; a directory without a description is one that never came up."""
    found = []
    for path in (store.path / "clones").glob(f"*/{_RECORD}"):
        with contextlib.suppress(ValueError, TypeError, OSError):
            found.append(_read(path))
    return sorted(found, key=lambda clone: clone.started_ns)


def _read(path: Path) -> CloneRecord:
    """Read a description that a stranger may have written: what it says must fit where it lies."""
    told = json.loads(path.read_text())
    record = CloneRecord(
        str(told["name"]),
        str(uuid.UUID(path.parent.name)),
        str(told["uri"]),
        CaptureId(str(told["capture"])),
        str(path.parent),
        str(clone_sockets(path.parent.name)),
        int(told["started_ns"]),
        float(told["seconds"]),
        "mapped" if told.get("memory") == "mapped" else "written",
        thaw=str(told.get("thaw", ""))[:500],
    )
    if told["uuid"] != record.uuid:
        raise ValueError("the description is another clone's")
    return record
