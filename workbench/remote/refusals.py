"""What is done where a case is, and not from afar: each refusal says what to do instead."""

from __future__ import annotations

from typing import Any, NoReturn

from workbench.errors import UnsupportedError

__all__ = ["NotFromAfar"]

_THERE = "Ask on the service's host."


class NotFromAfar:
    """Refuses what a service does not do for others."""

    @property
    def location(self) -> str:
        """The address of the service."""
        raise NotImplementedError

    def _refuse(self, what: str, cure: str = _THERE) -> NoReturn:
        raise UnsupportedError(what, service=self.location, cure=cure)

    @property
    def hypervisor(self) -> NoReturn:
        """Refuse: guests are the service's."""
        self._refuse("a guest cannot be touched from afar", "Use record, rewind and clone, or work on its host.")

    @property
    def audit_log(self) -> NoReturn:
        """Refuse: a service has its own, for its admins."""
        self._refuse("an audit log is read where the case is", "Ask for GET /audit as an admin.")

    def experiment(self, *_asked: Any, **_options: Any) -> NoReturn:
        """Refuse: what a clone is told to do is said where it runs."""
        self._refuse("an experiment is made where the case is", "Run `workbench experiment` on the service's host.")

    def experiments(self) -> NoReturn:
        """Refuse: a service does not hand them out."""
        self._refuse("experiments are found where the case is")

    def open_experiment(self, _identity: str) -> NoReturn:
        """Refuse: a service does not hand them out."""
        self._refuse("an experiment is found where the case is")

    def segment(self, _name: str = "shared") -> NoReturn:
        """Refuse: a service does not hand out what its clones sent."""
        self._refuse("packets of segments are read where the case is")

    def segments(self) -> NoReturn:
        """Refuse: a service does not hand out what its clones sent."""
        self._refuse("segments are found where the case is")

    def record_exactly(self, *_asked: Any, **_options: Any) -> NoReturn:
        """Refuse: a recording lies where its case is."""
        self._refuse("a machine is recorded where the case is", "Run `workbench record` on the service's host.")

    boot_exactly = record_exactly

    def exact_recording(self, _identity: str = "") -> NoReturn:
        """Refuse: a recording lies where its case is."""
        self._refuse("a recording is replayed where the case is", "Run `workbench replay` on the service's host.")

    def exact_recordings(self) -> NoReturn:
        """Refuse: a recording lies where its case is."""
        self._refuse("recordings are found where the case is")

    def report(self, *_asked: Any, **_options: Any) -> NoReturn:
        """Refuse: a report names a case that can be opened again."""
        self._refuse("a report is made where the case is", "Run `workbench report` on the service's host.")

    def verify_report(self, *_asked: Any, **_options: Any) -> NoReturn:
        """Refuse: as a report is made."""
        self._refuse("a report is verified where the case is", "Run `workbench verify-report` on the service's host.")
