"""The service as its users have it: a process, a unix socket, a real guest that is recorded and taken back."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
import pytest
from waiting import until

import workbench
from workbench.case import Case, Rewound
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.guest.connection import DEFAULT_URI, Hypervisor


class Running:
    """A service in a process of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.socket = place / "api.sock"
        self.settings = place / "workbench.toml"
        self.settings.write_text(
            f'case = "{place}/case"\nconnect = "{DEFAULT_URI}"\nstate = "{place}/state"\n'
            f'[listen]\nsocket = "{self.socket}"\n[limits]\nrequests_per_minute = 100000\nfree_bytes = 0\n'
        )
        self.start()

    def start(self) -> None:
        with Hypervisor(DEFAULT_URI):  # the daemon and its runtime directory are there for the service too
            pass
        words = [sys.executable, "-m", "workbench.cli", "serve", "--settings", str(self.settings)]
        self.process = subprocess.Popen(words)
        self.client = httpx2.Client(
            transport=httpx2.HTTPTransport(uds=str(self.socket)), base_url="http://service", timeout=60
        )
        until(lambda: self.socket.exists() and self._answers())

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as end:
            if end.connect_ex(str(self.socket)):  # the socket of one that was killed lies there
                return False
        return self.client.get("/healthz").status_code == 200

    def status(self) -> dict[str, Any]:
        return dict(self.client.get("/capture-status").json()["guests"][0])

    def job(self, answer: httpx2.Response) -> dict[str, Any]:
        """Follow a job by its events to its end."""
        assert answer.status_code == 202, answer.text
        with self.client.stream("GET", f"{answer.headers['Location']}/events") as events:
            lines = [line.removeprefix("data: ") for line in events.iter_lines() if line.startswith("data: ")]
        seen = [json.loads(line) for line in lines]
        assert [each["state"] for each in seen][-1] in ("done", "failed")
        return dict(seen[-1])

    def end(self, number: int = signal.SIGTERM) -> int:
        self.client.close()
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def kept(demo_image: DemoImage) -> Iterator[DemoGuest]:
    with DemoGuest.boot(DemoSpec(f"served-{os.getpid()}", memory_mib=256), image=demo_image) as guest:
        yield guest


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, kept: DemoGuest) -> Iterator[Running]:
    place = Path(subprocess.check_output(["mktemp", "-d", "/tmp/rewind-serve-XXXXXX"], text=True).strip())
    place.chmod(0o711)
    made = Running(place)
    answer = made.client.post("/capture-config", json={"guest": kept.name, "interval_s": 1})
    assert answer.status_code == 200, answer.text
    until(lambda: made.status()["captures"] >= 2)
    yield made
    assert made.end() == 0
    subprocess.run(["rm", "-rf", str(place)], check=True)


def test_the_socket_is_for_all_and_its_user_is_known_by_the_kernel(running: Running) -> None:
    assert stat.S_ISSOCK(running.socket.stat().st_mode)
    running.client.post("/captures", json={"guest": "nobody", "reason": "x"})
    lines = running.client.get("/audit").json()["lines"]
    assert {each["who"] for each in lines} == {f"uid:{os.getuid()}"}


@pytest.mark.skipif(os.getuid() != 0, reason="another user's request takes root to make")
def test_another_user_of_the_machine_gets_nothing_unless_named(running: Running) -> None:
    words = (
        "import httpx2,sys; client = httpx2.Client(transport=httpx2.HTTPTransport(uds=sys.argv[1]), timeout=120);"
        "print(client.get('http://s/guests').status_code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", words, str(running.socket)], check=False, user=65534, capture_output=True, text=True
    )
    assert done.stdout.strip() == "401", done.stderr


def test_a_manual_capture_and_an_alert_are_in_the_timeline(running: Running, kept: DemoGuest) -> None:
    made = running.client.post("/captures", json={"guest": kept.name, "reason": "before", "mark": "before"}).json()
    told = running.client.get(f"/captures/{made['capture'][:16]}").json()
    assert (told["reason"], told["mode"], told["time_ns"]) == ("before", "manual", made["time_ns"])
    alert = {"rule": "Shell in web1", "priority": "Warning", "output": "a shell", "time": "2026-11-24T14:03:00Z"}
    taken = running.client.post("/events", json={"guest": kept.name, "event": alert}).json()
    again = running.client.post("/events", json={"guest": kept.name, "event": alert}).json()
    assert (taken["taken"], again["taken"]) == (True, False)
    assert again["why"] in ("debounce", "cool-down")  # the second, where the first alert's capture took long
    marks = running.client.get("/timeline", params={"guest": kept.name}).json()["marks"]
    assert {each["kind"] for each in marks if each["name"].startswith("falco-Shell")} == {"event", "look-back"}


