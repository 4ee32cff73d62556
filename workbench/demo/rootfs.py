"""Make the demo guest's root file system: an ext4 with a journal, everything in it owned as the guest expects.

`mke2fs -d` copies a directory without root's help but keeps the builder's user ids; `debugfs` then sets owner and
group of every entry. Refuses to touch a mounted file system: it only ever writes a plain file.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from workbench.demo.commands import run_tool

__all__ = ["DISK_BYTES", "assemble", "make_filesystem", "to_qcow2"]

DISK_BYTES = 256 << 20
LABEL = "rewind-root"

_DIRECTORIES = {
    "dev": 0o755, "etc": 0o755, "home": 0o755, "mnt": 0o755, "proc": 0o555, "root": 0o700, "run": 0o755, "sys": 0o555,
    "tmp": 0o1777, "usr/bin": 0o755, "usr/sbin": 0o755, "usr/lib": 0o755, "usr/lib64": 0o755, "var/log": 0o755,
    "var/run": 0o755, "var/spool/cron/crontabs": 0o755, "var/tmp": 0o1777, "var/www": 0o755,
}  # fmt: skip
_MODES = {"etc/shadow": 0o640, "var/log/auth.log": 0o640}
_PROGRAM_PLACES = ("sbin/", "etc/init.d/", "etc/acpi/", "etc/udhcpc/", "usr/lib/rewind/", "usr/bin/", "usr/sbin/")
_OWNERS = {"home/alice": (1000, 1000), "home/bob": (1001, 1001), "var/www": (33, 33)}
_GROUPS = {"etc/shadow": 4, "var/log/auth.log": 4}


def assemble(tree: Path, overlay: Path, root: Path) -> None:
    """Lay out the guest's files.

    Parameters
    ----------
    tree : Path
        The unpacked packages.
    overlay : Path
        This room's own guest files.
    root : Path
        The directory to make.
    """
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    _copy_programs(tree, root)
    _copy_overlay(overlay, root)
    for name, mode in _DIRECTORIES.items():
        (root / name).chmod(mode)


def _copy_programs(tree: Path, root: Path) -> None:
    libraries = [path for path in tree.glob("usr/lib*/**/*.so*") if path.is_file() or path.is_symlink()]
    for path in [*libraries, tree / "usr/bin/busybox", tree / "usr/sbin/qemu-ga"]:
        target = root / path.relative_to(tree)
        if "gconv" not in path.parts:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)
    for applet in run_tool(tree / "usr/bin/busybox", "--list").split():
        if not (root / "usr/bin" / applet).exists() and not (root / "usr/sbin" / applet).exists():
            (root / "usr/bin" / applet).symlink_to("busybox")


def _copy_overlay(overlay: Path, root: Path) -> None:
    for path in sorted(overlay.rglob("*")):
        name = path.relative_to(overlay).as_posix()
        if path.is_dir() or name == "initrd-init":
            continue
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(_MODES.get(name, 0o755 if name.startswith(_PROGRAM_PLACES) else 0o644))
    (root / "sbin/init").symlink_to("../bin/busybox")


def make_filesystem(root: Path, output: Path) -> None:
    """Write the ext4 image of a directory, owned by the guest's users.

    Parameters
    ----------
    root : Path
        The directory that `assemble` made.
    output : Path
        The raw image to write, `DISK_BYTES` long (sparse).
    """
    options = ("-t", "ext4", "-J", "size=16", "-m", "0", "-L", LABEL, "-E", "root_owner=0:0")
    run_tool("mke2fs", "-q", "-F", *options, "-d", root, output, f"{DISK_BYTES >> 10}k")
    run_tool("debugfs", "-w", "-f", "-", output, stdin="".join(_ownership(root)))


def _ownership(root: Path) -> Iterator[str]:
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        user, group = _owner(name)
        yield f'set_inode_field "/{name}" uid {user}\nset_inode_field "/{name}" gid {group}\n'


def _owner(name: str) -> tuple[int, int]:
    for place, owner in _OWNERS.items():
        if name == place or name.startswith(f"{place}/"):
            return owner
    return 0, _GROUPS.get(name, 0)


def to_qcow2(raw: Path, output: Path) -> None:
    """Convert a raw image to a standalone qcow2.

    Parameters
    ----------
    raw, output : Path
        Source and target.
    """
    run_tool("qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", raw, output)
