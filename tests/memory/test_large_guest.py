"""RAM above 4 GiB, five levels of page tables and q35: the analysis sees what the guest itself sees."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.memory.physical import PhysicalMemory


def listed(guest: DemoGuest) -> set[int]:
    return {int(pid) for pid in guest.run("for d in /proc/[0-9]*; do echo ${d#/proc/}; done").stdout.split()}


def test_a_guest_whose_memory_is_split_and_deep(demo_image: DemoImage) -> None:
    spec = DemoSpec(f"deep-{os.getpid()}", memory_mib=3500, machine="q35", cpu="max")
    with tempfile.TemporaryDirectory(prefix="deep-test-") as place, DemoGuest.boot(spec, image=demo_image) as guest:
        Path(place).chmod(0o711)
        with Case.create(Path(place) / "case") as case:
            # Fill what lies below the hole, so that processes live above it.
            guest.run("dd if=/dev/urandom of=/dev/shm/fill bs=1M count=300 2>/dev/null", timeout=400)
            with case.record(guest.name) as recording:
                before = listed(guest)
                moment = recording.capture("deep")
                after = listed(guest)
            memory = PhysicalMemory.of_capture(case.store.view(moment.id))
            assert any(each.start >= 1 << 32 and each.block == "pc.ram" for each in memory.ranges)
            assert moment.kernel().iloc[0]["levels"] == 5
            found = set(moment.processes()["pid"].tolist())
            assert before & after <= found  # all that were there throughout; threads of the kernel come and go
            assert len(before & after) > 50
            assert len(found - before - after) <= 3
            assert moment.detect().empty
