"""libvirt's status files in memory while figures are taken, as on any host whose `/run` is.

libvirt writes and flushes a guest's status file for every monitor command. A container may have `/run` on its disk,
and then every pause waits for that disk half a dozen times. Refuses to hide the files of a daemon that runs.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from workbench.demo.daemon import daemon_answers

__all__ = ["status_in_memory", "status_volume"]

_STATUS = Path("/run/libvirt/qemu")


def status_volume() -> str:
    """Return the file system that libvirt keeps its status files on."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return max((len(words[1]), words[2]) for words in mounts if _STATUS.is_relative_to(words[1]))[1]


@contextlib.contextmanager
def status_in_memory(uri: str) -> Iterator[bool]:
    """Keep the status files of a daemon that is not started yet in memory for the body, where that can be done.

    Yields
    ------
    bool
        Whether something was mounted; `status_volume` says what holds.
    """
    if os.getuid() != 0 or status_volume() == "tmpfs" or daemon_answers(uri):
        yield False
        return
    _STATUS.mkdir(parents=True, exist_ok=True)
    mounted = _mount("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(_STATUS))
    try:
        yield mounted
    finally:
        if mounted:
            _mount("umount", "--lazy", str(_STATUS))


def _mount(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
