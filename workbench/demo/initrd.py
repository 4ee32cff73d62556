"""Write the demo guest's initial RAM disk: busybox, the drivers in loading order, one script.

The archive is written byte by byte (format "newc": cpio(5), and the kernel's Documentation/driver-api/early-userspace/
buffer-format.rst), so neither root nor cpio is needed and everything in it belongs to root.

Refuses to choose drivers by itself: a driver named here that the kernel package lacks is an error, unless optional.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from workbench.demo.commands import run_tool
from workbench.errors import UnsupportedError

__all__ = ["build_initrd", "module_order"]

REQUIRED = ("virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "ext4", "virtio_console", "virtio_net")
OPTIONAL = (
    "virtio_rng", "virtio_balloon", "ahci", "ata_piix", "evdev", "button", "crc32c_intel", "crc32c_generic",
    "pvpanic_mmio",
)  # fmt: skip

_DIRECTORY, _FILE = 0o040755, 0o100644
_EXECUTABLE = 0o111


def module_order(tree: Path) -> list[Path]:
    """List the driver files in an order in which each finds what it needs.

    Parameters
    ----------
    tree : Path
        An unpacked kernel package; `modules.dep` is written into it.

    Returns
    -------
    list of Path
        Absolute paths, dependencies first, none twice.

    Raises
    ------
    UnsupportedError
        The kernel has no such driver, neither as a module nor built in.
    """
    version = next((tree / "usr/lib/modules").iterdir())
    run_tool("depmod", "-b", _depmod_base(tree), version.name)
    needs = dict(_parse_dep(version / "modules.dep"))
    builtin = {_plain(line) for line in (version / "modules.builtin").read_text().splitlines()}
    order: dict[str, None] = {}
    for name in (*REQUIRED, *OPTIONAL):
        path = next((path for path in needs if _plain(path) == name), None)
        if path is not None:
            order.update(dict.fromkeys([*reversed(needs[path]), path]))
        elif name in REQUIRED and name not in builtin:
            raise UnsupportedError(f"the kernel package has no driver {name}", cure="Use Debian's cloud kernel.")
    return [version / path for path in order]


def _depmod_base(tree: Path) -> Path:
    """Give depmod the /lib/modules it looks for under its base."""
    link = tree / "lib"
    if not link.exists():
        link.symlink_to("usr/lib")
    return tree


def _parse_dep(path: Path) -> Iterator[tuple[str, list[str]]]:
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        yield name, rest.split()


def _plain(path: str) -> str:
    return re.sub(r"\.ko.*$", "", Path(path).name).replace("-", "_")


def build_initrd(tree: Path, script: Path, output: Path) -> None:
    """Write the initial RAM disk.

    Parameters
    ----------
    tree : Path
        The unpacked packages, busybox and the kernel among them.
    script : Path
        What becomes `/init`.
    output : Path
        The gzip file to write.
    """
    modules = module_order(tree)
    names = "".join(f"{path.name}\n" for path in modules)
    entries: list[tuple[str, int, bytes]] = [(name, _DIRECTORY, b"") for name in ("bin", "modules")]
    entries.append(("init", _FILE | _EXECUTABLE, script.read_bytes()))
    entries.append(("bin/busybox", _FILE | _EXECUTABLE, (tree / "usr/bin/busybox").read_bytes()))
    entries.append(("bin/sh", 0o120777, b"busybox"))
    entries.append(("modules/order", _FILE, names.encode()))
    entries.extend((f"modules/{path.name}", _FILE, path.read_bytes()) for path in modules)
    archive = b"".join(_record(number, *entry) for number, entry in enumerate(entries, 1))
    archive += _record(0, "TRAILER!!!", 0, b"")
    output.write_bytes(gzip.compress(archive, 6, mtime=0))


def _record(inode: int, name: str, mode: int, content: bytes) -> bytes:
    """One entry: a 110-byte header in hexadecimal, the name, the content, each padded to 4 bytes."""
    links = 2 if mode == _DIRECTORY else 1
    fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return _padded(header) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
