"""Trials by a service, from afar: the guest is recorded before and after, and the service's log has every act."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from trying import CHANGE, seen
from waiting import until

from workbench.case import Case, HttpProbe
from workbench.demo import DemoGuest
from workbench.errors import ConfirmationError, UnsupportedError, UsageError
from workbench.remote import connect
from workbench.remote.case import RemoteCase
from workbench.store.auditlog import AuditLog

pytestmark = pytest.mark.guest


class Served:
    """A service in a process of its own, over a case with the moment "then"."""

    def __init__(self, case: Path, place: Path) -> None:
        self.log = AuditLog(place / "state" / "audit.jsonl")
        self.address = f"unix://{place}/api.sock"
        self._settings = place / "workbench.toml"
        self._settings.write_text(
            f'case = "{case}"\nconnect = "qemu:///session"\nstate = "{place}/state"\n[listen]\n'
            f'socket = "{place}/api.sock"\n[limits]\nfree_bytes = 0\n[probes.closed]\ntcp = "127.0.0.1:1"\n'
        )
        self.start()

    def start(self) -> None:
        words = [sys.executable, "-m", "workbench.cli", "serve", "--settings", str(self._settings)]
        self.process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        until(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "the service ended"
        with socket.socket(socket.AF_UNIX) as end:
            return end.connect_ex(self.address.removeprefix("unix://")) == 0

    def end(self) -> None:
        self.process.terminate()
        assert self.process.wait(90) == 0

    def said(self) -> list[tuple[str, str, str]]:
        """Who did what, and what came of it, of all about trials, by the service's audit log."""
        assert self.log.verify() == []
        lines = [line for line in self.log.lines() if line["what"].startswith("trial")]
        return [(line["who"], line["what"], line["result"]) for line in lines]


@pytest.fixture(scope="module")
def served(case_of_all: Case, tried: DemoGuest) -> Iterator[Served]:
    tried.run("echo now >/root/when; sync")
    made = Served(case_of_all.path, case_of_all.path.parent)
    with connect(made.address) as remote:
        remote.configure(tried.name, interval_s=1.0)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def remote(served: Served, tried: DemoGuest) -> Iterator[RemoteCase]:
    with connect(served.address) as made:
        until(lambda: recorded(made, tried))
        yield made


def recorded(remote: RemoteCase, guest: DemoGuest, since_ns: int = 0) -> bool:
    """Whether the service records the guest, and has captured it since an instant."""
    there = remote.status(guest.name).iloc[0]["state"] == "recording"
    return there and remote.moment("latest", guest.name).record.time_ns > since_ns


def test_a_trial_by_a_service_is_committed_or_goes_back_and_the_series_goes_on(
    served: Served, remote: RemoteCase, tried: DemoGuest
) -> None:
    with pytest.raises(ConfirmationError):
        remote.trial("then", CHANGE, commit_within=90, confirm="another")
    with pytest.raises(UnsupportedError):
        remote.trial("then", commit_within=90, confirm=tried.name, probe=HttpProbe("http://127.0.0.1/"))
    with pytest.raises(UsageError, match="no probe 'unnamed'"):
        remote.trial("then", commit_within=90, confirm=tried.name, probe="unnamed")
    assert seen(tried) == ["now"]
    assert served.said() == []

    # A probe of the service's own fails: the watchman takes it back, and the recording goes on by itself.
    trial = remote.trial("then", CHANGE, commit_within=90, confirm=tried.name, probe="closed", every=0.2, failures=2)
    status = trial.wait(120)
    assert (status.state, status.ended_by) == ("undone", "watchman")
    assert status.why.startswith("2 probes failed in a row: 127.0.0.1:1 does not accept")
    assert seen(tried) == ["now"]
    ended = time.time_ns()
    until(lambda: recorded(remote, tried, ended))

    # Open, it is left alone by the recorder; it is committed, and recorded as it is now.
    trial = remote.trial("then", {"/root/planted": b"a file\n"}, commit_within=90, confirm=tried.name)
    assert (trial.status.state, trial.watched) == ("open", True)
    until(lambda: remote.status(tried.name).iloc[0]["why"].startswith("on trial"))
    with pytest.raises(UsageError, match="is under way"):
        remote.trial("then", commit_within=90, confirm=tried.name)
    assert trial.commit().state == "committed"
    assert [each.status.state for each in remote.trials()] == ["undone", "committed"]
    with pytest.raises(UsageError, match="is committed"):
        trial.undo()
    assert seen(tried) == ["then", "a", "file"]
    ended = time.time_ns()
    until(lambda: recorded(remote, tried, ended))
    assert remote.moment("latest", tried.name).open("/root/planted").read() == b"a file\n"

    me = f"uid:{os.geteuid()}"
    until(lambda: (me, "trial", "committed") in served.said())
    told = served.said()
    assert told[0] == (me, "trial", "asked")
    assert {(me, "trial", "begun"), (me, "trial", "applied"), ("watchman", "trial", "probe failed")} <= set(told)
    assert [each for each in told if each[0] == "watchman"][-1] == ("watchman", "trial", "undone")
    assert [each for each in told if each[1] == "trial commit"] == [(me, "trial commit", r) for r in ("asked", "done")]


def test_a_service_that_ends_during_a_trial_watches_again_and_has_all_of_it_in_its_log(
    served: Served, case_of_all: Case, remote: RemoteCase, tried: DemoGuest
) -> None:
    before, told = seen(tried), len(served.said())
    trial = remote.trial("then", CHANGE, commit_within=300, confirm=tried.name)
    local = case_of_all.trials()[-1]
    served.end()
    os.kill(local.status.watchman, signal.SIGKILL)  # as the end of the service's unit does
    until(lambda: not local.watched)
    served.start()
    until(lambda: local.watched)
    assert seen(tried) == ["then", "changed"]

    # What happens while no service is there is taken over by the next one.
    served.end()
    assert local.undo("by hand").state == "undone"
    assert seen(tried) == before
    served.start()
    me = f"uid:{os.geteuid()}"
    until(lambda: (me, "trial", "undone") in served.said()[told:])
    acts = [result for _who, what, result in served.said()[told:] if what == "trial"]
    assert sorted(acts) == sorted(["asked", "begun", "applied", "done", "watched again", "undone"])
    with connect(served.address) as again:
        until(lambda: recorded(again, tried))
        status = again.trials()[-1].status
        assert (status.id, status.why, status.ended_by) == (trial.id, "by hand", me)
