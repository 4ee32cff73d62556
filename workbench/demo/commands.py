"""Run the host's own tools and turn their failures into errors that say what to do.

Refuses to use a shell, and to print.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from workbench.errors import UnsupportedError, WorkbenchError

__all__ = ["find_tool", "run_tool"]

_SBIN = ("/usr/sbin", "/sbin", "/usr/local/sbin")
_PACKAGE_OF = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "debugfs": "e2fsprogs",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "libvirtd": "libvirt-daemon-system",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "virtlogd": "libvirt-daemon-system",
}


def find_tool(name: str) -> str:
    """Find a program, also where ordinary users' PATH does not look.

    Parameters
    ----------
    name : str
        The program's file name.

    Returns
    -------
    str
        Its absolute path.

    Raises
    ------
    UnsupportedError
        The program is not installed; the message names Debian's package.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN])
    found = shutil.which(name, path=path)
    if found is None:
        package = _PACKAGE_OF.get(name, name)
        raise UnsupportedError(f"{name} is not installed", cure=f"Install it: apt-get install {package}")
    return found


def run_tool(
    *command: str | Path, cwd: Path | None = None, stdin: str = "", cure: str = "", timeout: float = 300
) -> str:
    """Run a program to its end and give back what it printed.

    Parameters
    ----------
    *command : str or Path
        Program and arguments.
    cwd : Path, optional
        The directory to run it in.
    stdin : str
        What it reads.
    cure : str
        What the user can do when it fails.
    timeout : float
        Seconds after which it is killed.

    Returns
    -------
    str
        Its standard output.

    Raises
    ------
    UnsupportedError
        The program is not installed.
    WorkbenchError
        It failed or took too long; the message ends with the last lines of its standard error.
    """
    argv = [find_tool(str(command[0])), *map(str, command[1:])]
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WorkbenchError(f"{command[0]} did not end within {timeout:g} s", cure=cure) from error
    if done.returncode:
        last = " ".join(done.stderr.strip().splitlines()[-3:])
        raise WorkbenchError(f"{command[0]} failed with status {done.returncode}: {last}", cure=cure)
    return done.stdout
