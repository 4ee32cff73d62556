"""One run of the bench: where it works, how many samples it takes, and the guests and recordings it needs.

Refuses to keep anything: guests and files live in one temporary directory and end with their figure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workbench.case import Case, Recording
from workbench.demo import DemoGuest, DemoSpec

__all__ = ["Bench"]


@dataclass(frozen=True, slots=True)
class Bench:
    """One run.

    Attributes
    ----------
    place : Path
        A directory that QEMU's user can reach; every figure makes what it needs in it.
    uri : str
        The libvirt connection.
    quick : bool
        Few samples: to see that it works, not to judge.
    """

    place: Path
    uri: str
    quick: bool = False

    def count(self, full: int, quick: int) -> int:
        """Return how many samples to take."""
        return quick if self.quick else full

    @property
    def large_mib(self) -> int:
        """RAM of the large guest, in MiB."""
        return 1024 if self.quick else 4096

    @contextmanager
    def guest(self, figure: str, memory_mib: int = 512, *, agent: bool = False) -> Iterator[DemoGuest]:
        """Boot a guest that ends with the body."""
        spec = DemoSpec(f"bench-{figure}-{memory_mib}-{os.getpid()}", memory_mib=memory_mib, agent=agent)
        with DemoGuest.boot(spec, self.uri, self.place / spec.name) as guest:
            yield guest

    @contextmanager
    def recording(self, guest: DemoGuest) -> Iterator[tuple[Case, Recording]]:
        """Record a guest into a case of its own for the body; the case stays for the peers."""
        with Case.create(self.place / f"case-{guest.name}", uri=self.uri) as case, case.record(guest.name) as recording:
            yield case, recording
