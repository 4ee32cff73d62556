"""Figure 4: the downtime of a rewind in place, 10 s back, under a shell's load.

Refuses to count a rewind after which the guest does not say that it is well.
"""

from __future__ import annotations

import time
from functools import partial

from workbench.bench import virsh
from workbench.bench.result import Result, measured, medians
from workbench.bench.setting import Bench
from workbench.case import Case, Recording
from workbench.demo import DemoGuest
from workbench.errors import GuestError
from workbench.rewind.outcome import Rewound

__all__ = ["downtime"]


def _rewinds(guest: DemoGuest, case: Case, recording: Recording, count: int, back: float) -> list[Rewound]:
    """Return `count` rewinds, each `back` s back."""
    guest.load("shell")
    time.sleep(2)
    recording.capture("the moment to go back to", mark="back")
    done = []
    for _ in range(count):
        time.sleep(back)
        done.append(recording.rewind(case.plan_rewind("back", mode="production"), confirm=guest.name))
        health = guest.health()
        if not health.ok:
            raise GuestError("the guest is not well after a rewind", problems=health.problems)
    return done


def downtime(bench: Bench) -> list[Result]:
    """Measure the downtime of rewinds, and of libvirt's ways back."""
    count, back = bench.count(3, 1), bench.count(10, 3)
    with bench.guest("rewind") as guest:
        with bench.recording(guest) as (case, recording):
            done = _rewinds(guest, case, recording, bench.count(6, 1), back)
        peers = (
            measured(
                "virsh snapshot-revert",
                "from the call to RESUME",
                partial(virsh.revert_downtimes, guest, count, back),
            ),
            measured(
                "virsh destroy, restore",
                "from the call to RESUME; putting the disk back not counted",
                partial(virsh.restore_downtimes, guest, count, back),
            ),
        )
    pages, clusters = done[-1].pages, done[-1].clusters
    note = f"{pages} pages, {clusters} clusters written; {medians([each.parts_ns for each in done])}"
    samples = tuple(each.downtime_ns / 1e6 for each in done)
    how = "from sending `stop` to the answer to `cont`, the safety capture included"
    return [Result(f"rewind in place, {back:g} s back", "ms", 200, samples, how, peers, note)]
