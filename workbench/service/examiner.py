"""The process that looks at a guest's increments: `python -m workbench.service.examiner FD`, or `check`.

It reads committed captures from the case and never hears of a pause. It has the lowest priority there is (nice 19,
SCHED_IDLE, and with it idle I/O), is the first to go where memory runs out, and its address space and the processor
time for one increment are bounded by the kernel. It ends with the service, whatever it is doing. Its order comes on
standard input. Refuses to write to the case: what it finds, it tells.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.memory.rules import compile_rules
from workbench.model import CaptureId
from workbench.service.examination import Examination
from workbench.service.wire import Channel, tell_error

__all__ = ["ADDRESS_SPACE", "main"]

ADDRESS_SPACE = 6 << 30
"""Bytes of address space, as of other workers."""
_NICE = 19
_MOST_WORDS = 2_000


def _step_back() -> None:
    """Let everybody else go first: it gets what nobody else wants of the processors."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _bound() -> None:
    """Take little, and be the first to go where memory is short."""
    os.nice(_NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def _examine(channel: Channel, order: dict[str, Any]) -> None:
    rules = compile_rules(order["rules"]) if order["rules"] else None
    examination = Examination(Path(order["case"]), rules, order["detectors"], whole_first=bool(order["whole_first"]))
    channel.send(ready=True)
    orders = _listening(channel)
    while True:
        asked = orders.get()
        signal.setitimer(signal.ITIMER_PROF, float(order["limit_s"]))  # SIGPROF ends a process, whatever it is in
        began = time.process_time()
        told = _told(examination, asked)
        signal.setitimer(signal.ITIMER_PROF, 0)
        channel.send(examined=asked["examine"], seconds=time.process_time() - began, **told)


def _told(examination: Examination, asked: dict[str, Any]) -> dict[str, Any]:
    base = asked["base"]
    try:
        found = examination.examine(CaptureId(asked["examine"]), None if base is None else CaptureId(base))
    except WorkbenchError as error:
        return {"events": [], "unseen": error.message[:_MOST_WORDS], "done": False}
    except MemoryError:
        return {"events": [], "unseen": "it takes more memory than an examiner has", "done": False}
    except Exception as error:  # noqa: BLE001  (a guest's lies: the next increment is looked at all the same)
        return {"events": [], "unseen": f"{type(error).__name__}: {error}"[:_MOST_WORDS], "done": False}
    events = [asdict(each) for each in found.events]
    return {"events": events, "unseen": "; ".join(found.unseen)[:_MOST_WORDS], "done": True}


def _listening(channel: Channel) -> queue.SimpleQueue[dict[str, Any]]:
    """Return orders as they come; the process ends when nobody is there to give any."""
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        with contextlib.suppress(EOFError):
            while True:
                orders.put(channel.receive())
        os._exit(0)

    threading.Thread(target=listen, name="orders", daemon=True).start()
    return orders


def _check(order: dict[str, Any]) -> None:
    """Say on standard output whether rules compile."""
    told: dict[str, Any] = {}
    try:
        told["rules"] = len(compile_rules(order["rules"]).rules)
    except WorkbenchError as error:
        told["error"] = tell_error(error)
    except MemoryError:
        told["error"] = {"kind": "UsageError", "message": "the rules take more memory than an examiner has"}
    json.dump(told, sys.stdout)


def main(what: str) -> int:
    """Examine until nobody asks any more, or check rules; the exit code is 1 after an error that was told."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the service says when; a Ctrl-C at its terminal reaches all
    _bound()
    order = json.load(sys.stdin)
    if what == "check":  # somebody waits for it
        _check(order)
        return 0
    _step_back()
    channel = Channel(socket.socket(fileno=int(what)))
    try:
        _examine(channel, order)
    except WorkbenchError as error:
        channel.send(failed=tell_error(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
