"""Have QEMU make one userfaultfd, and hand it over: a program of its own, run for some milliseconds per guest.

    python -I -S inject.py PID SOCKET PIDFD [ADDRESS LENGTH DESCRIPTOR OFFSET]

Only the process that owns memory can make a userfaultfd for it, so one `userfaultfd(2)` and one `close(2)` are run in
QEMU's main thread; with further words one `mmap(2)` instead, which puts a file in the place of memory with the same
content. No instruction of QEMU is changed or stepped: the thread is let run until it enters `poll(2)` or
`ppoll(2)`, where an event loop spends its life, the kernel is given our call instead of that one, and then the thread
enters its own call again with its registers as they were. So there is no instant at which this program must not die: if
it is killed, the kernel lets QEMU go on, and at worst one `ppoll` returns early with a number while no descriptor is
marked, which QEMU's and glib's loops take as a wake-up for nothing because they look at the marks alone (and a
descriptor that nobody uses may stay open). Stepping instead would leave a SIGTRAP that kills QEMU.

Refuses processes of another architecture, stopped or traced ones, and to wait longer than `_PATIENCE`. Only the
standard library; nothing of ours is imported, so that it starts fast and has nothing else in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator

_PATIENCE = 3.0
"""Seconds until the main thread must have entered `ppoll`."""

_LOOK_AGAIN = 0.02
"""Seconds after which a stop is looked for even though no SIGCHLD told of it."""

# include/uapi/linux/ptrace.h and arch/x86/include/uapi/asm/ptrace-abi.h
_PEEKTEXT, _GETREGS, _SETREGS, _DETACH, _SYSCALL = 1, 12, 13, 17, 24
_SEIZE, _INTERRUPT, _GET_SYSCALL_INFO = 0x4206, 0x4207, 0x420E
_TRACESYSGOOD = 1
_EVENT_STOP = 128
_INFO_ENTRY, _INFO_EXIT = 1, 2
_SYSCALL_TRAP = signal.SIGTRAP | 0x80
_WALL = 0x40000000  # __WALL, include/uapi/linux/wait.h
# arch/x86/entry/syscalls/syscall_64.tbl
_NR_CLOSE, _NR_POLL, _NR_MMAP, _NR_RESTART, _NR_PPOLL, _NR_USERFAULTFD, _NR_PIDFD_GETFD = 3, 7, 9, 219, 271, 323, 438
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
_READ_WRITE, _PRIVATE_FIXED = 0x3, 0x12  # include/uapi/asm-generic/mman-common.h
_UFFD_USER_MODE_ONLY = 1  # include/uapi/linux/userfaultfd.h
_AUDIT_ARCH_X86_64 = 0xC000003E  # include/uapi/linux/audit.h
_ENTER = b"\x0f\x05"  # syscall
_ENTER_POLL = b"\xb8\x07\0\0\0" + _ENTER  # mov eax, 7; syscall
_EM_X86_64 = 62  # include/uapi/linux/elf-em.h

_WORDS = """
r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs
"""


class _Registers(ctypes.Structure):
    """struct user_regs_struct, arch/x86/include/asm/user_64.h."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in _WORDS.split()]


