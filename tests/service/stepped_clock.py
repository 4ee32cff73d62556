"""A wall clock that a test steps, for processes of its own: a library that is loaded before libc adds an offset to it.

The machine's own clock stays as it is, and so do the monotonic ones.
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *offset;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("STEPPED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *at = mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (at != MAP_FAILED) offset = at;
}

int clock_gettime(clockid_t id, struct timespec *told) {
    int failed = syscall(SYS_clock_gettime, id, told);
    if (!failed && id == CLOCK_REALTIME && offset) told->tv_sec += *offset;
    return failed;
}
"""


class SteppedClock:
    """The clock of every process that is started with `environment`."""

    def __init__(self, place: Path) -> None:
        self._file, library = place / "offset", place / "clock.so"
        self._file.write_bytes(struct.pack("q", 0))
        command = ["gcc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(library)]
        subprocess.run(command, input=_SOURCE, text=True, check=True)
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "STEPPED_CLOCK": str(self._file)}

    def step(self, seconds: int) -> None:
        """Set it so many seconds off the machine's."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", seconds))
