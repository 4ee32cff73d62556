"""Clients that ask a service for its status, in a process of their own: what they cost is not the measurer's.

Run as `python -m workbench.bench.polling SOCKET CLIENTS EVERY_S SECONDS`; prints what each answer took, ms, as JSON.
Refuses to count answers that are no status.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

__all__ = ["main", "poll", "polling"]

_LAST = 19


def poll(socket: Path, every_s: float, seconds: float, number: int = 0, of: int = 1) -> list[float]:
    """Ask every so often for so long, the first time after a part of the interval; return what answers took, ms."""
    taken = []
    with httpx2.Client(
        transport=httpx2.HTTPTransport(uds=str(socket)), base_url="http://service", timeout=60
    ) as client:
        begin = time.monotonic() + every_s * number / of
        for turn in range(int(seconds / every_s)):
            time.sleep(max(0.0, begin + turn * every_s - time.monotonic()))
            asked = time.perf_counter()
            answer = client.get("/capture-status")
            taken.append((time.perf_counter() - asked) * 1e3)
            if answer.status_code != 200 or not answer.json()["guests"]:
                raise RuntimeError(f"no status: {answer.status_code}")
    return taken


@contextmanager
def polling(socket: Path, clients: int, every_s: float, seconds: float) -> Iterator[list[float]]:
    """Have clients ask during the body and until their time is over; the list has then what answers took, ms."""
    words = [sys.executable, "-m", "workbench.bench.polling", str(socket), str(clients), str(every_s), str(seconds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    taken: list[float] = []
    try:
        yield taken
        said, _ = process.communicate(timeout=seconds + 120)
        taken += json.loads(said)
    finally:
        process.kill()
        process.wait()


def main(socket: str, clients: str, every_s: str, seconds: str) -> int:
    """Poll as the words say; fails if one client saw no status.

    At the lowest priority: clients are on machines of their own, where what they do costs the captured host nothing.
    """
    os.nice(_LAST)
    taken: list[list[float]] = []

    def run(number: int) -> None:
        taken.append(poll(Path(socket), float(every_s), float(seconds), number, int(clients)))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(int(clients))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    json.dump([each for one in taken for each in one], sys.stdout)
    return 0 if len(taken) == int(clients) else 1


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
