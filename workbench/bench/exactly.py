"""Figures of exact replay: a boot of the demo guest, replayed again and again, and moments of one that runs.

Refuses to count a replay that hung as one that is equal.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from workbench.bench.result import Peer, Result
from workbench.bench.setting import Bench
from workbench.case import Case, ExactRecording, Machine
from workbench.demo import build_demo_image

__all__ = ["replaying"]


def _record(case: Case) -> tuple[ExactRecording, float]:
    """Record a boot to its prompt; return it and the seconds that took."""
    image = build_demo_image()
    began = time.monotonic()
    recording = case.boot_exactly(
        Machine(), until="# ", seconds=240, kernel=image.kernel, initrd=image.initrd, disk=image.disk
    )  # fmt: skip
    return recording, time.monotonic() - began


def _from_moments(bench: Bench) -> Result:
    """Count the captured moments that do not come out the same, recorded from there for a second, then replayed."""
    times, begins, others = bench.count(5, 2), [], 0
    with bench.guest("exact") as guest, Case.create(bench.place / "case-moments", uri=bench.uri) as case:
        with case.record(guest.name) as recording:
            moments = [recording.capture().id for _ in range(times)]
        for each in moments:
            began = time.monotonic()
            with case.record_exactly(moment=case.moment(each)) as recorder:
                begins.append(time.monotonic() - began)
                recorder.run(1)
            found = case.exact_recording(recorder.id)
            others += found.replay().ram_digest != found.description.ram_digest
    return Result(
        f"moments whose exact replay differs, of {times}", "moments", 0, (float(others),),
        "BLAKE3 of all RAM at the recording's end", note=f"recorded from there after {statistics.median(begins):.1f} s",
    )  # fmt: skip


def replaying(bench: Bench) -> Sequence[Result]:
    """Count the replays whose memory at the end is not that of the recording, byte for byte; time those of a boot."""
    times = bench.count(5, 2)
    with Case.create(bench.place / "case-exact", uri=bench.uri) as case:
        recording, took = _record(case)
        outcomes = [recording.replay() for _ in range(times)]
        digest, log = recording.description.ram_digest, (recording.place / "log").stat().st_size
    others = sum(each.ram_digest != digest or each.console != outcomes[0].console for each in outcomes)
    count = f"{recording.icount / 1e9:.2f} billion instructions, a log of {log / 1e6:.1f} MB"
    differing = Result(
        f"exact replays that differ, of {times}", "replays", 0, (float(others),),
        "BLAKE3 of all RAM at the recording's end, and the console", note=f"{times - others} of {times} equal; {count}",
    )  # fmt: skip
    seconds = tuple(each.seconds for each in outcomes)
    peer = Peer("recording it", (took,), "the same boot to its prompt, with its digests")
    note = f"{recording.icount / statistics.median(seconds) / 1e6:.0f} million instructions a second"
    how = "from the call to the digest at the end, files verified and copied"
    return [
        differing,
        _from_moments(bench),
        Result("exact replay of a boot", "s", 30, seconds, how, (peer,), note),
    ]
