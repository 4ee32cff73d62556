"""The service beside its captures: how fast it answers, how fast an event is captured, what its clients cost a pause.

Two guests that write are recorded by `workbench serve` throughout; phases with and without clients take turns, so that
what else the host does falls on both. Refuses to measure a service that nothing is asked of.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from workbench.bench.polling import poll, polling
from workbench.bench.result import Peer, Result, percentile, uncertainty
from workbench.bench.served import Served, pauses, serving
from workbench.bench.setting import Bench
from workbench.bench.tools import total_bytes
from workbench.case import Case
from workbench.demo import DemoGuest
from workbench.errors import GuestError

__all__ = ["service"]

CLIENTS = 50
_INTERVAL_S = 1.0
_NEVER_HELD = {"debounce_s": 0, "cool_down_s": 0, "budget_per_hour": 100_000}
_KEEP = {"tiers": [{"every": "30s", "for": "1d"}]}
_RECORDED = f"two guests of 256 MiB recorded every {_INTERVAL_S:g} s"


@contextmanager
def _recorded(bench: Bench) -> Iterator[tuple[Served, list[DemoGuest]]]:
    """Have two guests recorded by a service for the body."""
    with ExitStack() as stack:
        guests = [stack.enter_context(bench.guest(f"served{number}", 256)) for number in (1, 2)]
        for guest in guests:
            guest.load("shell")
        served = stack.enter_context(serving(bench.place / "served", bench.uri, prune_every_s=86_400))
        for guest in guests:
            served.configure(guest.name, interval_s=_INTERVAL_S, triggers={"gate": _NEVER_HELD})
        served.captured([guest.name for guest in guests], 3)
        yield served, guests


def _status(bench: Bench, served: Served) -> Result:
    """Ask for the status, one question after another."""
    taken = poll(served.socket, 0.02, 0.02 * bench.count(1_000, 50))
    how = f"{_RECORDED}; GET /capture-status over the socket by one client, each answer read and parsed"
    return Result("status of a service", "ms", 10, tuple(taken), how, reach_p95=10)


def _alerts(served: Served, guest: str, count: int) -> tuple[list[float], list[float]]:
    """Send alerts, each half a second after the answer to the one before.

    Returns
    -------
    tuple of list of float
        From sending one to the answer, which comes when the capture can be read; and to the capture's instant; ms.
    """
    answered, instants = [], []
    for number in range(count):
        time.sleep(0.37)  # no part of the interval: alerts fall anywhere between two turns
        began_ns = time.time_ns()
        body = {"guest": guest, "event": {"name": f"bench-{number}", "reason": "bench", "severity": "critical"}}
        told = served.client.post("/events", json=body).json()
        if not told.get("taken"):
            raise GuestError("an alert was not captured", guest=guest, told=str(told)[:300])
        answered.append((time.time_ns() - began_ns) / 1e6)
        instants.append((told["time_ns"] - began_ns) / 1e6)
    return answered, instants


def _marks(served: Served, guest: DemoGuest, count: int) -> list[float]:
    """Have the guest ask for captures itself; return ms from before it is told to, to each capture's instant."""
    taken = []
    with Case(served.case) as case:
        for number in range(count):
            time.sleep(0.37)
            name, began_ns = f"own-{number}-", time.time_ns()
            guest.run(f"workbench-mark {name}")
            known = case.guest(guest.name).id

            def instants(name: str = name, known: Any = known) -> list[int]:
                return [
                    each.time_ns
                    for each in case.store.marks(known)
                    if each.name.startswith(name) and each.kind == "event"
                ]

            served.until(instants)
            taken.append((instants()[0] - began_ns) / 1e6)
    return taken


def _triggers(bench: Bench, served: Served, guests: Sequence[DemoGuest]) -> list[Result]:
    answered, instants = _alerts(served, guests[0].name, bench.count(60, 4))
    own = _marks(served, guests[1], bench.count(30, 3))
    middle = statistics.median(instants)
    return [
        Result(
            "alert until its capture can be read",
            "ms",
            500,
            tuple(answered),
            f"{_RECORDED}; POST /events to its answer",
            note=f"the capture's instant is {middle:.0f} ms after the alert, p95 {percentile(instants, 95):.0f}",
            reach_p95=500,
        ),
        Result(
            "a guest's own mark until its capture's instant",
            "ms",
            500,
            tuple(own),
            f"{_RECORDED}; from telling the guest to run workbench-mark, its shell included",
            reach_p95=500,
        ),
    ]


