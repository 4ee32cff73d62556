"""Every path against whatever can be wrong with a request: 4xx, what is wrong, what to do, and nothing was done."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from workbench.case import Case
from workbench.server.app import create_app

RECORDED = Path(__file__).parents[2] / "datasets" / "intrusion" / "case"
with Case(RECORDED) as _case:
    NAME = _case.guest().name
NOBODY = "no-such-guest"
# A body for every path that takes one, right in all but that no guest runs.
BODIES: dict[str, dict[str, Any]] = {
    "/rewind": {"guest": NAME, "target": "latest", "mode": "test", "dry_run": True, "confirm": "", "options": {}},
    "/capture-config": {"guest": NAME, "enabled": False, "interval_s": 5, "modes": ["manual"], "triggers": {},
                        "retention": {}, "quiesce": {}},
    "/captures": {"guest": NAME, "reason": "x", "mark": "m", "quiesce": False},
    "/events": {"guest": NAME, "event": {"name": "x"}},
    "/marks": {"guest": NAME, "target": "latest", "name": "m", "kind": "note", "note": ""},
    "/marks/release": {"guest": NAME, "target": "latest"},
    "/clones": {"guest": NAME, "target": "latest", "network": "shared", "segment": "lab", "identity": "new",
                "clock": "now"},
    "/trials": {"guest": NAME, "target": "latest", "script": "", "files": {}, "commit_within": 60, "probe": "",
                "probe_command": "", "every": 5, "failures": 3, "timeout": 60, "dry_run": True, "confirm": ""},
    "/trials/{trial}/commit": {"confirm": NAME},
    "/trials/{trial}/undo": {"confirm": NAME, "why": "x"},
    "/prune": {"guest": NAME, "dry_run": True, "confirm": "", "retention": {}},
}  # fmt: skip
LOOKS = [
    f"/timeline?guest={NOBODY}", "/timeline", "/timeline?guest=", f"/timeline?guest={NAME}&limit=0",
    f"/timeline?guest={NAME}&limit=many", f"/timeline?guest={NAME}&since_ns=-1",
    f"/timeline?guest={NAME}&since_ns=99999999999999999999", f"/timeline?guest={'x' * 300}", "/captures/ffffffffffff",
    "/captures/latest", "/captures/..%2f..%2fcase.json", "/jobs/none", "/jobs/none/events", "/audit?limit=-1",
    "/trials/none", "/trials/..%2f..",
    "/audit?limit=99999999", "/content", "/content?prefix=..", "/content/none", "/content/..%2fstate%2ftokens.json",
    "/content?prefix=guests&limit=0", "/contents?prefix=none", "/contents", "/nothing", "/captures/", "/%00",
]  # fmt: skip
MOMENTS = ["never-marked", "2999-01-01", "id:ffffffffffff", "-0s ago", "9999999 captures ago", "wb://x/y", "\u202e\x00"]
MOST = 4_096


@pytest.fixture
def place(offer: Callable[..., Any], recorded: Path) -> Any:
    made = offer(recorded)
    made.service.settings = made.service.settings.model_copy(
        update={"limits": made.service.settings.limits.model_copy(update={"body_bytes": MOST})}
    )
    return made


@pytest.fixture
def asks(place: Any) -> Iterator[Callable[..., None]]:
    """Send a request; it is refused as a caller's error, in the one form, and nothing has changed."""
    token = place.token("admin")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with TestClient(create_app(place.service), raise_server_exceptions=False) as client:

        def ask(method: str, path: str, content: bytes | None = None, *, said: str = "", status: int = 0) -> None:
            before = everything(place)
            answer = client.request(method, path, content=content, headers=headers)
            told = f"{method} {path} {(content or b'')[:100]!r}: {answer.status_code} {answer.text[:500]}"
            assert 400 <= answer.status_code < 500, told
            assert status in (0, answer.status_code), told
            body = answer.json()
            assert set(body) == {"error"}, told
            assert set(body["error"]) == {"kind", "message", "cure", "facts"}, told
            assert body["error"]["message"], told
            assert body["error"]["cure"], told
            assert said in body["error"]["message"], told
            assert everything(place) == before, told

        yield ask


def everything(place: Any) -> dict[str, Any]:
    """What a request could change: files of the case and of the service's state, configuration, jobs."""
    roots = (place.case, place.service.settings.state)
    files = {str(path): path.stat().st_size for root in roots for path in root.rglob("*") if "cache" not in path.parts}
    return {"files": files, "configuration": place.service.book.current(), "jobs": list(place.service.jobs._jobs)}


def test_the_tables_have_every_path_that_can_be_asked_wrongly(place: Any) -> None:
    with TestClient(create_app(place.service)) as client:
        document = client.get("/openapi.json").json()
    posts = {path for path, methods in document["paths"].items() if "post" in methods}
    assert posts == set(BODIES)
    for path, body in BODIES.items():
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        fields = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]["properties"]
        assert set(body) == set(fields), path
    asked = {path for path, methods in document["paths"].items() for told in methods.values() if told.get("parameters")}
    named = {path.partition("?")[0].rstrip("/") for path in LOOKS} | {"/clones/none"}
    for path in asked:
        begin, brace, _rest = path.partition("{")
        assert any(each.startswith(begin) if brace else each == path for each in named), path


