"""Disk images of a moment: its content once in the case's cache, an overlay per user of it.

The content is a sparse raw file named by the region's digest, so clones of one moment, and moments with the same disk,
share it. Refuses to let anyone write it: it is read-only and only ever a backing file.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from workbench.errors import GuestError
from workbench.guest.tools import find_tool
from workbench.store import CaptureView

__all__ = ["content_image", "overlay"]


def content_image(cache: Path, view: CaptureView, region: str) -> Path:
    """Return a read-only sparse raw file with the content of a disk region, made if it is not there.

    Raises
    ------
    OSError
        If there is no space; a part-written file is removed.
    """
    cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = cache / f"{view.record.region(region).digest}.raw"
    if path.exists():
        return path
    descriptor, temporary = tempfile.mkstemp(dir=cache, prefix=".part-")
    try:
        view.region(region).write_sparse(descriptor)
        os.fchmod(descriptor, 0o444)
        os.rename(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return path


def overlay(backing: Path, path: Path) -> None:
    """Make an empty qcow2 overlay over a raw content image.

    Raises
    ------
    GuestError
        If qemu-img refuses.
    """
    command = [find_tool("qemu-img"), "create", "-q", "-f", "qcow2", "-b", str(backing), "-F", "raw", str(path)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise GuestError(f"no overlay for the clone: {made.stderr.strip()}", path=str(path))
