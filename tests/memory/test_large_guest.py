"""RAM above 4 GiB, five levels of page tables and q35: the analysis sees what the guest itself sees."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.memory.physical import PhysicalMemory


def test_a_guest_whose_memory_is_split_and_deep(demo_image: DemoImage) -> None:
    spec = DemoSpec(f"deep-{os.getpid()}", memory_mib=3500, machine="q35", cpu="max")
    with tempfile.TemporaryDirectory(prefix="deep-test-") as place, DemoGuest.boot(spec, image=demo_image) as guest:
        Path(place).chmod(0o711)
        with Case.create(Path(place) / "case") as case:
            # Fill what lies below the hole, so that processes live above it.
            guest.run("dd if=/dev/urandom of=/dev/shm/fill bs=1M count=300 2>/dev/null")
            with case.record(guest.name) as recording:
                moment = recording.capture("deep")
            listed = guest.run("for d in /proc/[0-9]*; do echo ${d#/proc/}; done").stdout.split()
            memory = PhysicalMemory.of_capture(case.store.view(moment.id))
            assert any(each.start >= 1 << 32 and each.block == "pc.ram" for each in memory.ranges)
            assert moment.kernel().iloc[0]["levels"] == 5
            found = set(moment.processes()["pid"].tolist())
            stable = {int(pid) for pid in listed} & found
            assert len(stable) >= len(listed) - 3  # the shell that listed them, and its helpers, came later
            assert len(found - {int(pid) for pid in listed}) <= 3
            assert moment.detect().empty
