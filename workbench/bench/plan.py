"""Which figures there are, their reaches, and how each is measured beside its peers.

Refuses to print, and to keep anything: guests and files live in one temporary directory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from workbench.bench import history, live, peers
from workbench.bench.figure import Figure, Peer, measured
from workbench.case import Case, Recording
from workbench.demo import DemoGuest, DemoSpec

__all__ = ["FIGURES", "Bench"]

_SNAPSHOT = "virsh snapshot-create-as"
_STOOD = "for how long libvirt saw the guest stand still"
_COMMAND = "the command's own time"


@dataclass
class Bench:
    """One run: where it works and how many samples it takes.

    Attributes
    ----------
    place : Path
        A directory that QEMU's user can reach.
    samples : int
        For quick figures; slow ones take a part of it.
    """

    place: Path
    uri: str
    samples: int
    captures: int

    @property
    def few(self) -> int:
        """How many samples a slow figure takes."""
        return max(1, self.samples // 6)

    def boot(self, stack: ExitStack, name: str, memory_mib: int = 512) -> DemoGuest:
        """Boot a guest that ends with `stack`."""
        spec = DemoSpec(f"bench-{name}", memory_mib=memory_mib)
        return stack.enter_context(DemoGuest.boot(spec, self.uri, self.place / f"guest-{name}"))

    def record(self, stack: ExitStack, guest: DemoGuest) -> tuple[Case, Recording]:
        """Begin a recording of a guest that ends with `stack`."""
        case = stack.enter_context(Case.create(self.place / f"case-{guest.name}", uri=self.uri))
        return case, stack.enter_context(case.record(guest.name))


def _pauses(bench: Bench, memory_mib: int, dirty: str, settle: float) -> tuple[float, ...]:
    with ExitStack() as stack:
        guest = bench.boot(stack, f"pause-{memory_mib}", memory_mib)
        _case, recording = bench.record(stack, guest)
        return tuple(live.pauses(guest, recording, bench.samples, dirty, settle))


def _pause_peers(bench: Bench, dirty: str) -> tuple[Peer, ...]:
    with ExitStack() as stack:
        one, two = (bench.boot(stack, name) for name in ("snapshot", "save"))
        return (
            measured(_SNAPSHOT, _STOOD, lambda: peers.snapshot_pauses(one, bench.few, dirty)),
            measured("virsh save", _COMMAND, lambda: peers.save_times(two, bench.few, dirty)),
        )


def pause_quiet(bench: Bench) -> list[Figure]:
    """Measure the pause of an incremental capture of a quiet guest, small and large."""
    small, large = (_clean(bench, _pauses(bench, mib, "true", 1.0)) for mib in (512, 4096))
    others = _pause_peers(bench, "true")
    first = Figure("pause, quiet guest, 512 MiB", "ms", 12, small, others, reach_p95=40)
    ratio = Figure("pause, quiet guest, 4 GiB", "ms", 1.5 * first.median, large, note="at most 1.5 x the 512 MiB one")
    return [first, ratio]


def _clean(bench: Bench, samples: tuple[float, ...]) -> tuple[float, ...]:
    """Remove the case of the guest just measured, so that the next one of its name can begin."""
    for path in bench.place.glob("case-bench-pause-*"):
        peers.run("rm", "-rf", path)
    return samples


def pause_dirty(bench: Bench) -> list[Figure]:
    """Measure the pause with 30 MB dirty."""
    samples = _clean(bench, _pauses(bench, 512, live.DIRTY_30_MB, 0.0))
    others = _pause_peers(bench, live.DIRTY_30_MB)
    return [Figure("pause, 30 MB dirty, 512 MiB", "ms", 60, samples, others)]


def slowdown(bench: Bench) -> list[Figure]:
    """Measure the slowdown of the guest's own benchmark at a 5 s interval."""
    with ExitStack() as stack:
        guest = bench.boot(stack, "slowdown")
        _case, recording = bench.record(stack, guest)
        samples = live.slowdown_percent(guest, recording, max(2, bench.samples // 4))
    return [
        Figure(
            "slowdown of the guest, capture every 5 s", "%", 3, tuple(samples), note="beside the same without capture"
        )
    ]


def rewinds(bench: Bench) -> list[Figure]:
    """Measure the downtime of a rewind 10 s back."""
    with ExitStack() as stack:
        guest = bench.boot(stack, "rewind")
        case, recording = bench.record(stack, guest)
        samples, parts = live.rewind_downtimes(guest, case, recording, bench.few)
    with ExitStack() as stack:
        one, two = (bench.boot(stack, name) for name in ("revert", "restore"))
        others = (
            measured("virsh snapshot-revert", _COMMAND, lambda: peers.revert_times(one, bench.few)),
            measured(
                "virsh restore",
                _COMMAND,
                lambda: [1000 * each for each in peers.restore_times(two, bench.few, answering=False)],
            ),
        )
    note = ", ".join(f"{name} {ms:.0f}" for name, ms in parts.items())
    return [Figure("rewind in place, 10 s back, downtime", "ms", 200, tuple(samples), others, note)]


def clones(bench: Bench) -> list[Figure]:
    """Measure a clone from the call to its first answer, small and large."""
    found = []
    for mib, reach in ((512, 1.0), (4096, 2.0)):
        with ExitStack() as stack:
            guest = bench.boot(stack, f"clone-{mib}", mib)
            case, recording = bench.record(stack, guest)
            recording.capture("bench")
            samples = live.clone_seconds(case, bench.few + 1)
            recording.close()
            peer = measured(
                "virsh restore",
                "to the first answer",
                partial(peers.restore_times, guest, bench.few, answering=True),
            )
        found.append(Figure(f"clone started and answering, {mib} MiB", "s", reach, tuple(samples), (peer,)))
    return found


def storage(bench: Bench) -> list[Figure]:
    """Measure what a capture adds to the case, beside tools that store a dump."""
    with ExitStack() as stack:
        guest = bench.boot(stack, "storage")
        case, recording = bench.record(stack, guest)
        samples = live.stored_kilobytes(guest, recording, bench.samples + 1)
        dumps = [_dump(case, when, bench.place) for when in ("1 capture ago", "latest")]
        others = [
            measured("zstd -3 of the dump", "one dump", lambda: [_zstd(dumps[1]) / 1e3]),
            *(
                measured(tool, "growth by the second dump", partial(peers.repository_growth, tool, dumps, bench.place))
                for tool in ("restic", "borg")
            ),
        ]
        recording.close()
        guest.load("shell")
        grown = measured("qcow2 internal snapshot", "growth of the image", lambda: peers.image_growth(guest, 2.0))
    return [Figure("stored per capture, 2 s interval", "kB", 100, tuple(samples), (grown, *others))]


def _dump(case: Case, when: str, place: Path) -> Path:
    """Write memory and disk of a moment into one raw file, as a dump would be."""
    path = place / f"dump-{when.replace(' ', '-')}"
    moment = case.moment(when)
    with path.open("wb") as file:
        for region in ("pc.ram", "disk:vda"):
            with moment.open(region) as content:
                while chunk := content.read(8 << 20):
                    file.write(chunk)
    return path


def _zstd(dump: Path) -> int:
    target = dump.with_suffix(".zst")
    peers.run("zstd", "-q", "-3", "-f", dump, "-o", target)
    return target.stat().st_size


def long_history(bench: Bench) -> list[Figure]:
    """Measure resolving one of many captures and reading one page of it."""
    place = bench.place / "history"
    history.build_history(place, bench.captures)
    samples = history.resolve_milliseconds(place, bench.captures, bench.samples)
    name = f"resolve one of {bench.captures:,} captures and read a page"
    return [Figure(name, "ms", 20, tuple(samples), note="a fresh process each time; its imports not counted")]


def memory(bench: Bench) -> list[Figure]:
    """Measure the memory of the capturing process."""
    with ExitStack() as stack:
        guest = bench.boot(stack, "memory")
        samples = live.capturer_memory(guest, bench.place / "case-memory")
    return [Figure("memory of the capturing process beyond the guest's RAM", "MB", 200, tuple(samples), note="VmHWM")]


FIGURES: dict[str, Callable[[Bench], Sequence[Figure]]] = {
    "history": long_history,
    "memory": memory,
    "pause": pause_quiet,
    "dirty": pause_dirty,
    "slowdown": slowdown,
    "rewind": rewinds,
    "clone": clones,
    "storage": storage,
}
