"""Build, once, the demo guest's kernel, initial RAM disk and root disk, and keep them in the user's cache.

`python -m workbench.demo.image` builds them where needed and prints where they are. The cache key is a digest of this
recipe and of the package versions that apt offers; without apt's answer an image of the same recipe is used as it is.

Refuses to need root, to leave a half-built image, and to build twice at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workbench.demo import initrd, packages, rootfs
from workbench.errors import UnsupportedError

__all__ = ["DemoImage", "build_demo_image", "default_cache"]

_HERE = Path(__file__).parent
_OVERLAY = _HERE / "overlay"
_RECIPE = ("image.py", "initrd.py", "packages.py", "rootfs.py")

_given: dict[Path, Path] = {}  # what this process was told already: asking apt costs a second


@dataclass(frozen=True, slots=True)
class DemoImage:
    """The files a demo guest starts from; never written to by a guest.

    Attributes
    ----------
    kernel, initrd, disk : Path
        A Linux kernel, its initial RAM disk (gzip), and a standalone qcow2 with an ext4 labelled "rewind-root".
    """

    kernel: Path
    initrd: Path
    disk: Path


def default_cache() -> Path:
    """Give the directory this room caches in.

    Returns
    -------
    Path
        `$XDG_CACHE_HOME/rewind-workbench`, or under `~/.cache`; it may not exist yet.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rewind-workbench"


def build_demo_image(cache_dir: Path | None = None) -> DemoImage:
    """Give the demo image, building it where the cache has none.

    Parameters
    ----------
    cache_dir : Path, optional
        Where to keep it; `default_cache()` when left out.

    Returns
    -------
    DemoImage
        Paths into the cache. About 15 s and 35 MB of downloads the first time, about 1 s in a later process.

    Raises
    ------
    UnsupportedError
        A tool or apt's package lists are missing; the message names the command that brings them.
    WorkbenchError
        A download or a tool failed; the cache is as it was.
    """
    cache = cache_dir or default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "image.lock"):
        place = _given.get(cache)
        if place is None or not place.is_dir():
            place = _given[cache] = _find_or_build(cache)
        return _image_in(place)


def _find_or_build(cache: Path) -> Path:
    recipe = _recipe_digest()
    try:
        with tempfile.TemporaryDirectory(dir=cache) as empty:
            chosen = packages.resolve(Path(empty))
    except UnsupportedError:
        if older := sorted(cache.glob(f"image-{recipe}-*"), key=lambda path: path.stat().st_mtime):
            return older[-1]
        raise
    place = cache / f"image-{recipe}-{_digest('/'.join(chosen.files).encode())}"
    if not place.is_dir():
        _build(chosen, cache, place)
    return place


def _image_in(place: Path) -> DemoImage:
    return DemoImage(place / "vmlinuz", place / "initrd.gz", place / "root.qcow2")


def _build(chosen: packages.PackageSet, cache: Path, place: Path) -> None:
    """Build beside the final place and rename: a directory of that name is always whole."""
    work = Path(tempfile.mkdtemp(prefix="building-", dir=cache))
    try:
        _build_in(work, chosen)
        (work / "result").rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _build_in(work: Path, chosen: packages.PackageSet) -> None:
    archives, result = work / "archives", work / "result"
    archives.mkdir()
    result.mkdir(mode=0o755)
    tree = packages.unpack(packages.download(chosen, archives), work / "tree")
    image = _image_in(result)
    shutil.copyfile(next(tree.glob("boot/vmlinuz-*")), image.kernel)
    initrd.build_initrd(tree, _OVERLAY / "initrd-init", image.initrd)
    rootfs.assemble(tree, _OVERLAY, work / "root")
    rootfs.make_filesystem(work / "root", work / "root.raw")
    rootfs.to_qcow2(work / "root.raw", image.disk)
    (result / "packages.txt").write_text("\n".join(chosen.files) + "\n")


def _recipe_digest() -> str:
    parts = [*(_HERE / name for name in _RECIPE), *sorted(path for path in _OVERLAY.rglob("*") if path.is_file())]
    return _digest(b"".join(path.name.encode() + b"\0" + path.read_bytes() for path in parts))


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Print where the image is, building it where needed.

    Returns
    -------
    int
        The exit status.
    """
    image = build_demo_image()
    sys.stdout.write(f"{image.disk.parent}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