@pytest.mark.parametrize("path", BODIES)
def test_a_body_that_is_none_is_refused(asks: Callable[..., None], path: str) -> None:
    for content in (b"", b"{", b"null", b"[]", b'"x"', b"7", b"\xff\xfe", b"{}", b'{"guest": 1e999}', b"[" * 4_000):
        asks("POST", path, content)
    asks("POST", path, json.dumps({**BODIES[path], "guest": "x" * MOST}).encode(), status=413)
    asks("POST", path, json.dumps({**BODIES[path], "colour": "red"}).encode(), said="colour", status=422)
    asks("PUT", path, b"{}", status=405)


@pytest.mark.parametrize("path", BODIES)
def test_a_field_of_another_type_is_named(asks: Callable[..., None], path: str) -> None:
    for field in BODIES[path]:
        for wrong in (["x"], {"odd": "x"}, 10**400):
            if field == "event" and isinstance(wrong, dict):
                continue  # any object may be an alert; one without a name is the next test's
            body = {**copy.deepcopy(BODIES[path]), field: wrong}
            asks("POST", path, json.dumps(body).encode(), said=field, status=422)


def test_what_is_no_event_is_refused(asks: Callable[..., None], place: Any) -> None:
    admin = place.token("admin")
    with TestClient(create_app(place.service)) as client:
        wanted = {"guest": NAME, "enabled": False}
        answer = client.post("/capture-config", json=wanted, headers={"Authorization": f"Bearer {admin}"})
        assert answer.status_code == 200
    for event in ({"odd": "x"}, {}, {"name": ["x"]}, {"name": "x", "severity": "loud"}, {"rule": {}}):
        asks("POST", "/events", json.dumps({"guest": NAME, "event": event}).encode(), status=400)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"network": "bridge"}, "network"),
        ({"network": "none"}, "segment"),
        ({"segment": "../x"}, "segment"),
        ({"segment": "a\n"}, "segment"),
        ({"identity": "old"}, "identity"),
        ({"identity": {"login": ["root", "x"]}}, "login"),
        ({"identity": {"hostname": "x" * 65}}, "hostname"),
        ({"clock": "later"}, "clock"),
    ],
)
def test_a_clone_that_cannot_be_meant_is_refused(asks: Callable[..., None], wrong: dict[str, Any], said: str) -> None:
    asks("POST", "/clones", json.dumps({**BODIES["/clones"], **wrong}).encode(), said=said, status=422)


@pytest.mark.parametrize("path", [path for path, body in BODIES.items() if "guest" in body and "config" not in path])
def test_a_guest_that_nobody_knows_is_not_found(asks: Callable[..., None], path: str) -> None:
    for guest in (NOBODY, "00000000-0000-0000-0000-000000000000", "../../state", "\u202egpj"):
        asks("POST", path, json.dumps({**BODIES[path], "guest": guest}).encode(), status=404)


@pytest.mark.parametrize("path", [path for path, body in BODIES.items() if "target" in body])
def test_a_moment_that_is_none_is_refused(asks: Callable[..., None], path: str) -> None:
    for moment in MOMENTS:
        asks("POST", path, json.dumps({**BODIES[path], "target": moment}).encode())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"script": "true", "files": {"/a": "eA=="}}, "either a script or files"),
        ({"files": {"relative": "eA=="}}, "files"),
        ({"files": {"/a": "no base64!"}}, "files"),
        ({"probe": "web", "probe_command": "true"}, "either probe or probe_command"),
        ({"script": "true\0"}, "NUL"),
        ({"commit_within": 0}, "commit_within"),
        ({"failures": 0}, "failures"),
        ({"every": 0}, "every"),
    ],
)
def test_a_trial_that_cannot_be_meant_is_refused(asks: Callable[..., None], wrong: dict[str, Any], said: str) -> None:
    body = {**BODIES["/trials"], "dry_run": False, "confirm": NAME}
    asks("POST", "/trials", json.dumps({**body, **wrong}).encode(), said=said, status=422)
    asks("POST", "/trials", json.dumps({**body, "probe": "unnamed"}).encode(), said="unnamed", status=400)


def test_what_can_only_be_looked_at_wrongly_is_refused(asks: Callable[..., None]) -> None:
    for path in LOOKS:
        asks("GET", path)
    for path in ("/clones/none", "/clones/..%2f..", "/clones", "/captures/ffffffffffff"):
        asks("DELETE", path)


def test_a_production_rewind_without_its_confirmation_says_what_to_send(asks: Callable[..., None]) -> None:
    body = {"guest": NAME, "target": "latest", "mode": "production"}
    for confirm in ("", "somebody else", NAME.upper() + "x"):
        asks("POST", "/rewind", json.dumps({**body, "confirm": confirm}).encode(), status=409)
