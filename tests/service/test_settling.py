"""What an audit log says was begun and not ended, and how long it is waited for."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from workbench.case import Case
from workbench.errors import GuestError, OutcomeUnknownError, RewindError
from workbench.guest.claim import Claim
from workbench.service.settling import Begun, settle, unfinished
from workbench.store.auditlog import AuditLog


def begun(what: str = "rewind", guest: str = "") -> Begun:
    return Begun(job="1", what=what, who="uid:0", guest=guest or str(uuid.uuid4()), target="ab" * 32, asked_ns=1)


def settled(case: Path, it: Begun, **words: Any) -> None:
    wanted = {"recorded": lambda: False, "runs": lambda: True, "stop": threading.Event(), **words}
    with Case.create(case) as made:
        settle(it, made.store, **wanted)


def test_what_was_asked_for_as_a_job_and_has_no_end_was_left_unfinished(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.add("uid:0", "rewind", "asked", guest="g", job="1", target="t")
    log.add("uid:0", "capture", "asked", guest="g")
    log.add("uid:0", "clone", "asked", guest="g", job="2")
    log.add("uid:0", "clone", "done", guest="g", job="2")
    log.add("uid:0", "prune", "asked", guest="g", job="3")
    log.add("uid:0", "prune", "failed", guest="g", job="3")
    (found,) = unfinished(log.lines())
    assert (found.job, found.what, found.who, found.guest, found.target) == ("1", "rewind", "uid:0", "g", "t")


def test_lines_that_make_no_sense_are_passed_over() -> None:
    lines: list[dict[str, Any]] = [
        {"unreadable": "x"},
        {"facts": 7, "result": "asked"},
        {"facts": {}, "result": "done"},
        {"facts": {"job": "1"}, "result": "asked", "time_ns": "soon"},
    ]
    assert [(each.job, each.asked_ns) for each in unfinished(lines)] == [("1", 0)]


@pytest.mark.parametrize("what", ["clone", "prune", "something"])
def test_what_the_case_does_not_tell_is_of_unknown_outcome(tmp_path: Path, what: str) -> None:
    with pytest.raises(OutcomeUnknownError) as told:
        settled(tmp_path / "case", begun(what))
    assert told.value.cure


def test_a_rewind_without_a_note_left_the_guest_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(RewindError) as told:
        settled(tmp_path / "case", begun())
    assert told.value.guest_is == "as before"


def test_a_guest_that_is_off_after_it_is_not_called_well(tmp_path: Path) -> None:
    with pytest.raises(RewindError) as told:
        settled(tmp_path / "case", begun(), runs=lambda: False)
    assert told.value.guest_is == "unknown"


def test_who_still_works_on_the_guest_is_waited_for(tmp_path: Path) -> None:
    """The claim is held at first, and libvirt does not answer when it is free."""
    it, looks = begun(), iter(range(100))
    claim = Claim(it.guest, "a guest")

    def recorded() -> bool:
        if next(looks) == 1:
            claim.close()
        return False

    def runs() -> bool:
        if next(looks) < 5:
            raise GuestError("libvirt does not answer")
        return True

    with pytest.raises(RewindError, match="as before"):
        settled(tmp_path / "case", it, recorded=recorded, runs=runs)
    assert next(looks) > 5


def test_a_service_that_ends_waits_for_nothing(tmp_path: Path) -> None:
    it, stop = begun(), threading.Event()
    stop.set()
    claim = Claim(it.guest, "a guest")
    try:
        with pytest.raises(OutcomeUnknownError):
            settled(tmp_path / "case", it, stop=stop)
    finally:
        claim.close()
