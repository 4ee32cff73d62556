"""Rules and detectors on each increment of a real guest: where a thing first is, that capture is marked."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from conftest import keeper, serving
from waiting import until

from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.errors import UsageError
from workbench.memory.detect.all import DETECTORS
from workbench.model import Mark
from workbench.server.metrics import exposition
from workbench.service.configuration import GuestConfiguration, IncrementSettings
from workbench.service.examination import Examination
from workbench.service.hub import Service
from workbench.service.identity import Caller, Role
from workbench.service.increments import Increments, IncrementState
from workbench.service.rules import check

ADMIN = Caller("root", Role.ADMIN)
WORD = "Quetzalcoatlus-7719"
RULES = f'rule planted {{ strings: $a = "{WORD}" condition: $a }}'
RECORDED = Path(__file__).parents[2] / "datasets" / "intrusion" / "case"


@pytest.fixture(scope="module")
def kept(demo_image: DemoImage) -> Iterator[DemoGuest]:
    with DemoGuest.boot(DemoSpec(f"increments-{os.getpid()}", memory_mib=256), image=demo_image) as guest:
        yield guest


@pytest.fixture(scope="module")
def service(kept: DemoGuest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    place = tmp_path_factory.mktemp("increments")
    (place / "rules").mkdir()
    (place / "rules" / "bad.yar").write_text("rule fine { condition: false }\nrule bad { condition: $nothing }\n")
    with serving(place, wanted(kept, detectors=["deleted_binaries"]), place / "rules") as made:
        until(lambda: state(made).examined)
        yield made


def wanted(guest: DemoGuest, **increments: Any) -> GuestConfiguration:
    told = {
        "guest": guest.name,
        "interval_s": 86_400,  # none falls due by itself: ticks lie on the host's clock, on the hour where it is one
        "modes": ["continuous", "manual"],
        "triggers": {
            "channel": False, "events": False, "console": {}, "look_back_s": 3600,
            "gate": {"debounce_s": 0, "cool_down_s": 0},
            "increments": {"rules": RULES, **increments},
        },
    }  # fmt: skip
    return GuestConfiguration.model_validate(told)


def hurry(pid: int | None) -> None:
    """Let an examiner work beside others: it works only where nobody else wants to, and here many do."""
    for task in Path(f"/proc/{pid}/task").glob("*") if pid else ():
        with contextlib.suppress(OSError):
            os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, int(task.name), 0)


def state(service: Service) -> IncrementState:
    """How its examiner is, which is hurried."""
    hurry(keeper(service).examiner_pid)
    return keeper(service).status().increments


def state_of(looked: Increments) -> IncrementState:
    hurry(looked.pid)
    return looked.state()


def capture(service: Service) -> str:
    return str(keeper(service).ask(do="capture", mode="manual", reason="a step").result(60)["capture"])


def examined(service: Service) -> str:
    """Take a capture and wait until it was looked at."""
    taken = capture(service)
    until(lambda: state(service).last_capture == taken)
    return taken


def marks(service: Service, beginning: str) -> list[Mark]:
    with service.case() as case:
        return [each for each in case.marks() if each.name.startswith(beginning)]


def test_what_is_planted_marks_the_capture_where_it_first_is(service: Service, kept: DemoGuest) -> None:
    before = examined(service)
    kept.run(f"x={WORD}; echo $x > /dev/shm/note")
    first = examined(service)
    mark = next(each for each in marks(service, "yara-planted-") if each.kind == "yara")
    assert mark.capture == first
    assert mark.note.startswith("YARA rule planted at 0x")
    assert before in [each.capture for each in marks(service, "yara-planted-") if each.kind == "look-back"]
    lines = [each for each in service.audit.lines() if each["facts"].get("name") == "yara-planted"]
    assert [(each["who"], each["result"], each["facts"]["capture"]) for each in lines] == [
        ("trigger:increment", "asked", first), ("trigger:increment", "done", first),
    ]  # fmt: skip
    assert state(service).last_hit_capture == first


def test_a_program_that_was_deleted_is_found_where_it_first_runs_so(service: Service, kept: DemoGuest) -> None:
    kept.run(
        "mkdir /tmp/gone; cp /bin/busybox /tmp/gone/busybox; "
        "setsid /tmp/gone/busybox sleep 600 </dev/null >/dev/null 2>&1 & "
        "until ls -l /proc/[0-9]*/exe 2>/dev/null | grep -q gone/busybox; do sleep 0.1; done; rm /tmp/gone/busybox"
    )
    first = examined(service)
    examined(service)
    found = [each for each in marks(service, "detect-deleted_binary-") if each.kind == "alert"]
    assert [each.capture for each in found] == [first]
    assert "/tmp/gone/busybox" in found[0].note


def test_an_examiner_has_the_lowest_priority_there_is(service: Service, kept: DemoGuest) -> None:
    examined(service)
    before = keeper(service).examiner_pid
    service.configure(ADMIN, wanted(kept, limit_s=61))
    capture(service)

    def stepped_back() -> int | None:
        pid = keeper(service).examiner_pid
        return pid if pid not in (None, before) and os.sched_getscheduler(pid) == os.SCHED_IDLE else None

    pid = until(stepped_back)
    assert pid is not None
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
    assert "Max address space         6442450944" in Path(f"/proc/{pid}/limits").read_text()


def test_captures_go_on_while_the_examiner_stands_still_and_what_it_leaves_out_is_told(
    service: Service, kept: DemoGuest
) -> None:
    examined(service)
    recorder, pid = keeper(service).pid, keeper(service).examiner_pid
    assert pid is not None
    skipped = state(service).skipped
    os.kill(pid, signal.SIGSTOP)
    try:
        taken = [capture(service) for _ in range(3)]
        kept.run(f"x={WORD}; echo $x$x > /dev/shm/second")
        taken += [capture(service) for _ in range(5)]
        assert len(set(taken)) == 8
        told = until(lambda: state(service) if state(service).skipped - skipped + state(service).backlog == 8 else None)
        assert told.skipped > skipped
        assert told.backlog <= wanted(kept).triggers.increments.backlog + 1
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: state(service).last_capture == taken[-1])
    assert keeper(service).pid == recorder
    assert any(each.capture in taken[3:] for each in marks(service, "yara-planted-") if each.kind == "yara")
    text = exposition([keeper(service).status()], None).decode()
    assert f'workbench_increments_skipped_total{{guest="{kept.name}"}} {float(state(service).skipped)}' in text


def test_an_examiner_that_is_killed_is_started_again_and_misses_nothing(service: Service, kept: DemoGuest) -> None:
    examined(service)
    pid, restarts = keeper(service).examiner_pid, state(service).restarts
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    kept.run(f"x={WORD}; echo $x$x$x > /dev/shm/third")
    taken = capture(service)
    os.kill(pid, signal.SIGKILL)
    told = until(lambda: state(service) if state(service).restarts > restarts else None)
    assert (told.state, told.why) == ("trouble", "the examiner was ended by signal 9")
    assert capture(service)  # the guest goes on being captured
    until(lambda: state(service) and any(each.capture == taken for each in marks(service, "yara-planted-")))
    assert until(lambda: state(service).state == "idle")
    assert keeper(service).examiner_pid != pid


def test_an_examiner_that_hangs_is_ended_and_said(service: Service, kept: DemoGuest) -> None:
    recorder = keeper(service).pid
    service.configure(ADMIN, wanted(kept, patience_s=15))
    examined(service)
    pid, restarts = keeper(service).examiner_pid, state(service).restarts
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    capture(service)
    told = until(lambda: state(service) if state(service).restarts > restarts else None)
    assert told.why == "the examiner did not answer within 15 s"
    assert not Path(f"/proc/{pid}").exists()
    assert keeper(service).pid == recorder  # another thing to look for is nothing to the recorder


def test_rules_that_do_not_compile_are_refused_with_their_line(service: Service, kept: DemoGuest) -> None:
    version = service.book.version
    with pytest.raises(UsageError, match="do not compile") as refused:
        service.configure(ADMIN, wanted(kept, rules=RULES + "\nrule bad { condition: $nothing }"))
    assert (str(refused.value.facts["source"]), str(refused.value.facts["line"])) == ("default", "2")
    with pytest.raises(UsageError, match="do not compile") as refused:
        service.configure(ADMIN, wanted(kept, rule_files=["bad.yar"]))
    assert (str(refused.value.facts["source"]), str(refused.value.facts["line"])) == ("bad.yar", "2")
    with pytest.raises(UsageError, match="no such file"):
        service.configure(ADMIN, wanted(kept, rule_files=["none.yar"]))
    assert service.book.version == version


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", ".hidden", "a/b.yar", ""])
def test_a_file_of_rules_is_named_and_no_path(name: str) -> None:
    with pytest.raises(ValueError, match="rule_files"):
        IncrementSettings(rule_files=(name,))
    with pytest.raises(UsageError, match="no directory of rules"):
        check(IncrementSettings(rule_files=("a.yar",)), None)


def test_every_detector_can_be_named_and_no_other() -> None:
    assert IncrementSettings(detectors=tuple(DETECTORS)).wanted  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="detectors"):
        IncrementSettings.model_validate({"detectors": ["everything"]})


def test_rules_that_became_bad_are_said_and_cost_no_capture(tmp_path: Path) -> None:
    (tmp_path / "a.yar").write_text("rule bad { condition: $nothing }")
    looked = looking(IncrementSettings(rule_files=("a.yar",)), tmp_path, lambda _event, _capture: None)
    looked.take(newest())
    told = until(lambda: looked.state() if state_of(looked).restarts else None)
    assert told.state == "trouble"
    assert told.why.startswith("rules do not compile")
    assert (told.failed, told.backlog) == (0, 1)
    (tmp_path / "a.yar").write_text("rule good { condition: true }")
    until(lambda: state_of(looked).examined)
    looked.end()


def test_an_increment_that_takes_too_long_is_left_out_after_a_second_try(tmp_path: Path) -> None:
    slow = "rule slow { condition: for all i in (1..100000000000): (i > 0) }"
    looked = looking(IncrementSettings(rules=slow, whole_first=True, limit_s=1), tmp_path, lambda _e, _c: None)
    looked.take(newest())
    told = until(lambda: looked.state() if state_of(looked).failed else None)
    assert told.why == "an increment took more than 1 s of processor time"
    assert (told.restarts, told.backlog) == (2, 0)
    looked.end()


def test_a_detector_tells_what_is_new_since_the_capture_before(recorded: Path) -> None:
    examination = Examination(recorded, None, ["deleted_binaries"], whole_first=False)
    found: list[list[str]] = []
    previous = None
    store = examination._store
    refs = store.captures(store.guests()[0].id)
    for ref in refs[-10:]:
        done = examination.examine(ref.id, previous)
        assert not done.unseen
        found.append([each.name for each in done.events])
        previous = ref.id
    assert found.count(["detect-deleted_binary"]) == 1
    assert found.count([]) == 9
    # Another examiner, which saw nothing before, tells of it at the very same capture.
    hit = found.index(["detect-deleted_binary"])
    again = Examination(recorded, None, ["deleted_binaries"], whole_first=False)
    assert [each.name for each in again.examine(refs[-10 + hit].id, None).events] == ["detect-deleted_binary"]
    assert not again.examine(refs[-10 + hit + 1].id, None).events


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A recorded intrusion, where nothing of an analysis is kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield RECORDED


def newest() -> str:
    store = Examination(RECORDED, None, (), whole_first=False)._store
    return str(store.captures(store.guests()[0].id)[-1].id)


def looking(wanted: IncrementSettings, rules: Path, found: Callable[[Any, str], None]) -> Increments:
    return Increments("a recorded guest", wanted, case=RECORDED, rules=rules, found=found)
