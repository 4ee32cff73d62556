"""A service's case from afar: the same answers as from its directory, acts by the service, and no token anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import workbench
from workbench.case import Case, Identity, Machine, Quiesce, Rewound
from workbench.errors import (
    ConfirmationError,
    GuestNotFoundError,
    OutcomeUnknownError,
    RewindError,
    StoreError,
    UnsupportedError,
    UsageError,
    WorkbenchError,
)
from workbench.model import CaptureMode
from workbench.progress import ProgressEvent
from workbench.remote import open_case
from workbench.remote.case import RemoteCase
from workbench.remote.recording import RemoteRecording
from workbench.store.link import Reply


@pytest.fixture
def pair(recorded: Path, offer: Callable[..., Any]) -> Iterator[tuple[RemoteCase, Case, Any]]:
    """A case from afar, the same from its directory, and the service."""
    offered = offer(recorded)
    with workbench.connect(offered.address) as remote, Case(recorded) as local:
        yield remote, local, offered


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    assert len(one)
    pd.testing.assert_frame_equal(one, other)


# Reading.


def test_the_timeline_and_its_moments_are_the_same(pair) -> None:
    remote, local, _ = pair
    same(remote.timeline(), local.timeline())
    assert [each.record for each in remote.moments()] == [each.record for each in local.moments()]
    assert (remote.guests(), remote.marks()) == (local.guests(), local.marks())
    for when in ("latest", "2 captures ago", local.moment().id[:12], local.marks()[0].name):
        assert remote.moment(when).id == local.moment(when).id
    link = local.moment("latest").link
    assert remote.moment(link).link == link
    assert remote.check() == []


def test_bytes_and_differences_are_the_same(pair) -> None:
    remote, local, _ = pair
    ends = "8 captures ago", "latest"
    same(remote.diff(*ends).summary(), local.diff(*ends).summary())
    for region in ("pc.ram", "disk:vda"):
        same(remote.diff(*ends).blocks(region), local.diff(*ends).blocks(region))
        size = local.moment("latest")._spec(region)
        for offset in (0, size // 3, size - 5000):
            assert remote.moment().read(region, offset, 5000) == local.moment().read(region, offset, 5000)


def test_questions_to_memory_and_disks_have_the_same_answers(pair, cached: Path) -> None:
    """Workers open the case by its address; what is kept of their answers lies with the user, not with the service."""
    remote, local, _ = pair
    for ask in (
        lambda case: case.moment().processes(),
        lambda case: case.moment().vol("linux.lsmod.Lsmod"),
        lambda case: case.diff("8 captures ago", "latest").processes(),
        lambda case: case.moment().ls("/etc"),
        lambda case: case.diff("8 captures ago", "latest").files(),
    ):
        same(ask(remote), ask(local))
    with remote.moment().open("/etc/hostname") as afar, local.moment().open("/etc/hostname") as here:
        assert afar.read() == here.read() != b""
    assert remote.path.is_relative_to(cached)
    assert list((remote.path / "cache" / "answers").rglob("*.parquet"))


def test_it_says_where_it_is(pair) -> None:
    remote, local, offered = pair
    assert offered.address in repr(remote)
    assert (remote.location, local.location) == (offered.address, str(offered.case))
    with open_case(offered.address) as opened:
        assert opened.store.id == local.store.id
    with open_case(offered.case) as opened:
        assert not isinstance(opened, RemoteCase)


def test_a_service_that_is_begun_again_is_read_on(pair) -> None:
    remote, local, offered = pair
    remote.timeline()
    offered.end()
    offered.begin()
    assert remote.moment().read("pc.ram", 1 << 20, 4096) == local.moment().read("pc.ram", 1 << 20, 4096)


# Who asks.


def test_a_token_reaches_the_workers_and_nothing_else(recorded, offer, cached, tmp_path) -> None:
    offered = offer(recorded)
    token = offered.token("viewer", "demo")
    with workbench.connect(offered.address, token=token) as case:
        assert len(case.moment().processes())
        pid = case.analyst.worker.pid
        proc = Path("/proc") / str(pid)
        assert token.encode() not in (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
        question = case.analyst._question("x", "y", {})
        assert token not in f"{case!r} {question!r} {json.dumps(question.message())} {vars(case)!r}"
        offered.service.tokens.remove("viewer-0")
        with pytest.raises(UsageError, match="does not know who asks") as caught:  # the worker's own: it had sent it
            case.moment("8 captures ago").vol("linux.lsmod.Lsmod")
        assert token not in str(caught.value)
    kept = [path for place in (cached, offered.service.settings.state, recorded) for path in place.rglob("*")]
    assert kept
    assert not [path for path in kept if path.is_file() and token.encode() in path.read_bytes()]


def test_the_guests_of_others_are_not_there(recorded, offer) -> None:
    offered = offer(recorded)
    with workbench.connect(offered.address, token=offered.token("viewer", "db1")) as case:
        assert case.guests() == []
        with Case(recorded) as local, pytest.raises(UsageError, match="no such capture"):
            case.store.record(local.moment().id)


def test_a_wrong_token_is_told_at_once(offer) -> None:
    offered = offer()
    with pytest.raises(UsageError, match="does not know who asks") as caught:
        workbench.connect(offered.address, token="wb_wrong")
    assert "wb_wrong" not in str(caught.value)
    assert "WORKBENCH_TOKEN" in caught.value.cure


def test_a_viewer_may_look_and_not_act(recorded, offer) -> None:
    offered = offer(recorded)
    with workbench.connect(offered.address, token=offered.token("viewer")) as case:
        case.timeline()
        for act in (
            lambda: case.mark("x"),
            lambda: case.captured("demo", "x", None),
            lambda: case.moment().clone(),
            lambda: case.configure("demo", interval_s=2),
        ):
            with pytest.raises(UsageError, match="takes the role"):
                act()


def test_over_tls_with_a_certificate_of_ones_own(recorded, offer, cached, tmp_path, monkeypatch) -> None:
    """Also the workers are told which certificate to trust."""
    made = tmp_path / "service.crt", tmp_path / "service.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=service", "-addext", "subjectAltName=IP:127.0.0.1",
         "-out", str(made[0]), "-keyout", str(made[1])],
        check=True, capture_output=True,
    )  # fmt: skip
    offered = offer(recorded)
    address, token = offered.over_tls(*made), offered.token("viewer")
    with pytest.raises(StoreError, match="not to be trusted"):
        workbench.connect(address, token=token)
    with pytest.raises(UsageError, match="does not know who asks"):  # over TCP there is no user
        workbench.connect(address, ca=made[0])
    with workbench.connect(address, token=token, ca=made[0]) as case, Case(recorded) as local:
        same(case.moment().vol("linux.lsmod.Lsmod"), local.moment().vol("linux.lsmod.Lsmod"))
        same(case.moment().ls("/etc"), local.moment().ls("/etc"))


@pytest.mark.parametrize(
    "answer", [b"{}", b'{"guests": 1, "clones": [1], "plan": {}, "marks": 1, "mark": 1}', b"[]", b"x"]
)
def test_answers_that_make_no_sense_are_the_services_error(pair, monkeypatch, answer: bytes) -> None:
    remote, _, _ = pair
    moment = remote.moment()
    once = remote._link._once

    def odd(method: str, path: str, *asked: Any) -> Reply:
        return once(method, path, *asked) if path.startswith("/content") else Reply(200, {}, answer)

    monkeypatch.setattr(remote._link, "_once", odd)
    for act in (
        remote.status,
        remote.clones,
        lambda: remote.mark("x", moment),
        lambda: remote.release(moment),
        lambda: remote.plan_rewind(moment),
        lambda: remote.configure("demo"),
        moment.clone,
        lambda: RemoteRecording(remote, "demo").capture("x"),
    ):
        with pytest.raises(StoreError):
            act()


# Acts.


def test_marks_and_holds_are_the_services(pair) -> None:
    remote, local, offered = pair
    made = remote.mark("found", "2 captures ago", note="a note")
    held = remote.hold("latest", "evidence")
    assert made in local.marks()
    assert held in local.marks()
    assert (held.kind, held.capture) == ("hold", local.moment().id)
    assert remote.release("latest") == [held]
    assert held not in local.marks()
    with pytest.raises(UsageError, match="not held"):
        remote.release("latest")
    noted = [(each["what"], each["result"]) for each in offered.service.audit.lines()]
    assert noted.count(("mark", "done")) == 2
    assert offered.case == local.path


def test_what_a_retention_does_not_keep_is_dropped_by_the_service(pair) -> None:
    remote, local, _ = pair
    plan, here = remote.plan_prune("1h for 3h"), local.plan_prune("1h for 3h")
    assert plan.drop == here.drop != ()
    assert str(plan) == str(here)
    assert plan._word not in repr(plan)
    done = plan.execute()
    assert (done.dropped, done.freed > 0) == (len(plan.drop), True)
    assert set(remote.timeline()["id"]) == {each.id for each in local.moments()}
    assert len(remote.timeline()) == plan.kept
    assert remote.check() == []
    with pytest.raises(ConfirmationError):
        plan.execute()


def test_a_plan_is_the_services_own(pair) -> None:
    remote, local, _ = pair
    for mode in ("test", "production"):
        assert remote.plan_rewind("2 captures ago", mode) == local.plan_rewind("2 captures ago", mode)
    for case in (remote, local):
        with pytest.raises(UsageError, match="no rewind to undo"):
            case.plan_undo()


def test_a_configuration_is_changed_in_parts_and_status_is_a_table(pair) -> None:
    remote, _, _ = pair
    assert remote.status().empty
    with pytest.raises(GuestNotFoundError):
        remote.record("demo")
    remote.configure("demo", interval_s=3.0)
    now = remote.configure("demo", modes=["manual"])
    assert (now["interval_s"], now["modes"]) == (3.0, ["manual"])
    row = remote.status().iloc[0]
    assert (row["guest"], row["interval_asked_s"]) == ("demo", 3.0)
    with pytest.raises(UsageError, match="interval_s"):
        remote.configure("demo", interval_s=0)
    assert remote.configuration()["guests"][0]["interval_s"] == 3.0
    with remote.record("demo") as recording:
        assert recording.status["guest"] == "demo"
        assert recording.guest == remote.guest("demo")
        with pytest.raises(UnsupportedError, match="by itself"):
            recording.watch(1.0, print)
        with pytest.raises(WorkbenchError):  # no guest runs here: the service says so
            recording.capture("now")
    with pytest.raises(UnsupportedError, match="audit"):
        remote.record("demo", audit=True)


def test_a_recordings_captures_are_moments(pair, monkeypatch) -> None:
    remote, local, offered = pair
    remote.configure("demo")
    newest, asked = local.moment(), []
    taken = {"capture": newest.id, "time_ns": newest.record.time_ns}

    def capture(_caller: object, *words: object, quiesce: bool) -> dict[str, Any]:
        asked.append((*words, quiesce))
        return {**taken, "consistency": "crash", "consistency_why": ""}

    def event(_caller: object, guest: str, body: dict[str, Any]) -> dict[str, Any]:
        asked.append((guest, body["name"], body["reason"]))
        return {"taken": len(asked) < 4, "why": "debounce", **(taken if len(asked) < 4 else {})}

    monkeypatch.setattr(offered.service, "capture", capture)
    monkeypatch.setattr(offered.service, "event", event)
    recording = remote.record("demo")
    assert recording.capture("why", mark="m").record == newest.record
    assert recording.capture("quiet", quiesce=Quiesce()).record == newest.record
    assert recording.request("why", mark="e")["capture"] == newest.id
    with pytest.raises(UsageError, match="held back"):
        recording.capture("why", mode=CaptureMode.EVENT)
    by_hand = [("demo", "why", "m", False), ("demo", "quiet", None, True)]
    assert asked == [*by_hand, ("demo", "e", "why"), ("demo", "request", "why")]


def test_a_rewind_is_followed_to_its_end(pair, monkeypatch) -> None:
    remote, local, offered = pair
    plan = remote.plan_rewind("2 captures ago", "production")
    done = {"how": "in place", "target": plan.target.id, "safety": plan.present.id, "downtime_ns": 12_000_000}

    def rewind(guest: str, capture: str, confirm: str, progress: Callable[[ProgressEvent], None]) -> dict[str, Any]:
        assert (guest, capture, confirm) == (local.guest().id, plan.target.id, "demo")
        progress(ProgressEvent("rewinding", 1, 3, "steps"))
        return done

    monkeypatch.setattr(offered.service, "_rewind", rewind)
    seen: list[ProgressEvent] = []
    with pytest.raises(ConfirmationError):
        remote.rewind(plan, confirm="else")
    ended = remote.rewind(plan, confirm="demo", progress=seen.append)
    assert isinstance(ended, Rewound)
    assert (ended.target, ended.safety, ended.how) == (plan.target, plan.present, "in place")
    assert ended.downtime_ns == 12_000_000
    assert ProgressEvent("rewinding", 1, 3, "steps") in seen


def test_what_a_rewind_ends_with_is_the_same_error(pair, monkeypatch) -> None:
    remote, _, offered = pair
    plan = remote.plan_rewind("2 captures ago", "production")

    def rewind(*_asked: object) -> dict[str, Any]:
        raise RewindError("it refused", guest_is="as before", cure="Look.", device="x")

    monkeypatch.setattr(offered.service, "_rewind", rewind)
    with pytest.raises(RewindError) as caught:
        remote.rewind(plan, confirm="demo")
    assert (caught.value.guest_is, caught.value.cure) == ("as before", "Look.")
    assert caught.value.message == "it refused (the guest is as before)"
    assert caught.value.facts == {"device": "x"}

    def broken(*_asked: object) -> dict[str, Any]:
        raise RuntimeError("secret words of ours")

    monkeypatch.setattr(offered.service, "_rewind", broken)
    with pytest.raises(StoreError, match="of the service's own"):
        remote.rewind(plan, confirm="demo")


def test_clones_are_started_listed_and_ended_by_the_service(pair, monkeypatch) -> None:
    remote, _, offered = pair
    moment, running = remote.moment("2 captures ago"), {}

    asked = []

    def clone(_guest: str, capture: str, options: dict[str, Any], _progress: object) -> dict[str, Any]:
        asked.append(options)
        told = {"name": "demo-x", "uuid": "u-1", "capture": capture, "started_ns": 7, "seconds": 0.5}
        running["u-1"] = told | {"network": "shared", "segment": "lab", "identity": {"hostname": "copy"}}
        return {"clone": "demo-x", "uuid": "u-1", "seconds": 0.5}

    monkeypatch.setattr(offered.service, "_clone", clone)
    with pytest.raises(UnsupportedError, match="started with a kernel that is not on this host"):
        moment.clone()
    monkeypatch.setattr("workbench.rewind.clone_plan._is_there", lambda _file: True)
    monkeypatch.setattr(offered.service, "clones", lambda _caller: list(running.values()))
    monkeypatch.setattr(offered.service, "remove_clone", lambda _caller, name: running.pop(name))
    with moment.clone() as made:
        assert (made.name, made.record.capture, made.record.seconds) == ("demo-x", moment.id, 0.5)
        assert (made.record.network, made.record.segment, made.record.clock) == ("shared", "lab", "kept")
        assert made.record.identity == {"hostname": "copy"}
        assert [each.name for each in remote.clones()] == ["demo-x"]
        for refused in (lambda: made.directory, lambda: made.socket("x"), lambda: made.guest, made.screenshot):
            with pytest.raises(UnsupportedError):
                refused()
    assert remote.clones() == []
    with pytest.raises(GuestNotFoundError):
        remote.remove_clone("demo-x")
    wanted = Identity("copy", machine_id=True)
    moment.clone(network="shared", segment="lab", identity=wanted, clock="now").destroy()
    assert asked[0] == {"network": "none", "segment": None, "identity": None, "clock": "kept"}
    assert asked[1] == {"network": "shared", "segment": "lab", "identity": wanted, "clock": "now"}
    with_login = Identity(True, login=("root", "secret"))
    for unknown in ({"name": "mine"}, {"run": False}, {"identity": with_login}):
        with pytest.raises(UnsupportedError):
            moment.clone(**unknown)
    for wrong in ({"network": "bridge"}, {"segment": "lab"}, {"network": "shared", "segment": "../x"}):
        with pytest.raises(UsageError):
            moment.clone(**wrong)
    assert len(asked) == 2
    for each in (lambda: remote.segment("lab"), remote.segments):
        with pytest.raises(UnsupportedError):
            each()
    tested = remote.rewind(remote.plan_rewind(moment, "test"))
    assert tested.record.uuid == "u-1"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library leaves a socket to gc
def test_a_job_that_is_not_heard_of_any_more_is_unknown(pair, monkeypatch) -> None:
    remote, _, offered = pair
    plan = remote.plan_rewind("2 captures ago", "production")

    def rewind(*_asked: object) -> dict[str, Any]:
        offered.end()
        return {}

    monkeypatch.setattr(offered.service, "_rewind", rewind)
    monkeypatch.setattr("workbench.remote.jobs._PATIENCE_S", 0.5)
    monkeypatch.setattr("workbench.remote.jobs._PAUSE_S", 0.1)
    with pytest.raises(OutcomeUnknownError):
        remote.rewind(plan, confirm="demo")


def test_what_cannot_be_done_from_afar_says_what_does_instead(pair) -> None:
    remote, _, _ = pair
    for act in (
        lambda: remote.hypervisor,
        lambda: remote.plan_prune("all for 1h", now_ns=1),
        lambda: remote.experiment("latest", {}),
        remote.experiments,
        lambda: remote.open_experiment("x"),
        lambda: remote.audit_log,
        lambda: remote.send("x"),
        lambda: remote.replay("2 captures ago", "latest"),
        lambda: remote.record_exactly(Machine(), kernel="x"),
        lambda: remote.boot_exactly(Machine(), until="x", kernel="x"),
        remote.exact_recording,
        remote.exact_recordings,
        lambda: remote.report("x.html", "latest"),
        lambda: remote.verify_report("x.html"),
        lambda: remote.store.writer(remote.guest().id),
    ):
        with pytest.raises(UnsupportedError) as caught:
            act()
        assert caught.value.cure


# The command line.


def command(offered: Any, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workbench.cli", *words],
        env={**os.environ, "WORKBENCH_CASE": offered.address, **environment},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_the_command_line_takes_an_address_for_a_case(pair, tmp_path) -> None:
    _, local, offered = pair
    (tmp_path / "token").write_text(offered.token("viewer"))
    told = command(offered, "timeline", "--json", WORKBENCH_TOKEN_FILE=str(tmp_path / "token"))
    assert [each["id"] for each in json.loads(told.stdout)] == list(local.timeline()["id"])
    here, afar = (
        command(offered, "vol", "latest", "linux.lsmod.Lsmod", "--json", "--case", each)
        for each in (str(local.path), offered.address)
    )
    assert json.loads(afar.stdout)["rows"]
    assert json.loads(afar.stdout) | {"seconds": 0} == json.loads(here.stdout) | {"seconds": 0}
    planned = command(offered, "prune", "--keep", "1h for 3h", "--json")
    assert json.loads(planned.stdout)["drop"] == [each.id for each in local.plan_prune("1h for 3h").drop]
    refused = command(offered, "timeline", WORKBENCH_TOKEN="wb_wrong-one")
    assert refused.returncode == 2
    assert "WORKBENCH_TOKEN" in refused.stderr
    assert "wb_wrong-one" not in refused.stderr
    planned = command(offered, "rewind", "2 captures ago", "--mode", "production", "--plan", "--json")
    assert json.loads(planned.stdout)["target"] == local.moment("2 captures ago").id
