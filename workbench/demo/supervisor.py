"""The host's end of the channel to the demo guest's supervisor; it works for clones too, given their socket.

One request at a time, each with an id that the answer must carry. A rewind or a clone may leave bytes of another time
in the channel: answers nobody asked for and broken lines are skipped, and every request starts on a line of its own.

Refuses to guess: a request whose answer did not come may have been carried out, and the error says so.
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from workbench.errors import GuestError, GuestGoneError, OutcomeUnknownError

__all__ = ["Health", "RunResult", "Supervisor"]


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a command in the guest did.

    Attributes
    ----------
    rc : int
        Its exit status; 143 when it was ended because its time was over.
    stdout : str
        What it printed, standard error included.
    t : float
        The guest's clock when it answered, in seconds since the epoch.
    """

    rc: int
    stdout: str
    t: float


@dataclass(frozen=True, slots=True)
class Health:
    """How the guest says it is.

    Attributes
    ----------
    ok : bool
        Every disk takes and gives back data, and the kernel complained of nothing.
    uptime, t : float
        Seconds since boot, and since the epoch, by the guest's clock.
    problems, warnings : tuple of str
        What is wrong; what is only odd (a clock source doubted, for instance).
    """

    ok: bool
    uptime: float
    t: float
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


class Supervisor:
    """A client of the guest's supervisor.

    Parameters
    ----------
    path : str or Path
        The unix socket on which QEMU listens for the port `org.rewind.supervisor`.

    Notes
    -----
    Threads may share one client: requests wait for each other. QEMU serves one connection at a time.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._pending = b""
        self._token = secrets.token_hex(4)
        self._count = 0

    def __enter__(self) -> Self:
        """Use the client as a context manager; the connection is made by the first request."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        with self._lock:
            self._drop()

    def wait_ready(self, timeout: float = 60) -> float:
        """Connect anew and wait until the guest answers.

        Parameters
        ----------
        timeout : float
            Seconds to try.

        Returns
        -------
        float
            The guest's clock, in seconds since the epoch.

        Raises
        ------
        GuestGoneError
            The channel cannot be opened.
        OutcomeUnknownError
            It can, but no answer came.
        """
        end, patience = time.monotonic() + timeout, 2.0
        self.close()
        while True:
            left = end - time.monotonic()
            try:
                return self.ping(timeout=max(0.05, min(patience, left)))
            except (GuestGoneError, OutcomeUnknownError) as error:
                if left <= 0:
                    raise
                if isinstance(error, OutcomeUnknownError):
                    patience *= 2  # a guest that is slow would answer only what was given up
                time.sleep(0.05)

    def ping(self, timeout: float = 10) -> float:
        """Ask for a sign of life.

        Returns
        -------
        float
            The guest's clock, in seconds since the epoch.

        Raises
        ------
        GuestGoneError
            The channel is closed.
        OutcomeUnknownError
            No answer within `timeout` seconds.
        """
        return self.request("ping", timeout=timeout).t

    def run(self, cmd: str, timeout: float = 120) -> RunResult:
        """Run a shell command as root in the guest.

        Parameters
        ----------
        cmd : str
            What busybox's shell reads; standard input is empty.
        timeout : float
            Seconds (whole, rounded up) after which the guest ends it; 10 more are waited for the answer.

        Returns
        -------
        RunResult
            Status and output.

        Raises
        ------
        GuestGoneError
            The channel is closed.
        OutcomeUnknownError
            No answer: the command may or may not have run.
        """
        encoded = base64.b64encode(cmd.encode()).decode() or "Cg=="
        return self.request(f"run {int(timeout + 0.999)} {encoded}", timeout=timeout + 10)

    def health(self, timeout: float = 60) -> Health:
        """Let the guest examine itself: disks written and read back, kernel messages read.

        Returns
        -------
        Health
            What it found.

        Raises
        ------
        GuestGoneError, OutcomeUnknownError
            As for `run`.
        """
        answer = self.request("health", timeout=timeout)
        told = [line.partition(": ") for line in answer.stdout.splitlines()]
        problems = tuple(text for key, _, text in told if key == "problem")
        warnings = tuple(text for key, _, text in told if key == "warning")
        uptime = next((float(text) for key, _, text in told if key == "uptime"), -1.0)
        return Health(answer.rc == 0 and not problems, uptime, answer.t, problems, warnings)

    def load(self, kind: str, mib: int = 64) -> None:
        """Start or end background load.

        Parameters
        ----------
        kind : {"shell", "memory", "disk", "off"}
            Kinds add up; "off" ends them all.
        mib : int
            For "memory": how many MiB are rewritten about once a second.

        Raises
        ------
        GuestError
            The guest knows no such load.
        GuestGoneError, OutcomeUnknownError
            As for `run`.
        """
        self._done(self.request(f"load {kind} {mib}", timeout=30))

    def bench(self, timeout: float = 300) -> float:
        """Do a fixed amount of processor and memory work in the guest.

        Returns
        -------
        float
            Seconds by the host's clock, pauses of the guest included; about 5 under emulation.

        Raises
        ------
        GuestError
            The guest could not.
        GuestGoneError, OutcomeUnknownError
            As for `run`.
        """
        begun = time.monotonic()
        self._done(self.request("bench", timeout=timeout))
        return time.monotonic() - begun

    def truth(self, timeout: float = 60) -> list[dict[str, object]]:
        """Read the whole truth log.

        Returns
        -------
        list of dict
            Each planted act: "t" (the guest's epoch seconds), "what", and its details.

        Raises
        ------
        GuestGoneError, OutcomeUnknownError
            As for `run`.
        """
        return [json.loads(line) for line in self.request("truth", timeout=timeout).stdout.splitlines()]

    def request(self, line: str, timeout: float) -> RunResult:
        """Send one request and wait for its answer.

        Parameters
        ----------
        line : str
            Verb and arguments, without id and full stop.
        timeout : float
            Seconds to wait.

        Returns
        -------
        RunResult
            The answer.

        Raises
        ------
        GuestGoneError
            The channel is closed.
        OutcomeUnknownError
            No answer within `timeout` seconds.
        """
        with self._lock:
            self._count += 1
            name = f"{self._token}-{self._count}"
            end = time.monotonic() + timeout
            try:
                self._send(f"\n{name} {line} .\n".encode(), end)
                return self._answer(name, end)
            except TimeoutError as error:
                verb = line.split(maxsplit=1)[0]
                raise OutcomeUnknownError(f"the guest did not answer {verb!r} within {timeout:g} s") from error
            except OSError as error:
                self._drop()
                raise GuestGoneError(f"the guest's channel is closed ({error.strerror or error})") from error

    def _send(self, data: bytes, end: float) -> None:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._pending = b""
            self._socket.connect(self.path)
        self._socket.settimeout(max(0.01, end - time.monotonic()))
        self._socket.sendall(data)

    def _answer(self, name: str, end: float) -> RunResult:
        """Read lines until the one that answers `name`; the others belong to another time."""
        while True:
            line = self._line(end)
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if isinstance(told, dict) and told.get("id") == name:
                out = base64.b64decode(told["out"]).decode(errors="replace")
                return RunResult(int(told["rc"]), out, float(told["t"]))

    def _line(self, end: float) -> bytes:
        assert self._socket is not None
        while b"\n" not in self._pending:
            self._socket.settimeout(max(0.01, end - time.monotonic()))
            received = self._socket.recv(1 << 16)
            if not received:
                raise ConnectionResetError("QEMU closed it")
            self._pending += received
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._pending = None, b""

    @staticmethod
    def _done(answer: RunResult) -> None:
        if answer.rc:
            raise GuestError(f"the guest refused: {answer.stdout.strip()}", rc=answer.rc)
