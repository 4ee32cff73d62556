"""Trials in production: kept when they are committed, and else as before, which the guest itself has to say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from trying import CHANGE, seen

from workbench.case import Case, CommandProbe
from workbench.demo import DemoGuest
from workbench.errors import ConfirmationError, RewindError, UsageError
from workbench.guest.leftovers import find_leftovers

pytestmark = pytest.mark.guest


def assert_clean(case: Case, guest: DemoGuest) -> None:
    """Healthy, running, and nothing of ours in it or in its QEMU."""
    assert guest.health().ok
    assert find_leftovers(case.hypervisor.guest(guest.name).monitor) == []
    assert guest.run("ls -A /tmp /var/tmp /dev/shm /run | grep -c rwb").stdout == "0\n"
    assert case.store.captures(case.guest().id)
    assert [mark for mark in case.marks() if mark.kind == "hold"] == []


def acts(case: Case) -> list[str]:
    """What was done in the last trial, as the marks and, besides what it says of probes, the audit log have it."""
    begin = f"trial-{case.trials()[-1].id[:8]}-"
    marked = [mark.name.removeprefix(begin) for mark in case.marks() if mark.name.startswith(begin)]
    assert [result for _who, result, _why in noted(case) if "probe" not in result] == marked
    assert case.audit_log.verify() == []
    return marked


def noted(case: Case) -> list[tuple[str, str, str]]:
    """Who did what and why in the last trial, by the audit log."""
    lines = [line for line in case.audit_log.lines() if line["facts"]["trial"] == case.trials()[-1].id]
    return [(line["who"], line["result"], line["facts"].get("why", "")) for line in lines]


def test_what_is_committed_is_kept(case: Case, tried: DemoGuest) -> None:
    trial = case.trial("then", CHANGE, commit_within=60, confirm=tried.name, who="token:ann")
    assert trial.status.state == "open"
    assert trial.watched
    assert [mark.capture for mark in case.marks() if mark.kind == "hold"] == [trial.status.safety]
    trial.commit()
    assert seen(tried) == ["then", "changed"]
    with pytest.raises(UsageError, match="is committed"):
        trial.undo()
    assert acts(case) == ["begun", "applied", "committed"]
    assert [who for who, _result, _why in noted(case)] == ["token:ann", "token:ann", f"uid:{os.geteuid()}"]
    assert_clean(case, tried)


def test_what_is_not_committed_in_time_goes_back(case: Case, tried: DemoGuest) -> None:
    trial = case.trial("then", {"/root/planted": b"a file\n"}, commit_within=20, confirm=tried.name)
    assert seen(tried) == ["then", "a", "file"]
    status = trial.wait(120)
    assert (status.state, status.why) == ("undone", "it was not committed within 20 s")
    assert seen(tried) == ["now"]
    with pytest.raises(UsageError, match="not committed within"):
        trial.commit()
    assert acts(case) == ["begun", "applied", "undone"]
    assert noted(case)[-1] == ("watchman", "undone", "it was not committed within 20 s")
    assert_clean(case, tried)


def test_probes_that_fail_take_it_back_and_those_that_do_not_leave_it(case: Case, tried: DemoGuest) -> None:
    well = CommandProbe("[ -e /root/planted ]")
    trial = case.trial("then", CHANGE, commit_within=90, confirm=tried.name, probe=well, every=0.3, failures=2)
    while trial.status.probed < 2:
        time.sleep(0.1)
    assert trial.status.state == "open"
    tried.reconnect()
    tried.run("rm /root/planted")
    status = trial.wait(120)
    assert (status.state, status.why) == ("undone", "2 probes failed in a row: the command ends with 1")
    told = [line for line in noted(case) if line[0] == "watchman"]
    assert told == [("watchman", "probe failed", "the command ends with 1")] * 2 + [("watchman", "undone", status.why)]
    assert seen(tried) == ["now"]
    assert_clean(case, tried)


def test_a_change_that_fails_takes_it_back_before_anybody_is_told(case: Case, tried: DemoGuest) -> None:
    with pytest.raises(RewindError, match="broken on purpose") as caught:
        case.trial("then", f"{CHANGE}; echo broken on purpose >&2; exit 3", commit_within=90, confirm=tried.name)
    assert caught.value.guest_is == "as before"
    assert seen(tried) == ["now"]
    assert acts(case) == ["begun", "undone"]
    assert_clean(case, tried)


def test_leaving_it_undoes_it(case: Case, tried: DemoGuest) -> None:
    with case.trial("then", lambda inside: inside.put("/root/planted", b"x"), commit_within=90, confirm=tried.name):
        assert seen(tried) == ["then", "x"]
        with pytest.raises(UsageError, match="is open already"):
            case.trial("then", commit_within=90, confirm=tried.name)
    assert seen(tried) == ["now"]


TRYING = """
import sys, time
from workbench.case import Case
path, guest, change = sys.argv[1:]
with Case(path) as case:
    trial = case.trial("then", change, commit_within=600, confirm=guest)
    print(trial.id, flush=True)
    time.sleep(600)
