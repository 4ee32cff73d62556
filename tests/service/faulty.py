"""A service as its users have it, on a daemon of the test's own and a small volume: what tests of faults share."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from waiting import until

from workbench.bench.processes import children, command
from workbench.case import Case
from workbench.guest.leftovers import find_leftovers
from workbench.guest.reach import Reach


@contextlib.contextmanager
def small_volume(place: Path) -> Iterator[Path]:
    """A file system of its own, of 400 MB."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def clean(uri: str, uuid: str) -> None:
    """Wait until a guest runs, and nothing of ours is in it."""
    with contextlib.closing(Reach(uri, uuid)) as reach:
        until(lambda: reach.guest().is_running())
        until(lambda: find_leftovers(reach.guest().monitor) == [])


class Faulty:
    """A service in a process of its own, which can be killed with all of its recorders and started again."""

    def __init__(self, place: Path, volume: Path, uri: str, guest: str, environment: dict[str, str]) -> None:
        self.place, self.path, self.uri, self.guest = place, volume / "case", uri, guest
        self.socket, self._environment = place / "api.sock", environment
        (place / "workbench.toml").write_text(
            f'case = "{self.path}"\nconnect = "{uri}"\nstate = "{place}/state"\n[listen]\nsocket = "{self.socket}"\n'
            "[limits]\nrequests_per_minute = 100000\nfree_bytes = 0\nsilent_s = 12\n"
        )
        self.start()

    def start(self) -> None:
        words = [sys.executable, "-m", "workbench.cli", "serve", "--settings", str(self.place / "workbench.toml")]
        self.process = subprocess.Popen(words, env=self._environment)
        transport = httpx2.HTTPTransport(uds=str(self.socket))
        self.client = httpx2.Client(transport=transport, base_url="http://service", timeout=60)
        until(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "the service ended"
        with socket.socket(socket.AF_UNIX) as end:
            if end.connect_ex(str(self.socket)):  # the socket of one that was killed lies there
                return False
        return self.client.get("/healthz").status_code == 200

    def end(self) -> None:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0

    def kill(self) -> None:
        """End the service and its recorders at once, as `systemctl kill -s KILL` does; guards are in other sessions."""
        recorders = self.recorders()
        self.process.kill()
        for pid in recorders:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.client.close()

    def recorders(self) -> list[int]:
        """The processes of recorders that are this service's children."""
        return [pid for pid in children(self.process.pid) if "workbench.service.recorder" in command(pid)]

    def recorder(self) -> int:
        """The recorder that is there, once it is."""
        return int(until(self.recorders)[0])

    def status(self) -> dict[str, Any]:
        return dict(self.client.get("/capture-status").json()["guests"][0])

    def until_status(self, patience: float = 180.0, **wanted: object) -> dict[str, Any]:
        """Wait until the status says all of this, and return it."""

        def told() -> dict[str, Any] | None:
            found = self.status()
            return found if all(found[name] == value for name, value in wanted.items()) else None

        found = until(told, str(wanted), patience)
        assert found is not None
        return found

    def captures(self, more: int = 2) -> dict[str, Any]:
        """Wait for further captures; return the status."""
        before = self.status()["captures"]
        until(lambda: self.status()["captures"] >= before + more)
        return self.status()

    def records(self) -> list[Any]:
        """All captures, oldest first."""
        with Case(self.path) as case:
            return [case.store.record(ref.id) for ref in case.store.captures(case.guest().id)]

    def whole(self) -> None:
        """The series is one line with one beginning, in the order of time, and its files are whole."""
        with Case(self.path) as case:
            assert case.check() == []
        records = self.records()
        assert [each.parent for each in records[1:]] == [each.id for each in records[:-1]]
        assert [each.depth for each in records] == list(range(len(records)))

    def clean(self, uuid: str) -> None:
        """The guest runs, and while nobody records it nothing of ours is in it."""
        clean(self.uri, uuid)
