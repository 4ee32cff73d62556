"""Fetch and unpack the distribution packages that the demo guest is made of.

Uses apt's own lists and download (signatures are apt's business) and needs no root: packages are unpacked into a
directory, never installed. Refuses to fetch anything that apt does not know.
"""

from __future__ import annotations

import lzma
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from workbench.demo.commands import find_tool, run_tool
from workbench.errors import UnsupportedError, WorkbenchError

__all__ = ["PackageSet", "download", "resolve", "unpack"]

KERNEL = "linux-image-cloud-amd64"
AGENT = "qemu-guest-agent"
BUSYBOX = "busybox-static"

_LISTS_CURE = "Refresh apt's lists: apt-get update (as root)"
_NO_EXTRAS = [
    f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances", "pre-depends")
]


@dataclass(frozen=True, slots=True)
class PackageSet:
    """What the image is built from.

    Attributes
    ----------
    kernel : str
        The concrete kernel package ("linux-image-6.1.0-1-cloud-amd64").
    names : tuple of str
        Every package, sorted, the kernel among them.
    files : tuple of str
        The archive file names, which carry the versions, sorted.
    """

    kernel: str
    names: tuple[str, ...]
    files: tuple[str, ...]


def resolve(empty: Path) -> PackageSet:
    """Ask apt which packages, in which versions, make the guest today.

    Parameters
    ----------
    empty : Path
        An empty directory (apt leaves out what a directory already holds).

    Returns
    -------
    PackageSet
        Names and versions; nothing was downloaded.

    Raises
    ------
    UnsupportedError
        No apt here, or its lists do not know the packages.
    """
    find_tool("apt-get")
    kernel = _concrete_kernel()
    names = tuple(sorted({kernel, BUSYBOX, *_closure(AGENT)}))
    try:
        listing = run_tool("apt-get", "download", "--print-uris", *names, cwd=empty)
    except WorkbenchError as error:
        raise UnsupportedError(
            f"apt cannot offer the demo guest's packages: {error.message}", cure=_LISTS_CURE
        ) from error
    files = tuple(sorted(line.split()[1] for line in listing.splitlines() if line.startswith("'")))
    return PackageSet(kernel, names, files)


def _concrete_kernel() -> str:
    for line in _depends(KERNEL):
        if match := re.fullmatch(r"\s*\|?Depends: (linux-image-\S+)", line):
            return match[1]
    raise UnsupportedError(f"apt's lists do not know {KERNEL}", cure=_LISTS_CURE)


def _closure(name: str) -> set[str]:
    lines = _depends(name, "--recurse")
    return {line for line in lines if line and not line.startswith((" ", "<", "|"))}


def _depends(name: str, *options: str) -> list[str]:
    try:
        return run_tool("apt-cache", "depends", *_NO_EXTRAS, *options, name).splitlines()
    except WorkbenchError as error:
        raise UnsupportedError(f"apt's lists do not know {name}", cure=_LISTS_CURE) from error


def download(packages: PackageSet, into: Path) -> list[Path]:
    """Download the archives.

    Parameters
    ----------
    packages : PackageSet
        What `resolve` said.
    into : Path
        An existing directory; archives already there are kept.

    Returns
    -------
    list of Path
        The archives, sorted by name.

    Raises
    ------
    WorkbenchError
        apt could not fetch them.
    """
    cure = f"Check the network, then: {_LISTS_CURE[0].lower()}{_LISTS_CURE[1:]}"
    run_tool("apt-get", "download", *packages.names, cwd=into, cure=cure, timeout=900)
    return sorted(into.glob("*.deb"))


def unpack(archives: list[Path], into: Path) -> Path:
    """Unpack archives into one tree, everything under `/usr` where Debian merges it.

    Ownership and documentation are left behind; links stay as they are.

    Parameters
    ----------
    archives : list of Path
        Debian archives.
    into : Path
        The directory to fill.

    Returns
    -------
    Path
        `into`.

    Raises
    ------
    WorkbenchError
        An archive cannot be read.
    """
    for archive in archives:
        command = [find_tool("dpkg-deb"), "--fsys-tarfile", str(archive)]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE) as reader,
            tarfile.open(fileobj=reader.stdout, mode="r|") as tar,
        ):
            for member in tar:
                _place(tar, member, into)
        if reader.returncode:
            raise WorkbenchError("dpkg-deb cannot read a package", path=archive, cure="Delete it and build again.")
    return into


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    name = _merged(member.name)
    if name.startswith("usr/share/") or ".." in name.split("/"):
        return
    target = into / name
    if member.issym():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(member.linkname)
    elif (content := tar.extractfile(member) if member.isreg() else None) is not None:
        _write(target, content.read(), member.mode)


def _write(target: Path, content: bytes, mode: int) -> None:
    """Write a file; a packed kernel module is unpacked, for busybox cannot."""
    if target.name.endswith(".ko.xz"):
        target, content = target.with_suffix(""), lzma.decompress(content)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    target.chmod(mode & 0o755 | 0o600)


def _merged(name: str) -> str:
    """Rewrite /lib, /bin and /sbin as /usr does it."""
    name = name.removeprefix("./")
    return f"usr/{name}" if name.split("/")[0] in {"bin", "sbin", "lib", "lib64"} else name
