"""One capture of a case, to be looked at: its regions, memory, files, and a clone of it.

Refuses to change anything of the capture.
"""

from __future__ import annotations

from datetime import UTC, datetime
from io import BufferedReader
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from workbench.disk.doors import DiskOfMoment
from workbench.errors import UsageError
from workbench.inquiry.analysis import Analyst
from workbench.instant.doors import InstantOfMoment
from workbench.memory.doors import MemoryOfMoment
from workbench.memory.physical import PhysicalMemory
from workbench.model import CaptureRecord, GuestRecord
from workbench.progress import Progress, silent
from workbench.rewind.clone_plan import plan_clone
from workbench.rewind.identity import Clock, Identity
from workbench.rewind.network import Network
from workbench.store import RegionFile
from workbench.timeline.links import link_to

if TYPE_CHECKING:
    from workbench.case.case import Case
    from workbench.case.clone import Clone

__all__ = ["Moment"]


class Moment(InstantOfMoment, MemoryOfMoment, DiskOfMoment):
    """One capture of a case, to be looked at."""

    case: Case

    def __init__(self, case: Case, guest: GuestRecord, record: CaptureRecord) -> None:
        self.case = case
        self.guest = guest
        self.record = record
        self.id = record.id

    @property
    def _analyst(self) -> Analyst:  # type: ignore[override]
        return self.case.analyst

    @property
    def time(self) -> pd.Timestamp:
        """When it was taken (UTC)."""
        return pd.Timestamp(self.record.time_ns, unit="ns", tz="UTC")

    @property
    def link(self) -> str:
        """A lasting link to it, `wb://CASE/CAPTURE`: wherever the case is moved to, `case.moment(link)` finds it."""
        return link_to(self.case.store.id, self.id)

    @property
    def facts(self) -> dict[str, Any]:
        """What the capture recorded of its own taking."""
        return dict(self.record.facts)

    def regions(self) -> pd.DataFrame:
        """Return its regions: name (str), kind (str), bytes (int64), digest (str)."""
        rows = [(each.spec.name, str(each.spec.kind), each.spec.length, each.digest) for each in self.record.regions]
        return pd.DataFrame(rows, columns=["name", "kind", "bytes", "digest"])

    def physical_ranges(self) -> pd.DataFrame:
        """Return where memory is in the guest's physical address space; the rest of it is holes.

        Returns
        -------
        DataFrame
            By address: start, bytes (int64), region (str), offset (int64, bytes, in the region).

        Raises
        ------
        FormatError
            If the capture's layout cannot be understood.
        StoreError
        """
        ranges = PhysicalMemory.of_capture(self.case.store.view(self.id)).ranges
        rows = [(each.start, each.length, each.block, each.offset) for each in ranges]
        return pd.DataFrame(rows, columns=["start", "bytes", "region", "offset"])

    def open(self, what: str, *, source: Literal["disk"] | None = None) -> RegionFile | BufferedReader:
        """Return a file of the guest (an absolute path) or a region (its name), seekable, read-only, binary.

        A file is as the guest would have read it; `source="disk"` leaves out what was only in its page cache.

        Raises
        ------
        DiskError
            If the guest has no such file then.
        UsageError
            If there is no such region.
        """
        if what.startswith("/"):
            return self.open_file(what, source=source)
        self._spec(what)
        return self.case.store.view(self.id).region(what).open()

    def read(self, region: str, offset: int, length: int) -> bytes:
        """Return bytes of a region.

        Raises
        ------
        UsageError
            If there is no such region or the range does not lie in it.
        """
        size = self._spec(region)
        if offset < 0 or length < 0 or offset + length > size:
            raise UsageError(f"range outside {region}", offset=offset, length=length, size=size)
        return self.case.store.view(self.id).region(region).read(offset, length)

    def _spec(self, region: str) -> int:
        for each in self.record.regions:
            if each.spec.name == region:
                return each.spec.length
        raise UsageError(
            f"no region {region!r} in this capture", regions=[each.spec.name for each in self.record.regions]
        )

    def clone(
        self,
        *,
        name: str | None = None,
        network: bool | Network = "none",
        segment: str | None = None,
        identity: Identity | Literal["new"] | None = None,
        clock: Clock = "kept",
        run: bool = True,
        progress: Progress = silent,
    ) -> Clone:
        """Start a clone of this moment; as a context manager it is gone at the end.

        Parameters
        ----------
        name : str, optional
            The domain's name.
        network : {"none", "as-guest", "shared"} or bool
            Cut off (or False); as the guest has it (or True: two machines with one address); or on a private segment
            with other clones, without the host.
        segment : str, optional
            The segment's name, for "shared" (see `Case.segment`); "shared" by default.
        identity : Identity or "new", optional
            Another hostname, MAC, machine id, and on a segment address; by default it is who memory says.
        clock : {"kept", "now"}
            Its clock goes on from the moment, or is set to the present.
        run : bool
            Let it run at once; for a new identity or clock it has to run for a moment in any case.

        Raises
        ------
        UsageError, GuestError, UnsupportedError, StoreError
            Nothing of it is left.
        """
        return self.case.start_clone(
            self,
            name=name,
            network=network,
            segment=segment,
            identity=identity,
            clock=clock,
            run=run,
            progress=progress,
        )

    def check_clone(
        self,
        *,
        network: bool | Network = "none",
        segment: str | None = None,
        identity: Identity | Literal["new"] | None = None,
        clock: Clock = "kept",
    ) -> None:
        """Refuse what `clone` refuses before it starts anything; for the parameters see there.

        Raises
        ------
        UsageError
            If it cannot be meant.
        UnsupportedError
            If the guest of this moment does not allow it.
        StoreError
        """
        view = self.case.store.view(self.id)
        plan_clone(view, network=network, segment=segment, identity=identity, clock=clock)

    def __repr__(self) -> str:
        return f"<Moment {self.id[:12]} of {self.guest.name!r} at {_words(self.record.time_ns)}>"


def _words(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
