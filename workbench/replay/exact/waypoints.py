"""Waypoints: states kept on the way of a replay, at which later replays can begin instead of at the beginning.

They are a cache: made from the recording, and removed without loss. One lies in `waypoints/ICOUNT` with a VM state and
the overlay of that instant, both with a snapshot of its name. Refuses one whose files are not the digests it names.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench.replay.exact.description import Description, file_digest

__all__ = ["Waypoint", "kept_waypoints", "nearest"]

_PARTS = ("state.qcow2", "disk.qcow2")


@dataclass(frozen=True, slots=True)
class Waypoint:
    """A kept state: its directory and how many instructions were run until there."""

    place: Path
    icount: int

    @property
    def tag(self) -> str:
        """The name of its VM state."""
        return f"at-{self.icount}"

    @property
    def whole(self) -> bool:
        """Whether its files are what was kept."""
        try:
            told = json.loads((self.place / "digests.json").read_text())
            return set(told) <= set(_PARTS) and all(file_digest(self.place / each) == told[each] for each in told)
        except Exception:  # noqa: BLE001  (a cache: whatever is wrong with it, it is not used)
            return False

    @contextlib.contextmanager
    def making(self) -> Iterator[Path]:
        """Yield a directory that becomes the waypoint when the block ends without an error."""
        self.place.parent.mkdir(mode=0o700, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=self.place.parent, prefix=".part-"))
        try:
            yield beside
            told = {each: file_digest(beside / each) for each in _PARTS if (beside / each).exists()}
            (beside / "digests.json").write_text(json.dumps(told))
            shutil.rmtree(self.place, ignore_errors=True)
            with contextlib.suppress(OSError):  # somebody else made the same one meanwhile
                beside.rename(self.place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def kept_waypoints(place: Path) -> list[Waypoint]:
    """Return the waypoints of a recording, in order; whether they are whole is not looked at."""
    names = [each.name for each in (place / "waypoints").glob("*") if each.name.isdigit() and len(each.name) < 20]
    return [Waypoint(place / "waypoints" / name, int(name)) for name in sorted(names, key=int)]


def nearest(place: Path, icount: int, description: Description) -> Waypoint | None:
    """Return the last whole waypoint at or before an instruction; None where the beginning is the nearest."""
    for each in reversed(kept_waypoints(place)):
        if description.begins < each.icount <= icount and each.whole:
            return each
    return None
