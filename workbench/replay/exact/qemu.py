"""A QEMU of our own that records or replays: started, spoken to, and ended, whatever becomes of it.

Its monitor is a socket that nobody else has; it dies with the thread that started it. Every wait has a limit, since a
replay may hang: QEMU then answers nobody. Refuses to leave the process behind: `close` kills what does not end.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self, cast

from workbench.errors import GuestBusyError, GuestGoneError, MonitorError, OutcomeUnknownError
from workbench.guest.connection import Guest
from workbench.guest.socket_monitor import SocketMonitor
from workbench.guest.tools import find_tool
from workbench.model import GuestId
from workbench.replay.exact.machine import comma_twice

__all__ = ["ExactQemu"]

_CONSOLE_ENDS = ("console.in", "console.out")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None)


_SANDBOX = ("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")


@functools.cache
def _confinement(program: str) -> tuple[str, ...]:
    """Return the arguments that confine QEMU as libvirt does, where this build can: a recording may be a stranger's."""
    done = subprocess.run([program, *_SANDBOX, "-machine", "help"], capture_output=True, check=False, timeout=60)
    return _SANDBOX if done.returncode == 0 else ()


def _recorded_console(run: Path) -> str:
    """Return the back end of a console whose output is a file and whose input a pipe.

    Not a socket: one that is full, and 278 single characters fill one, has the serial port try again at an instant that
    is not in the log, and the recording could not be replayed. A file takes all.
    """
    (run / "console").touch(mode=0o600)
    os.mkfifo(run / "console.in", 0o600)
    (run / "console.out").symlink_to("console")
    return f"pipe,id=console,path={comma_twice(run / 'console')}"


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ExactQemu:
    """A running QEMU; a context manager that ends it.

    Parameters
    ----------
    arguments : sequence of str
        As `qemu_arguments` gives them.
    run : Path
        Where its console's output (`console`) and its words (`stderr`) go.
    typed : bool
        Whether the console takes what `type` gives it; else its output is only kept.

    Raises
    ------
    GuestGoneError
        If QEMU refuses to start; the message is QEMU's own.
    OutcomeUnknownError
        If it does not come up in time; it is ended.
    """

    def __init__(
        self, arguments: Sequence[str], run: Path, uuid: str, name: str, *, typed: bool = False, timeout: float = 60.0
    ) -> None:
        self.id, self.name, self.run = GuestId(uuid), name, run
        self._typing = -1
        ours, theirs = socket.socketpair()
        words = ["-chardev", f"socket,id=monitor,fd={theirs.fileno()}", "-mon", "chardev=monitor,mode=control"]
        words += [
            "-chardev",
            _recorded_console(run) if typed else f"null,id=console,logfile={comma_twice(run / 'console')}",
        ]
        program = find_tool("qemu-system-x86_64")
        command = [program, *_confinement(program), *arguments, *words, "-serial", "chardev:console"]
        with (run / "stderr").open("wb") as said:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=[theirs.fileno()],
                preexec_fn=_die_with_parent,  # noqa: PLW1509  (one system call, nothing of Python's)
                start_new_session=True,  # Ctrl-C is for us
            )
        theirs.close()
        self.monitor = SocketMonitor(ours, name)
        self._ours = ours
        try:
            self.monitor.greet(timeout)
            if typed:
                self._typing = os.open(run / "console.in", os.O_WRONLY | os.O_NONBLOCK)
        except BaseException as error:
            self.close()
            if isinstance(error, GuestGoneError):
                raise GuestGoneError(f"QEMU did not start: {self.said() or 'it said nothing'}", name=name) from error
            raise

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    def as_guest(self) -> Guest:
        """Return this QEMU for what reads memory: that needs a monitor, a pid, a name and the UUID, not libvirt."""
        return cast("Guest", self)

    def icount(self) -> int:
        """Return how many instructions the guest has run."""
        return int(self.monitor.execute("query-replay")["icount"])

    def said(self) -> str:
        """Return the last words of QEMU."""
        with contextlib.suppress(OSError):
            return (self.run / "stderr").read_text(errors="replace").strip()[-500:]
        return ""

    def console_bytes(self) -> bytes:
        """Return what the console printed so far."""
        with contextlib.suppress(FileNotFoundError):
            return (self.run / "console").read_bytes()
        return b""

    def type(self, data: bytes) -> None:
        """Give the console input.

        Raises
        ------
        GuestGoneError
            If QEMU ended.
        GuestBusyError
            If it took nothing of what was typed before, 64 KiB of it.
        """
        try:
            os.write(self._typing, data)
        except BlockingIOError as error:
            raise GuestBusyError(f"{self.name}: it takes no input", cure="Type less, or wait.") from error
        except BrokenPipeError as error:
            raise GuestGoneError(f"{self.name}: QEMU ended before it was typed") from error

    def quit(self, timeout: float = 120.0) -> bool:
        """Have QEMU end by itself, its files written; whether it did within `timeout` seconds."""
        with contextlib.suppress(GuestGoneError, OutcomeUnknownError, MonitorError):
            self.monitor.execute("quit", limit=timeout)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """End it at once; harmless where it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._ours.close()
        if self._typing >= 0:
            os.close(self._typing)
            self._typing = -1
        for name in _CONSOLE_ENDS:
            (self.run / name).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
