"""A clone that a service started: told of and ended from here, and run by the service.

Refuses what takes its host: its console, its screen and its files are there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from workbench.case import Clone
from workbench.errors import StoreError, UnsupportedError
from workbench.model import CaptureId
from workbench.rewind.clone import CloneRecord

__all__ = ["RemoteClone", "record_of"]


class RemoteClone(Clone):
    """A running copy of a guest on the service's host; ended with its context manager or by `destroy`."""

    @property
    def directory(self) -> Path:
        """Refuse: its overlays and logs are on its host."""
        self._refuse("its files")

    def socket(self, name: str) -> Path:
        """Refuse: its sockets are on its host."""
        self._refuse(f"its socket {name[:80]!r}")

    def _refuse(self, what: str) -> NoReturn:
        raise UnsupportedError(
            f"{what} cannot be had from afar", clone=self.name, cure="Open the case on the host that it runs on."
        )


def record_of(told: dict[str, Any], address: str) -> CloneRecord:
    """Return a clone as a service tells of it.

    Raises
    ------
    StoreError
        If it makes no sense.
    """
    try:
        return CloneRecord(
            str(told["name"]),
            str(told["uuid"]),
            address,
            CaptureId(str(told["capture"])),
            "",
            "",
            int(told["started_ns"]),
            float(told["seconds"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError("the service tells of a clone that makes no sense", cure="Ask who runs it.") from error
