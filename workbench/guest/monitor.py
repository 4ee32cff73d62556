"""QMP through libvirt's passthrough, with descriptors.

One command, one answer. Passthrough taints the domain (a line in its log) and goes through libvirt's own monitor lock,
so libvirt stays in step with what we do. Refuses to interpret answers: callers know what they asked.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from workbench.errors import GuestGoneError, HypervisorLostError, MonitorError, OutcomeUnknownError
from workbench.guest import virt

if TYPE_CHECKING:
    import libvirt

__all__ = ["PREFIX", "Monitor", "is_lost"]

PREFIX = "rwb-"
"""Every node, job, bitmap and export that we make in a QEMU begins with this."""

_FIRST_FDSET = 7_200_000
_fdsets = itertools.count(_FIRST_FDSET + os.getpid() % 100_000 * 1000)


def is_lost(error: libvirt.libvirtError) -> bool:
    """Tell whether the connection broke, by who raised it: libvirt's own transport, and not a driver behind it."""
    return bool(error.get_error_domain() == virt.VIR_FROM_RPC)


class Monitor:
    """The monitor of one domain.

    Raises
    ------
    MonitorError
        From every call: QEMU refused the command; `facts` carry `command` and `error_class`.
    GuestGoneError
        From every call: the domain is not running any more.
    HypervisorLostError
        From every call: the connection broke before the answer came; of the guest that says nothing.
    OutcomeUnknownError
        From every call: no answer came.
    """

    def __init__(self, domain: libvirt.virDomain, name: str) -> None:
        self._domain = domain
        self._name = name

    def execute(self, command: str, *, files: Sequence[int] = (), **arguments: Any) -> Any:
        """Run one QMP command and return what it returns.

        Parameters
        ----------
        command : str
            The QMP command.
        files : sequence of int
            Descriptors to send along (`add-fd`); they stay open here.
        **arguments : Any
            Its arguments; underscores are written as hyphens.
        """
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        text = json.dumps({"execute": command, "arguments": named})
        try:
            if files:
                answer = virt.qemuMonitorCommandWithFiles(self._domain, text, list(files), 0)
            else:
                answer = virt.qemuMonitorCommand(self._domain, text, 0)
        except virt.libvirtError as error:
            raise self._failure(command, error) from error
        reply = json.loads(answer[0] if isinstance(answer, tuple) else answer)
        if "error" in reply:
            wrong = reply["error"]
            raise MonitorError(f"{self._name}: {command}: {wrong['desc']}", command=command, error_class=wrong["class"])
        return reply["return"]

    def human(self, line: str) -> str:
        """Run one line of the human monitor and return what it prints.

        HMP reports errors as text: the caller checks the text.
        """
        try:
            flags = virt.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
            return str(virt.qemuMonitorCommand(self._domain, line, flags))
        except virt.libvirtError as error:
            raise self._failure(line.split(maxsplit=1)[0], error) from error

    def _failure(self, command: str, error: libvirt.libvirtError) -> GuestGoneError | OutcomeUnknownError:
        try:
            alive = bool(self._domain.isActive())
        except virt.libvirtError as wrong:
            if is_lost(wrong):
                return HypervisorLostError(f"{self._name}: libvirt was lost during {command}: {error}", command=command)
            alive = False
        if not alive:
            return GuestGoneError(f"{self._name} ended during {command}: {error}", command=command)
        return OutcomeUnknownError(f"{self._name}: no answer to {command}: {error}", command=command)

    @contextlib.contextmanager
    def fdset(self, descriptor: int) -> Iterator[str]:
        """Lend a descriptor to QEMU and yield the path by which QEMU opens it.

        QEMU opens `/dev/fdset/N` only with the descriptor's own access mode. The set is removed at the end; nodes that
        still hold it open keep their duplicate.
        """
        number = next(_fdsets)
        self.execute("add-fd", files=[descriptor], fdset_id=number, opaque=PREFIX)
        try:
            yield f"/dev/fdset/{number}"
        finally:
            with contextlib.suppress(MonitorError, GuestGoneError, HypervisorLostError):
                self.execute("remove-fd", fdset_id=number)

    def wait_job(self, job: str, *, timeout: float = 60.0) -> None:
        """Wait until a job with `auto-dismiss` off has concluded, dismiss it, and raise what it failed of.

        Raises
        ------
        MonitorError
            If the job failed.
        OutcomeUnknownError
            If it has not concluded after `timeout` seconds; it is left to the caller to cancel it.
        """
        deadline = time.monotonic() + timeout
        pause = 0.0005
        while True:
            status = next((each for each in self.execute("query-jobs") if each["id"] == job), None)
            if status is None:
                raise MonitorError(f"{self._name}: job {job} is not there", command="query-jobs", error_class="gone")
            if status["status"] == "concluded":
                self.execute("job-dismiss", id=job)
                if "error" in status:
                    raise MonitorError(f"{self._name}: job {job}: {status['error']}", command=job, error_class="job")
                return
            if time.monotonic() > deadline:
                raise OutcomeUnknownError(f"{self._name}: job {job} runs on after {timeout} s", status=status["status"])
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)
