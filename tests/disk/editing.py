"""A disk that is changed step by step with debugfs, and the truth about its files kept beside it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workbench.disk.image import Image, Slice
from workbench.disk.moments import Moments
from workbench.disk.parts import Opened, Part
from workbench.disk.tsk import open_tsk
from workbench.model import CaptureId
from workbench.store import CaptureView

from .images import case_of, run, sparse

OPTIONS = ("-t", "ext4", "-O", "inline_data", "-I", "256", "-b", "4096", "-U", "11111111-2222-3333-4444-555555555555")


def whole_disks(view: CaptureView) -> Opened:
    """The opener of these tests: every disk is one file system, nothing is replayed."""
    parts = []
    for region in view.record.regions:
        name = region.spec.name.removeprefix("disk:")
        image = Image(view, region.spec.name)
        volume = Slice.of(image, 0, image.size)
        mount = "/" if not parts else f"/{name}"
        parts.append(Part(name, mount, name, volume, image, open_tsk(volume)))
    return Opened(parts)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Disk:
    """A file with an ext4, and what to do to it next."""

    path: Path
    script: list[str] = field(default_factory=list)
    number: int = 0

    def do(self, *lines: str) -> None:
        self.script += lines

    def write(self, path: str, content: bytes, *, second: int = 0) -> None:
        """Make a new file with an own generation, as a kernel would."""
        self.number += 1
        source = self.path.parent / f"content-{self.number}"
        source.write_bytes(content)
        self.do(f"write {source} {path}", f"sif {path} generation {1000 + self.number}")
        if second:
            self.do(f"sif {path} mtime @{second}")

    def apply(self) -> None:
        script = self.path.with_suffix(".script")
        script.write_text("\n".join(self.script) + "\n")
        self.script.clear()
        run("debugfs", "-w", "-f", script, self.path)

    def copy(self, name: str) -> Path:
        target = self.path.parent / name
        shutil.copyfile(self.path, target)
        return target


def new_disk(folder: Path, source: Path | None = None, size: int = 16 << 20) -> Disk:
    path = sparse(folder / "disk", size)
    run("mke2fs", "-q", "-F", *OPTIONS, *(("-d", source) if source else ()), path)
    return Disk(path)


def moments_of(folder: Path, files: Sequence[Path]) -> tuple[Moments, list[CaptureId]]:
    store, captures = case_of(folder / "case", [{"vda": file} for file in files])
    return Moments(store, whole_disks), captures