class _SyscallInfo(ctypes.Structure):
    """struct ptrace_syscall_info, the part that entry and exit share and the number or the result behind it."""

    _fields_ = [
        ("op", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("ip", ctypes.c_uint64),
        ("sp", ctypes.c_uint64),
        ("nr_or_result", ctypes.c_int64),
        ("rest", ctypes.c_uint64 * 8),
    ]


class RefusedError(Exception):
    """It cannot be done here; the caller takes another tracker."""


class GoneError(Exception):
    """QEMU ended."""


class Tracee:
    """QEMU's main thread, seized.

    Attributes
    ----------
    theirs : _Registers
        As it had them when it entered its own call.
    held_us : int
        For how long it was held, once it was let go.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.ptrace.restype = ctypes.c_long
        self._libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self._libc.syscall.restype = ctypes.c_long
        self._info = _SyscallInfo()
        self._ours = _Registers()
        self.theirs = _Registers()
        self.held_us = 0
        self._deadline = time.monotonic() + _PATIENCE

    def _ptrace(self, request: int, address: int = 0, data: int = 0) -> int:
        ctypes.set_errno(0)
        result: int = self._libc.ptrace(request, self.pid, address, data)
        if result == -1 and (code := ctypes.get_errno()):
            if code == errno.ESRCH:
                raise GoneError(f"ptrace request {request:#x}: no such process")
            raise RefusedError(f"ptrace request {request:#x}: {os.strerror(code)}")
        return result

    def seize(self) -> None:
        """Attach without stopping anything, then ask the main thread to stop."""
        self._ptrace(_SEIZE, 0, _TRACESYSGOOD)
        self._ptrace(_INTERRUPT)
        self._wait()

    def _wait(self) -> int:
        """Return the next stop's status word. SIGCHLD is blocked, so it wakes the wait and is never lost."""
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG | _WALL)
            if pid:
                if not os.WIFSTOPPED(status):
                    raise GoneError("QEMU ended while it was attached to")
                return status
            left = self._deadline - time.monotonic()
            signal.sigtimedwait([signal.SIGCHLD], min(max(left, 0), _LOOK_AGAIN))
            if left <= 0:
                raise RefusedError(f"QEMU's main thread did not wait for events within {_PATIENCE} s")

    def _next_call(self, operation: int) -> None:
        """Let the thread run to its next system call stop of the given kind, handing on every signal it gets."""
        put_back = 0
        while True:
            self._ptrace(_SYSCALL, 0, put_back)
            status = self._wait()
            number, event, put_back = os.WSTOPSIG(status), status >> 16, 0
            if event == _EVENT_STOP and number != signal.SIGTRAP:
                raise RefusedError(f"QEMU is stopped by {signal.Signals(number).name}")
            if event == 0 and number == _SYSCALL_TRAP:
                self._ptrace(_GET_SYSCALL_INFO, ctypes.sizeof(self._info), ctypes.addressof(self._info))
                if self._info.op == operation:
                    return
            elif event == 0:
                put_back = number

    def reach_poll(self) -> None:
        """Let the thread run until it enters `poll` or `ppoll`, and note its registers there."""
        while time.monotonic() < self._deadline:
            self._next_call(_INFO_ENTRY)
            if self._info.arch == _AUDIT_ARCH_X86_64:
                self._ptrace(_GETREGS, 0, ctypes.addressof(self.theirs))
                if self._enters_poll(self._info.nr_or_result):
                    return
        raise RefusedError(f"QEMU's main thread did not wait for events within {_PATIENCE} s")

    def _enters_poll(self, number: int) -> bool:
        """Tell whether the call being entered is one whose early return does no harm.

        An interrupted `poll` goes on as `restart_syscall`, from the same instruction; only the code before that tells
        what goes on. `ppoll` goes on under its own number.
        """
        code = (self._ptrace(_PEEKTEXT, self.theirs.rip - len(_ENTER_POLL)) & (2**64 - 1)).to_bytes(8, "little")[:7]
        return (number in (_NR_POLL, _NR_PPOLL) and code.endswith(_ENTER)) or (
            number == _NR_RESTART and code == _ENTER_POLL
        )

    def call(self, number: int, *arguments: int) -> int:
        """Give the kernel another call instead of the one the thread is entering, and return its result.

        Afterwards the thread stands before its own call again, with the registers it had.
        """
        ctypes.memmove(ctypes.byref(self._ours), ctypes.byref(self.theirs), ctypes.sizeof(_Registers))
        self._ours.orig_rax = number
        for register, argument in zip(_ARGUMENTS, arguments, strict=False):
            setattr(self._ours, register, argument)
        self._ptrace(_SETREGS, 0, ctypes.addressof(self._ours))
        try:
            self._next_call(_INFO_EXIT)
            return int(self._info.nr_or_result)
        finally:
            self._enter_again()

    def _enter_again(self) -> None:
        """Set the registers to just before the `syscall` instruction. `orig_rax` -1: there is no call to restart."""
        ctypes.memmove(ctypes.byref(self._ours), ctypes.byref(self.theirs), ctypes.sizeof(_Registers))
        self._ours.rip, self._ours.rax, self._ours.orig_rax = self.theirs.rip - 2, self.theirs.orig_rax, 2**64 - 1
        self._ptrace(_SETREGS, 0, ctypes.addressof(self._ours))

    def fetch(self, pidfd: int, descriptor: int) -> int:
        """Duplicate a descriptor of QEMU into this process."""
        ours = int(self._libc.syscall(_NR_PIDFD_GETFD, pidfd, descriptor, 0))
        if ours < 0:
            raise RefusedError(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
        return ours

    def detach(self) -> None:
        """Let QEMU go."""
        with contextlib.suppress(GoneError, RefusedError):  # ended, or not stopped now: then our exit lets it go
            self._ptrace(_DETACH)


def check(pid: int) -> None:
    """Refuse what is no plain x86-64 process before anything is touched."""
    if os.uname().machine != "x86_64":
        raise RefusedError(f"not written for {os.uname().machine}")
    with open(f"/proc/{pid}/exe", "rb") as program:
        header = program.read(20)
    if header[:5] != b"\x7fELF\x02" or int.from_bytes(header[18:20], "little") != _EM_X86_64:
        raise RefusedError("QEMU is not an x86-64 program")
    with open(f"/proc/{pid}/status") as status:
        facts = dict(line.rstrip().partition(":\t")[::2] for line in status)
    if facts.get("TracerPid", "0").strip() != "0":
        raise RefusedError(f"QEMU is traced by process {facts['TracerPid'].strip()}")
    if facts.get("State", "").strip()[:1] in ("T", "t"):
        raise RefusedError("QEMU is stopped by a signal")


@contextlib.contextmanager
def _seized(pid: int) -> Iterator[Tracee]:
    """Have the main thread before a call of its own for the body, and let it go."""
    check(pid)
    tracee = Tracee(pid)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where our parent ignores it, we would, and not be woken by stops
    began = time.perf_counter_ns()
    try:
        tracee.seize()
        tracee.reach_poll()
        yield tracee
    finally:
        tracee.detach()
        tracee.held_us = (time.perf_counter_ns() - began) // 1000


def take(pid: int, pidfd: int) -> tuple[int, int]:
    """Return a userfaultfd of QEMU's memory and for how long, in µs, its main thread was held."""
    with _seized(pid) as tracee:
        theirs = tracee.call(_NR_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK | _UFFD_USER_MODE_ONLY)
        if theirs < 0:
            raise RefusedError(f"userfaultfd in QEMU: {os.strerror(-theirs)}")
        try:
            ours = tracee.fetch(pidfd, theirs)
        finally:
            tracee.reach_poll()
            tracee.call(_NR_CLOSE, theirs)
    return ours, tracee.held_us


def place(pid: int, address: int, length: int, descriptor: int, offset: int) -> int:
    """Map a file that QEMU has open over memory of its own; return for how long, in µs, its main thread was held."""
    with _seized(pid) as tracee:
        found = tracee.call(_NR_MMAP, address, length, _READ_WRITE, _PRIVATE_FIXED, descriptor, offset)
        if found != address:
            raise RefusedError(f"mmap in QEMU: {os.strerror(-found) if -4096 < found < 0 else hex(found)}")
    return tracee.held_us


def main(pid: int, handle: int, pidfd: int, *mapping: int) -> int:
    """Do it and report on the socket: a JSON object, with the descriptor where there is one."""
    channel = socket.socket(fileno=handle)
    descriptors: list[int] = []
    report: dict[str, object]
    try:
        if mapping:
            report = {"held_us": place(pid, *mapping)}
        else:
            descriptor, held = take(pid, pidfd)
            descriptors.append(descriptor)
            report = {"held_us": held}
    except RefusedError as error:
        report = {"refused": str(error)}
    except GoneError as error:
        report = {"gone": str(error)}
    except (FileNotFoundError, ProcessLookupError) as error:
        report = {"gone": str(error)}
    except OSError as error:
        report = {"refused": str(error)}
    try:
        socket.send_fds(channel, [json.dumps(report).encode()], descriptors)
    except OSError:
        return 1  # whoever asked is gone: the descriptor ends with us
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
