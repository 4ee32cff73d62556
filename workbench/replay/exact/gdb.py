"""A debugger on a replay: forwards and backwards, by gdb or by this small client of its protocol.

QEMU runs backwards by going back to a saved state and replaying up to one instruction less; so one is saved shortly
before the place that is asked for. Source: the GDB manual, appendix "Remote Serial Protocol"; `bs` and `bc` are reverse
step and reverse continue. Refuses to wait for ever, and answers from a QEMU that do not carry their checksum.
"""

from __future__ import annotations

import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import GuestError, MonitorError, OutcomeUnknownError
from workbench.replay.exact.replaying import Replay
from workbench.replay.exact.states import save_state

__all__ = ["Debugger", "debugging"]

_NEAR = 10_000
"""Instructions before the place at which a state is saved: what a step back has to run again."""
_RIP = 16
"""Number of RIP in QEMU's register packet of x86-64 (gdb-xml/i386-64bit.xml): 8 bytes each up to it."""
_MOST = 1 << 20


class Debugger:
    """A client of QEMU's debugger stub.

    Raises
    ------
    OutcomeUnknownError
        From every call: no answer in time.
    GuestError
        From every call: QEMU refused, or its answer is none.
    """

    def __init__(self, replay: Replay, path: Path, timeout: float = 120.0) -> None:
        self.replay, self.path, self.timeout = replay, path, timeout
        self._socket: socket.socket | None = None
        self._buffer = b""

    @property
    def command(self) -> str:
        """What to type to attach gdb, while this client is not connected."""
        return shlex.join(["gdb", "-ex", "set architecture i386:x86-64", "-ex", f"target remote {self.path}"])

    def connect(self) -> None:
        """Attach; only one debugger at a time."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(self.path))
        if "ReverseStep+" not in self._ask("qSupported"):
            raise GuestError("this QEMU cannot step backwards", cure="Use QEMU 5.2 or later.")

    def close(self) -> None:
        """Detach; the replay stands."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def registers(self) -> bytes:
        """Return all registers as QEMU sends them: rax to r15, rip, eflags, segments and so on."""
        return bytes.fromhex(self._ask("g"))

    def rip(self) -> int:
        """Return the address of the next instruction."""
        return int.from_bytes(self.registers()[_RIP * 8 : _RIP * 8 + 8], "little")

    def step(self) -> None:
        """Run one instruction."""
        self._run("s")

    def reverse_step(self) -> None:
        """Go back one instruction."""
        self._run("bs")

    def reverse_continue(self) -> None:
        """Go back to the last breakpoint passed, or as far as a saved state reaches."""
        self._run("bc")

    def go_on(self) -> None:
        """Run to the next breakpoint."""
        self._run("c")

    def add_breakpoint(self, address: int) -> None:
        """Stop before the instruction at a virtual address."""
        self._ok(f"Z1,{address:x},1")

    def remove_breakpoint(self, address: int) -> None:
        """Do not stop there any more."""
        self._ok(f"z1,{address:x},1")

    def _ok(self, packet: str) -> None:
        if (answer := self._ask(packet)) != "OK":
            raise GuestError(f"QEMU's debugger stub refuses {packet}", found=answer, expected="OK")

    def _run(self, packet: str) -> None:
        if (answer := self._ask(packet))[:1] not in "TS" or not answer:
            raise GuestError(
                f"QEMU's debugger stub refuses {packet}", found=answer,
                cure="There is no saved state before this instruction: begin earlier.",
            )  # fmt: skip

    def _ask(self, packet: str) -> str:
        if self._socket is None:
            raise GuestError("the debugger is not attached", cure="Call connect() first.")
        data = packet.encode()
        self._socket.sendall(b"$" + data + b"#" + f"{sum(data) % 256:02x}".encode())
        deadline = time.monotonic() + self.timeout
        while True:
            answer = self._packet(deadline, packet)
            if not answer.startswith("O") or answer == "OK":  # console output of the stub
                return answer

    def _packet(self, deadline: float, what: str) -> str:
        assert self._socket is not None
        while True:
            start = self._buffer.find(b"$")
            end = self._buffer.find(b"#", start + 1)
            if 0 <= start < end and len(self._buffer) >= end + 3:
                body, told = self._buffer[start + 1 : end], self._buffer[end + 1 : end + 3]
                self._buffer = self._buffer[end + 3 :]
                if told.decode(errors="replace") != f"{sum(body) % 256:02x}":
                    raise GuestError("an answer of QEMU's debugger stub is broken", asked=what)
                self._socket.sendall(b"+")
                return body.decode("latin-1")
            self._fill(deadline, what)

    def _fill(self, deadline: float, what: str) -> None:
        assert self._socket is not None
        left = deadline - time.monotonic()
        if left <= 0 or len(self._buffer) > _MOST:
            raise OutcomeUnknownError(f"QEMU's debugger stub does not answer {what} in time", cure="Close the replay.")
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            return
        if not data:
            raise GuestError("QEMU closed the debugger's connection", asked=what)
        self._buffer += data


@contextmanager
def debugging(place: Path, at: int, *, timeout: float = 120.0) -> Iterator[Debugger]:
    """Replay to an instruction and let a debugger in there; at the end the replay is ended.

    Raises
    ------
    HungError, GuestError, StoreError, UsageError
    """
    with Replay(place, near=max(0, at - _NEAR), debugger="gdb") as replay:
        _save_before(replay, at)
        replay.to(at)
        debugger = Debugger(replay, replay.run / "gdb", timeout)
        try:
            yield debugger
        finally:
            debugger.close()


def _save_before(replay: Replay, at: int) -> None:
    """Save a state a little before the place; QEMU refuses while events are under way, so a little later is tried."""
    disks = ["image"] if replay.description.disk else []
    start = max(replay.icount, at - _NEAR)
    for each in range(start, at, max(1, (at - start) // 8)):
        replay.to(each)
        try:
            save_state(replay.qemu, f"before-{each}", disks)
        except MonitorError:
            continue
        return
