"""A service as its users have it, for figures and the soak: `workbench serve` in a process of its own, over a case.

Refuses to leave it running after the body.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from workbench.case import Case
from workbench.errors import GuestError

__all__ = ["Served", "pauses", "serving"]

_PATIENCE_S = 120.0


class Served:
    """A service that runs.

    Parameters
    ----------
    place : Path
        Where its case, its state and its socket are.
    process : Popen
    """

    def __init__(self, place: Path, process: subprocess.Popen[bytes]) -> None:
        self.place, self.process = place, process
        self.socket, self.case = place / "api.sock", place / "case"
        transport = httpx2.HTTPTransport(uds=str(self.socket))
        self.client = httpx2.Client(transport=transport, base_url="http://service", timeout=60)

    def status(self) -> dict[str, dict[str, Any]]:
        """Return the status of every guest, by name."""
        return {each["guest"]: each for each in self.client.get("/capture-status").json()["guests"]}

    def configure(self, guest: str, **asked: Any) -> None:
        """Have a guest recorded.

        Raises
        ------
        GuestError
            If the service refuses.
        """
        answer = self.client.post("/capture-config", json={"guest": guest, **asked})
        if answer.status_code != 200:
            raise GuestError("the service took no configuration", guest=guest, told=answer.text[:300])

    def captured(self, guests: Sequence[str], more: int = 1) -> None:
        """Wait until every guest has so many further captures.

        Raises
        ------
        GuestError
            If that takes too long.
        """
        before = {name: told["captures"] for name, told in self.status().items()}
        self.until(lambda: all(self.status()[name]["captures"] >= before.get(name, 0) + more for name in guests))

    def until(self, check: Callable[[], object]) -> None:
        """Wait for something to be true.

        Raises
        ------
        GuestError
            If that takes too long, or the service ended.
        """
        end = time.monotonic() + _PATIENCE_S
        while not check():
            if self.process.poll() is not None or time.monotonic() > end:
                raise GuestError("the service does not do what is waited for", code=self.process.poll())
            time.sleep(0.1)

    def answers(self) -> bool:
        """Tell whether it answers yet."""
        with socket.socket(socket.AF_UNIX) as end:  # by hand: the client leaves a socket open that was not connected
            try:
                end.connect(str(self.socket))
            except OSError:
                return False
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx2.TransportError:
            return False


@contextmanager
def serving(place: Path, uri: str, **settings: float) -> Iterator[Served]:
    """Run a service in `place` for the body; its recorders end with it.

    Parameters
    ----------
    **settings
        Further ones of `workbench.toml`, of its first table.
    """
    place.mkdir(mode=0o711, exist_ok=True)
    further = "".join(f"{name} = {value}\n" for name, value in settings.items())
    file = place / "workbench.toml"
    file.write_text(
        f"case = {json.dumps(str(place / 'case'))}\nconnect = {json.dumps(uri)}\n"
        f"state = {json.dumps(str(place / 'state'))}\n{further}"
        f"[listen]\nsocket = {json.dumps(str(place / 'api.sock'))}\n"
        "[limits]\nrequests_per_minute = 1000000\nfree_bytes = 0\n"
    )
    words = [sys.executable, "-m", "workbench.cli", "serve", "--settings", str(file)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    served = Served(place, process)
    try:
        served.until(served.answers)
        yield served
    finally:
        served.client.close()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def pauses(case: Path, guest: str, since_ns: int = 0, leave_out: int = 3) -> list[float]:
    """Return the pauses of a guest's captures, ms: of those that were not audited, less the first ones."""
    with Case(case) as opened:
        refs = [ref for ref in opened.store.captures(opened.guest(guest).id) if ref.time_ns >= since_ns]
        facts = [opened.store.record(ref.id).facts for ref in refs[leave_out:]]
    return [each["pause_ns"] / 1e6 for each in facts if "audit" not in each["pause_parts_ns"]]
