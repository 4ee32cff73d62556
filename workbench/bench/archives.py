"""What a general tool makes of a raw dump: zstd, restic and borg. Refuses to be given dumps of different instants."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from workbench.bench.tools import run, total_bytes

__all__ = ["borg_growth", "restic_growth", "zstd_sizes"]


def zstd_sizes(dumps: Sequence[Path]) -> list[float]:
    """Return, in kB, what `zstd -3` makes of each dump but the first, as the other tools are counted."""
    sizes = []
    for dump in dumps[1:]:
        target = dump.with_suffix(".zst")
        run("zstd", "-q", "-3", "-T0", "-f", dump, "-o", target)
        sizes.append(target.stat().st_size / 1e3)
        target.unlink()
    return sizes


def restic_growth(dumps: Sequence[Path], place: Path) -> list[float]:
    """Return, in kB, by how much a restic repository grew with each dump but the first."""
    repository = place / "restic"
    env = {"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(place / "restic-cache")}
    run("restic", "-q", "-r", repository, "init", env=env)
    backup = ("restic", "-q", "-r", repository, "backup", "--host", "bench")
    return _growth(dumps, place, repository, env, [backup for _ in dumps])


def borg_growth(dumps: Sequence[Path], place: Path) -> list[float]:
    """Return, in kB, by how much a borg repository (no encryption, zstd level 3) grew with each dump but the first."""
    repository = place / "borg"
    env = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_BASE_DIR": str(place / "borg-base")}
    run("borg", "init", "-e", "none", repository, env=env)
    backups = [("borg", "create", "--compression", "zstd,3", f"{repository}::{n}") for n in range(len(dumps))]
    return _growth(dumps, place, repository, env, backups)


def _growth(
    dumps: Sequence[Path],
    place: Path,
    repository: Path,
    env: dict[str, str],
    backups: Sequence[tuple[str | Path, ...]],
) -> list[float]:
    """Back up the dumps in turn under one path, by which a tool knows a file again, and return the growths in kB."""
    same, sizes = place / "dump.raw", []
    for dump, backup in zip(dumps, backups, strict=True):
        dump.rename(same)
        try:
            run(*backup, same, env=env)
        finally:
            same.rename(dump)
        sizes.append(total_bytes(repository) / 1e3)
    return [later - earlier for earlier, later in itertools.pairwise(sizes)]
