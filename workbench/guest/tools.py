"""Find the few programs that are called: qemu-img and such. Refuses to search anywhere but PATH."""

from __future__ import annotations

import shutil

from workbench.errors import UnsupportedError

__all__ = ["find_tool"]


def find_tool(name: str) -> str:
    """Return the path of a program.

    Raises
    ------
    UnsupportedError
        If it is not installed.
    """
    path = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    if path is None:
        raise UnsupportedError(f"{name} is not installed", cure="Install qemu-utils (`make setup` does)")
    return path