def test_a_rewind_in_production_takes_its_confirmation_and_can_be_followed(running: Running, kept: DemoGuest) -> None:
    running.client.post("/captures", json={"guest": kept.name, "reason": "x", "mark": "here"})
    kept.run("echo later > /root/later && sync")
    body = {"guest": kept.name, "target": "here", "mode": "production"}
    plan = running.client.post("/rewind", json={**body, "dry_run": True}).json()
    assert plan["plan"]["guest"] == kept.name
    assert running.client.post("/rewind", json=body).status_code == 409
    assert kept.run("cat /root/later").rc == 0
    job = running.job(running.client.post("/rewind", json={**body, "confirm": kept.name}))
    assert (job["state"], job["result"]["how"]) == ("done", "in place")
    assert kept.run("ls /root/later").rc != 0
    noted = [each for each in running.client.get("/audit").json()["lines"] if each["what"] == "rewind"]
    assert [each["result"] for each in noted] == ["asked", "done"]


def test_a_clone_is_started_listed_and_removed(running: Running, kept: DemoGuest) -> None:
    job = running.job(running.client.post("/rewind", json={"guest": kept.name, "target": "latest"}))
    assert job["state"] == "done", job["error"]
    assert [each["name"] for each in running.client.get("/clones").json()["clones"]] == [job["result"]["clone"]]
    assert running.client.delete(f"/clones/{job['result']['clone']}").status_code == 204
    assert running.client.get("/clones").json() == {"clones": []}


@pytest.mark.parametrize(
    ("identity", "status", "said"),
    [
        ({"hostname": "-odd-"}, 400, "'-odd-'"),
        ({"machine_id": "none"}, 400, "'none'"),
        ({"mac": True}, 409, "no network card"),
    ],
)
def test_a_clone_that_cannot_be_is_refused_before_there_is_a_job(
    running: Running, kept: DemoGuest, identity: dict[str, object], status: int, said: str
) -> None:
    answer = running.client.post("/clones", json={"guest": kept.name, "target": "latest", "identity": identity})
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]


def test_a_notebook_far_away_captures_rewinds_and_clones(running: Running, kept: DemoGuest, cached: Path) -> None:
    """The client over the wire, on a guest that runs: what it returns is what a local case returns."""
    with workbench.connect(f"unix://{running.socket}") as case, case.record(kept.name) as recording:
        before = recording.capture("from afar", mark="afar")
        assert (before.record.reason, str(before.record.mode)) == ("from afar", "manual")
        kept.run("echo later > /root/afar && sync")
        plan = case.plan_rewind(before, "production")
        done = case.rewind(plan, confirm=kept.name)
        assert isinstance(done, Rewound)
        assert (done.how, done.target) == ("in place", before.record)
        assert kept.run("ls /root/afar").rc != 0
        undone = case.rewind(case.plan_undo(kept.name), confirm=kept.name)
        assert isinstance(undone, Rewound)
        assert undone.target == done.safety
        assert kept.run("cat /root/afar").rc == 0
        with before.clone() as clone:
            assert [each.name for each in case.clones()] == [clone.name]
        assert case.clones() == []
        with Case(running.place / "case") as local:
            assert case.moment("afar").record == local.moment("afar").record
            assert case.moment("afar").processes()["pid"].tolist() == local.moment("afar").processes()["pid"].tolist()


def test_a_service_that_is_killed_goes_on_where_it_was(running: Running) -> None:
    until(lambda: running.status()["captures"] >= 2)
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    running.start()
    until(lambda: running.status()["captures"] >= 2)
    assert running.status()["interval_asked_s"] == 1
    with Case(running.place / "case") as case:
        records = {ref.id: case.store.record(ref.id) for ref in case.store.captures(case.guest().id)}
        assert sum(each.parent is None for each in records.values()) == 1
        assert sum(str(each.mode) == "baseline" for each in records.values()) <= 1
        assert not case.check()


def test_two_services_of_one_state_are_refused(running: Running) -> None:
    words = [sys.executable, "-m", "workbench.cli", "serve", "--settings", str(running.settings)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert "runs already" in done.stderr
    assert running.client.get("/healthz").status_code == 200


def test_many_who_ask_for_status_do_not_make_pauses_longer(running: Running) -> None:
    """Fifty clients poll; the recorder is another process, so what they cost is not in its pauses."""

    def pauses(count: int) -> list[float]:
        before = running.status()["captures"]
        until(lambda: running.status()["captures"] >= before + count)
        with Case(running.place / "case") as case:
            refs = list(case.store.captures(case.guest().id))[-count:]
            return [case.store.record(ref.id).facts["pause_ns"] / 1e6 for ref in refs]

    running.client.post("/capture-config", json={"guest": running.status()["guest"], "interval_s": 0.5})
    quiet = pauses(8)
    ended = threading.Event()

    def poll() -> None:
        transport = httpx2.HTTPTransport(uds=str(running.socket))
        with httpx2.Client(transport=transport, base_url="http://service", timeout=120) as client:
            while not ended.wait(1.0):
                assert client.get("/capture-status").status_code == 200

    clients = [threading.Thread(target=poll) for _ in range(50)]
    for each in clients:
        each.start()
    try:
        polled = pauses(8)
    finally:
        ended.set()
        for each in clients:
            each.join()
    assert median(polled) < max(10 * median(quiet), 1_000)  # a pause that waited for clients would be seconds
