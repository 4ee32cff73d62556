"""A clone that a service started: told of and ended from here, and run by the service.

Refuses what takes its host: its console, its screen and its files are there.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from workbench.case import Clone
from workbench.errors import UnsupportedError

__all__ = ["RemoteClone"]


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
