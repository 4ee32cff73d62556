"""Which guests run, asked of libvirt at most once a second for all keepers together.

A connection that broke (libvirt was restarted) is opened again at the next look. Refuses to say that a guest does not
run because libvirt did not answer: that is an error.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pandas as pd

from workbench.case import guest_off, running_guests
from workbench.errors import GuestError, WorkbenchError

__all__ = ["Running"]

_FRESH_S = 1.0


class Running:
    """The guests of one libvirt connection.

    Parameters
    ----------
    connect : str
        libvirt's address.
    """

    def __init__(self, connect: str) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._seen: pd.DataFrame | None = None
        self._error: WorkbenchError | None = None
        self._at = float("-inf")

    def frame(self) -> pd.DataFrame:
        """Return the running guests; columns as `workbench.case.running_guests` documents.

        Raises
        ------
        GuestError
            If libvirt does not answer.
        """
        with self._lock:
            if time.monotonic() - self._at >= _FRESH_S:
                self._look()
            if self._seen is None:
                assert self._error is not None
                raise GuestError(self._error.message, cure=self._error.cure)
            return self._seen

    def find(self, name: str) -> tuple[str, str] | None:
        """Return UUID and name of the running guest with this name or UUID.

        Raises
        ------
        GuestError
            If libvirt does not answer.
        """
        rows: list[dict[Any, Any]] = self.frame().to_dict("records")
        return next(((row["uuid"], row["name"]) for row in rows if name in (row["name"], row["uuid"])), None)

    def why_off(self, name: str) -> str:
        """Say in words why a guest does not run, as far as libvirt knows.

        Raises
        ------
        GuestError
            If libvirt does not answer.
        """
        return guest_off(name, self._connect)

    def _look(self) -> None:
        try:
            self._seen, self._error = running_guests(self._connect), None
        except WorkbenchError as error:
            self._seen, self._error = None, error
        self._at = time.monotonic()
