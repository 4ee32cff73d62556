"""One system call inside another process: it goes on as before, whatever it was doing and whenever we die."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from workbench.errors import GuestGoneError, UnsupportedError
from workbench.guest import inject, probe
from workbench.guest.injection import map_file
from workbench.guest.process import HeldProcess, read_vmas
from workbench.guest.userfaultfd import take_userfaultfd

_WAIT = """
import ctypes
libc = ctypes.CDLL(None)
marks = (ctypes.c_int * 2)(0, 0)
def wait(milliseconds):
    # As QEMU and glib do: the marks count, not the number returned. Then sums, to see that nothing else was touched.
    if milliseconds is None:
        libc.ppoll(marks, ctypes.c_ulong(1), None, None)
    else:
        libc.poll(marks, ctypes.c_ulong(1), milliseconds)
    assert list(marks) == [0, 0] and sum(range(99)) == 4851
"""
_SIGNALS = """
import os, signal, threading, time
signal.signal(signal.SIGUSR1, lambda *_: None)
def send():
    while True:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.0005)
threading.Thread(target=send, daemon=True).start()
"""
_READY = "print(1, flush=True)\n"
_LOOPS = {
    "poll": _WAIT + _READY + "while True: wait(1)",
    "long poll": _WAIT + _READY + "while True: wait(1_000_000)",
    "ppoll": _WAIT + _READY + "while True: wait(None)",
    "signals": _WAIT + _SIGNALS + _READY + "while True: wait(5)",
    "busy": _READY + "while True: pass",
}


@contextmanager
def running(program: str) -> Iterator[tuple[subprocess.Popen[bytes], HeldProcess]]:
    identity = str(uuid.uuid4())
    words = [sys.executable, "-I", "-S", "-c", program, "-uuid", identity]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        child.stdout.readline()
        process = HeldProcess(child.pid, identity, "a process")
        try:
            yield child, process
        finally:
            child.kill()
            process.close()


@pytest.fixture(scope="module", autouse=True)
def _offered() -> None:
    if reason := probe.probe_userfaultfd():
        pytest.skip(reason)


def handles(pid: int) -> list[str]:
    return sorted(os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir())


@pytest.mark.parametrize("kind", ["poll", "long poll", "ppoll", "signals"])
def test_a_process_goes_on_as_before(kind: str) -> None:
    with running(_LOOPS[kind]) as (child, process):
        before = handles(child.pid)
        for _ in range(20):
            descriptor, held = take_userfaultfd(process)
            assert os.readlink(f"/proc/self/fd/{descriptor}") == "anon_inode:[userfaultfd]"
            assert not os.get_inheritable(descriptor)
            assert 0 < held < 3_000_000
            os.close(descriptor)
            assert handles(child.pid) == before
        time.sleep(0.05)
        assert child.poll() is None


_SAME = """
import mmap, os
content = os.urandom(8 * 4096)
memory = mmap.mmap(-1, len(content), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.write(content)
file = os.memfd_create("same")
os.write(file, bytes(4096) + content)
place = ctypes.addressof(ctypes.c_char.from_buffer(memory))
print(place, file, flush=True)
while True:
    wait(1)
    assert memory[:] == content
    memory[0] = content[0]
"""


def test_a_file_takes_the_place_of_memory_with_the_same_content() -> None:
    with running(_WAIT + _READY + _SAME) as (child, process):
        assert child.stdout is not None
        address, descriptor = map(int, child.stdout.readline().split())
        there = Path(f"/proc/{child.pid}/fd/{descriptor}")
        before = there.read_bytes()
        for _ in range(5):
            map_file(process, address + 4096, 6 * 4096, descriptor, 2 * 4096)
        [found] = [each for each in read_vmas(child.pid) if each.start == address + 4096]
        assert (found.end, found.inode, found.offset) == (address + 7 * 4096, there.stat().st_ino, 2 * 4096)
        assert found.permissions == "rw-p"
        for wrong in ((address + 1, 4096, descriptor, 0), (address, 4096, 999, 0)):
            with pytest.raises(UnsupportedError, match="mmap"):
                map_file(process, *wrong)
        map_file(process, address, 4096, descriptor, 4096)
        time.sleep(0.05)
        assert child.poll() is None, "it would not have gone on with other content"
        assert there.read_bytes() == before
        child.kill()
        child.wait()
        with pytest.raises(GuestGoneError):
            map_file(process, address, 4096, descriptor, 4096)


def injector(process: HeldProcess) -> subprocess.Popen[bytes]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = [
            sys.executable,
            "-I",
            "-S",
            inject.__file__,
            str(process.pid),
            str(theirs.fileno()),
            str(process.pidfd),
        ]
        return subprocess.Popen(words, pass_fds=(theirs.fileno(), process.pidfd), start_new_session=True)


def attached(pid: int) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("kind", ["poll", "long poll", "ppoll", "signals"])
def test_the_injecting_process_may_die_at_any_instant(kind: str) -> None:
    with running(_LOOPS[kind]) as (child, process):
        for turn in range(60):
            with injector(process) as killer:
                while not attached(child.pid) and killer.poll() is None:
                    pass
                time.sleep(turn % 12 * 0.0001)
                killer.kill()
            assert child.poll() is None, turn
        time.sleep(0.1)
        assert child.poll() is None
        descriptor, _held = take_userfaultfd(process)
        os.close(descriptor)


def test_it_does_not_depend_on_the_callers_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with running(_LOOPS["poll"]) as (_child, process):
            descriptor, held = take_userfaultfd(process)
            os.close(descriptor)
            assert held < 3_000_000
    finally:
        signal.signal(signal.SIGCHLD, previous)


def test_a_process_that_waits_for_nothing_is_let_go() -> None:
    with running(_LOOPS["busy"]) as (child, process):
        with pytest.raises(UnsupportedError, match="did not wait for events"):
            take_userfaultfd(process)
        assert child.poll() is None
        assert not attached(child.pid)


def stop(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)


def trace(child: subprocess.Popen[bytes]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.ptrace(0x4206, child.pid, None, None) == 0  # PTRACE_SEIZE; our end lets it go


@pytest.mark.parametrize(("obstacle", "word"), [(stop, "stopped by a signal"), (trace, "traced by process")])
def test_stopped_and_traced_processes_are_refused(
    obstacle: Callable[[subprocess.Popen[bytes]], None], word: str
) -> None:
    with running(_LOOPS["poll"]) as (child, process):
        obstacle(child)
        with pytest.raises(UnsupportedError, match=word):
            take_userfaultfd(process)


def test_other_architectures_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened = open

    def with_header(header: bytes) -> None:
        (tmp_path / "exe").write_bytes(header)
        swap = {f"/proc/{os.getpid()}/exe": tmp_path / "exe"}
        monkeypatch.setattr("builtins.open", lambda path, *rest: opened(swap.get(path, path), *rest))

    for header in (b"\x7fELF\x01" + bytes(13) + b"\x03\0", b"\x7fELF\x02" + bytes(13) + b"\xb7\0", b"#!/bin/sh"):
        with_header(header)
        with pytest.raises(inject.RefusedError, match="x86-64"):
            inject.check(os.getpid())


def test_a_process_that_ended_is_gone() -> None:
    with running(_LOOPS["poll"]) as (child, process):
        child.kill()
        child.wait()
        with pytest.raises(GuestGoneError):
            take_userfaultfd(process)
