"""What the tests of the service share: a service over one guest, and waiting for what other threads do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from workbench.service.configuration import Configuration, GuestConfiguration
from workbench.service.hub import Service
from workbench.service.keeper import Keeper
from workbench.service.settings import Limits, Listen, Settings


@contextlib.contextmanager
def serving(place: Path, wanted: GuestConfiguration, rules: Path | None = None, **limits: float) -> Iterator[Service]:
    """A service that keeps one guest of the session's libvirt; it ends with the body."""
    made = Service(
        Settings(
            case=place / "case",
            connect="qemu:///session",
            state=place / "state",
            listen=Listen(socket=place / "s"),
            limits=Limits(free_bytes=0, **limits),
            rules=rules,
        )
    )
    with contextlib.closing(made):
        made.book.put(Configuration(guests=(wanted,)), "test", 1)
        made.start()
        yield made


def keeper(service: Service) -> Keeper:
    """The keeper of its one guest."""
    return next(iter(service._keepers.values()))
