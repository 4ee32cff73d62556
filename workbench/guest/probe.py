"""Try userfaultfd tracking for real, on a small process of our own instead of a guest.

The process waits for events in `ppoll` as QEMU does and writes one page when told to; the probe has to see that page,
and no other. Refuses to conclude anything from versions or configuration.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

from workbench.errors import UnsupportedError, WorkbenchError
from workbench.guest.pagemap import Pagemap, expand_runs
from workbench.guest.process import HeldProcess
from workbench.guest.userfaultfd import negotiate, register, take_userfaultfd
from workbench.model import PAGE

__all__ = ["probe_userfaultfd"]

_PAGES = 16
_PROGRAM = f"""
import ctypes, mmap
memory = mmap.mmap(-1, {_PAGES * PAGE})
print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True)
inbox = open(0, "rb", buffering=0)
ppoll = ctypes.CDLL(None).ppoll
while True:
    ppoll((ctypes.c_int * 2)(0, 1), ctypes.c_ulong(1), None, None)
    page = inbox.read(1)
    if not page:
        break
    memory[page[0] * {PAGE}] = 1
    print("written", flush=True)
"""


def probe_userfaultfd() -> str:
    """Return why pages written by another process cannot be tracked by userfaultfd here, or "" if they can."""
    identity = str(uuid.uuid4())
    words = [sys.executable, "-I", "-S", "-c", _PROGRAM, "-uuid", identity]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        try:
            return _try(child, identity)
        except WorkbenchError as error:
            return error.message
        except (OSError, ValueError) as error:
            return f"the probe failed: {error!r}"
        finally:
            child.kill()


def _try(child: subprocess.Popen[bytes], identity: str) -> str:
    if child.stdin is None or child.stdout is None:
        raise UnsupportedError("no pipes to the probe's process")
    address = int(child.stdout.readline())
    process = HeldProcess(child.pid, identity, "the probe's process")
    descriptor, _held = take_userfaultfd(process)
    pagemap = Pagemap(child.pid)
    try:
        negotiate(descriptor)
        register(descriptor, address, _PAGES * PAGE, "the probe's memory")
        pagemap.scan(address, address + _PAGES * PAGE, protect=True)
        for page in (3, 11):
            child.stdin.write(bytes([page]))
            child.stdin.flush()
            child.stdout.readline()
            seen = expand_runs(pagemap.scan(address, address + _PAGES * PAGE, protect=True), address).tolist()
            if seen != [page]:
                return f"page {page} was written and {seen} seen"
        return ""
    finally:
        pagemap.close()
        os.close(descriptor)
        process.close()