"""
KILLS = {"while it is open": CHANGE, "while the change is applied": f"{CHANGE}; touch /root/busy; sleep 300"}


@pytest.mark.parametrize("place", KILLS)
def test_it_goes_back_when_its_process_is_killed(case: Case, tried: DemoGuest, place: str) -> None:
    before = len(case.trials())
    words = [sys.executable, "-c", TRYING, str(case.path), tried.name, KILLS[place]]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if place == "while it is open":
            assert process.stdout.readline()
        else:
            while len(case.trials()) == before or case.trials()[-1].status.state != "applying":
                time.sleep(0.1)
            tried.reconnect()
            assert tried.run("until [ -e /root/busy ]; do usleep 100000; done", 60).rc == 0
        os.kill(process.pid, signal.SIGKILL)
    trial = case.trials()[-1]
    assert len(case.trials()) == before + 1
    status = trial.wait(120)
    assert (status.state, status.why) == ("undone", "the process that tried it ended")
    assert seen(tried) == ["now"]
    assert_clean(case, tried)


@pytest.mark.parametrize("place", ["CaptureSession.keep", "note_rewind"])
def test_it_goes_back_when_its_process_is_killed_in_the_rewind(case: Case, tried: DemoGuest, place: str) -> None:
    module = "workbench.capture.session" if place.startswith("Capture") else "workbench.rewind.in_place"
    fatal = f"""
import importlib, os, signal
owner = importlib.import_module({module!r})
*path, last = {place!r}.split(".")
for part in path:
    owner = getattr(owner, part)
real, left = getattr(owner, last), [{2 if path_is_method(place) else 1}]
def die(*words, **named):
    result = real(*words, **named)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, last, die)
"""
    words = [sys.executable, "-c", fatal + TRYING, str(case.path), tried.name, CHANGE]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    trial = case.trials()[-1]
    assert trial.wait(120).state == "undone"
    assert seen(tried) == ["now"]
    assert_clean(case, tried)


def path_is_method(place: str) -> bool:
    """A session keeps a capture while the guest runs, too, before the one of the pause."""
    return "." in place


def test_a_watchman_that_was_killed_is_told_and_undo_does_without(case: Case, tried: DemoGuest) -> None:
    trial = case.trial("then", CHANGE, commit_within=90, confirm=tried.name)
    os.kill(trial.status.watchman, signal.SIGKILL)
    while trial.watched:
        time.sleep(0.05)
    assert trial.undo("by hand").why == "by hand"
    assert seen(tried) == ["now"]
    assert_clean(case, tried)


def test_what_cannot_be_meant_is_refused_before_anything_is_done(case: Case, tried: DemoGuest) -> None:
    before = len(case.trials())
    with pytest.raises(ConfirmationError):
        case.trial("then", commit_within=60, confirm="another")
    for words in ({"commit_within": 0}, {"commit_within": 60, "variant": 7}, {"commit_within": 60, "failures": 0}):
        with pytest.raises(UsageError):
            case.trial("then", confirm=tried.name, **words)  # type: ignore[arg-type]
    assert len(case.trials()) == before
    assert seen(tried) == ["now"]
