"""A guest that a service records already: captures on request, and how it goes.

Refuses to begin or end the recording: that is the guest's configuration, `RemoteCase.configure`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, Self

import pandas as pd

from workbench.case import Moment, Quiesce
from workbench.errors import UnsupportedError
from workbench.model import CaptureMode, GuestRecord
from workbench.remote.answers import making_sense

if TYPE_CHECKING:
    from workbench.remote.case import RemoteCase

__all__ = ["RemoteRecording"]


class RemoteRecording:
    """A guest being recorded by a service; as a context manager it changes nothing at its end.

    Parameters
    ----------
    case : RemoteCase
    guest : str
        Its name or UUID, as the service is asked.
    """

    def __init__(self, case: RemoteCase, guest: str) -> None:
        self.case = case
        self._name = guest

    @property
    def guest(self) -> GuestRecord:
        """The guest being recorded.

        Raises
        ------
        UsageError
            If the case has no capture of it yet.
        """
        return self.case.guest(self._name)

    def capture(
        self,
        reason: str = "",
        *,
        mark: str | None = None,
        mode: CaptureMode = CaptureMode.MANUAL,
        quiesce: Quiesce | None = None,
    ) -> Moment:
        """Have a capture taken now, and return its moment; `mark` names it. An event goes through the guest's gate.

        With `quiesce` the guest's file systems are frozen for it, for as long as the guest's configuration allows and,
        where that fails, as it says.

        Raises
        ------
        UsageError
            If it is not for the caller, or an event that was held back.
        CaptureError, GuestError, StoreError
            The guest runs on.
        """
        if mode is CaptureMode.EVENT:
            told = self.request(reason, mark=mark)
            self.case.require_taken(told)
        else:
            told = self.case.captured(self._name, reason, mark, quiesce=quiesce is not None)
        with making_sense("a capture"):
            return self.case.moment(f"id:{told['capture']}", self._name)

    def request(self, reason: str, *, mark: str | None = None) -> dict[str, Any]:
        """Tell the service of an event: `taken` says whether its gate let it pass, `why` what held it back."""
        return self.case.event(self._name, mark or "request", reason)

    @property
    def status(self) -> pd.Series[Any]:
        """The guest's row of `RemoteCase.status`."""
        return self.case.status(self._name).iloc[0]

    def watch(self, _interval: float, _listener: Callable[[Any], None]) -> NoReturn:
        """Refuse: the service watches, every so often as its configuration says."""
        raise UnsupportedError(
            "the service records this guest by itself", cure="Set how often: configure(guest, interval_s=...)."
        )

    start = watch

    def end(self) -> None:
        """Do nothing: the service goes on."""

    def close(self) -> None:
        """Do nothing: the service goes on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RemoteRecording of {self._name!r} by {self.case.location!r}>"