def _phase(
    served: Served, guests: Sequence[DemoGuest], seconds: float, clients: int
) -> tuple[list[float], list[float]]:
    """Return pauses of captures of a phase, and what its clients' answers took; ms."""
    names = [guest.name for guest in guests]
    since_ns = time.time_ns()
    asked: list[float] = []
    with ExitStack() as stack:
        if clients:
            asked = stack.enter_context(polling(served.socket, clients, 1.0, seconds))
        time.sleep(seconds)
    while not (found := [each for name in names for each in pauses(served.case, name, since_ns, leave_out=1)]):
        served.captured(names, 1)  # a short phase on a busy host had none
    return found, asked


def _polled(bench: Bench, served: Served, guests: Sequence[DemoGuest]) -> Result:
    alone: list[float] = []
    beside: list[float] = []
    answers: list[float] = []
    for _ in range(bench.count(3, 1)):
        alone += _phase(served, guests, bench.count(25, 3), 0)[0]
        found, asked = _phase(served, guests, bench.count(25, 3), CLIENTS)
        beside, answers = beside + found, answers + asked
    apart = abs(statistics.median(beside) - statistics.median(alone))
    note = (
        f"p95 {percentile(beside, 95):.1f} beside {percentile(alone, 95):.1f} ms; their answers took "
        f"{statistics.median(answers):.1f} ms, p95 {percentile(answers, 95):.1f}"
    )
    return Result(
        f"pause while {CLIENTS} clients ask for status",
        "ms",
        round(1.1 * statistics.median(alone), 1),
        tuple(beside),
        f"{_RECORDED}; each client asks once a second. The reach is 1.1 x the median while nobody asks, in turns",
        (Peer("nobody asks", tuple(alone), "the same recording, phases in turn"),),
        note,
        settled=apart > uncertainty(beside) + uncertainty(alone)
        or statistics.median(beside) <= statistics.median(alone),
    )


def _pruned(served: Served, guest: str) -> dict[str, Any]:
    """Plan and carry out a prune as a client does; return the job's result and the plan's bytes."""
    plan = served.client.post("/prune", json={"guest": guest, "retention": _KEEP, "dry_run": True}).json()
    job = served.client.post("/prune", json={"guest": guest, "confirm": plan["confirm"]}).json()["job"]

    def state() -> dict[str, Any]:
        found: dict[str, Any] = served.client.get(f"/jobs/{job['id']}").json()["job"]
        return found

    served.until(lambda: state()["ended_ns"])
    if state()["state"] != "done":
        raise GuestError("a prune failed", guest=guest, told=str(state()["error"])[:300])
    return {**state()["result"], "planned": plan["plan"]["frees"]}


def _reclaim(served: Served, guests: Sequence[DemoGuest]) -> list[Result]:
    """Prune both guests while they are recorded: bytes that are really gone, and the longest pause meanwhile."""
    names = [guest.name for guest in guests]
    usual = [each for name in names for each in pauses(served.case, name)]
    stored, full, since_ns = _stored(served), total_bytes(served.case), time.time_ns()
    began = time.monotonic()
    done = [_pruned(served, name) for name in names]
    seconds = time.monotonic() - began
    served.captured(names, 1)
    left, written = total_bytes(served.case), _stored(served) - stored
    meanwhile = [each for name in names for each in pauses(served.case, name, since_ns, leave_out=0)]
    told, gone = sum(each["freed"] for each in done), full + written - left
    share = 100 * (1 - gone / told) if told else 0.0
    dropped, planned = (sum(each[name] for each in done) for name in ("dropped", "planned"))
    note = (
        f"{dropped:,} captures dropped in {seconds:.1f} s: {full / 1e6:.1f} MB before, {written / 1e6:.1f} written "
        f"meanwhile, {left / 1e6:.1f} after; {told / 1e6:.1f} MB told, {planned / 1e6:.1f} planned"
    )
    how = f"{_RECORDED} meanwhile; POST /prune, one capture of 30 s stays; the case's files counted before and after"
    high = percentile(usual, 95)
    return [
        Result("bytes told freed by a prune, of which still there", "%", 10, (share,), how, note=note),
        Result(
            "longest pause while a prune runs",
            "ms",
            round(2 * high, 1),
            (max(meanwhile),),
            f"{how}. The reach is twice the p95 of the captures before",
            note=f"of {len(meanwhile)} captures; before: median {statistics.median(usual):.1f}, p95 {high:.1f} ms",
        ),
    ]


def _stored(served: Served) -> int:
    return sum(int(each["bytes_stored"]) for each in served.status().values())


def service(bench: Bench) -> list[Result]:
    """Measure it all on one service."""
    with _recorded(bench) as (served, guests):
        return [
            _status(bench, served),
            *_triggers(bench, served, guests),
            _polled(bench, served, guests),
            *_reclaim(served, guests),
        ]
