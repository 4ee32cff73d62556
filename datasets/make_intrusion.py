"""Make `datasets/intrusion`: the demo guest, recorded while it is broken into, and the truth as the guest tells it.

    .venv/bin/python datasets/make_intrusion.py datasets/intrusion

Needs QEMU and libvirt (`make setup`). Writes `case/`, `truth.json` and `SHA256SUMS`; refuses to replace what is there.
No two runs are alike (times, addresses, process ids), so the dataset is made once and its digests are kept with it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

from workbench.case import Case
from workbench.demo import DemoGuest, DemoSpec
from workbench.demo.story import record_intrusion
from workbench.store import codec

INTERVAL_S = 2.0
MEMORY_MIB = 128
LEVEL = 19
"""Of zstd: slower than what a recording can afford, and a seventh smaller; read at the same speed."""
CLEAR = """
echo 3 >/proc/sys/vm/drop_caches; mkdir /run/clear && mount -t tmpfs -o size=100% none /run/clear
head -c $(( $(sed -n 's/^MemFree: *\\([0-9]*\\).*/\\1/p' /proc/meminfo) - 1536 ))k /dev/zero >/run/clear/zeros
rc=$?
umount /run/clear && rmdir /run/clear && exit $rc
"""
"""Fills free memory with zeros: what the boot left there (two copies of the packed kernel) is two thirds of a recording
of a small guest, and of no interest."""


def make(target: Path, memory_mib: int) -> None:
    """Record the intrusion into `target`."""
    codec.LEVEL = LEVEL
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="rewind-dataset-") as scratch:
        Path(scratch).chmod(0o711)
        spec = DemoSpec(name="demo", memory_mib=memory_mib)
        case = Path(scratch) / "case"
        truth = record(spec, Path(scratch) / "guest", case)
        keep(case, target / "case")
    (target / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
    sums = "".join(
        f"{digest(path)}  {path.relative_to(target)}\n" for path in sorted(target.rglob("*")) if path.is_file()
    )
    (target / "SHA256SUMS").write_text(sums)


def record(spec: DemoSpec, directory: Path, place: Path) -> list[dict[str, object]]:
    """Boot the guest, record it into a new case, and return the guest's own account."""
    with DemoGuest.boot(spec, directory=directory) as guest, Case.create(place) as case:
        cleared = guest.run(CLEAR, timeout=120)
        if cleared.rc:
            raise SystemExit(f"free memory could not be cleared: {cleared.stdout}")
        with case.record(guest.name) as recording:
            record_intrusion(guest, recording, INTERVAL_S, print)
        if damages := case.check():
            raise SystemExit(f"the case is damaged: {damages[0].what}")
        return guest.truth()


def keep(case: Path, target: Path) -> None:
    """Copy what a case is; what can be made again, and the writer's lock, stay behind."""
    shutil.copytree(case, target, ignore=shutil.ignore_patterns("cache", "tmp", "lock"))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Make the dataset."""
    parser = argparse.ArgumentParser(description="Record the demo intrusion as a dataset.")
    parser.add_argument("target", type=Path, help="a directory that does not exist yet, or is empty")
    parser.add_argument("--memory", type=int, default=MEMORY_MIB, metavar="MIB", help="default %(default)s")
    arguments = parser.parse_args()
    if arguments.target.is_dir() and not any(arguments.target.iterdir()):
        arguments.target.rmdir()
    make(arguments.target, arguments.memory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
