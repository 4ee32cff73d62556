"""The API without a guest: who may do what, what errors look like, what bounds hold, and what the document says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from workbench.case import Case
from workbench.server.app import create_app
from workbench.service.hub import Service
from workbench.service.settings import Limits

RECORDED = Path(__file__).parents[2] / "datasets" / "intrusion" / "case"
with Case(RECORDED) as _case:
    NAME, GUEST = _case.guest().name, _case.guest().id
    CAPTURES = [ref.id for ref in _case.store.captures(GUEST)]
    MARKS = [each.name for each in _case.marks()]
ROLES = ("viewer", "operator", "admin")
# Every path with the least role that may use it, and what a caller of that role gets where no guest runs.
PATHS = [
    ("GET", "/capture-status", None, "viewer", 200),
    ("GET", "/capture-config", None, "viewer", 200),
    ("GET", "/guests", None, "viewer", {200, 503}),
    ("GET", f"/timeline?guest={NAME}", None, "viewer", 200),
    ("GET", "/captures/CAPTURE", None, "viewer", 200),
    ("GET", "/clones", None, "viewer", 200),
    ("GET", "/jobs/none", None, "viewer", 404),
    ("GET", "/jobs/none/events", None, "viewer", 404),
    ("GET", "/metrics", None, "viewer", 200),
    ("GET", "/audit", None, "admin", 200),
    ("GET", "/content?prefix=guests", None, "viewer", 200),
    ("GET", "/content/none", None, "viewer", 404),
    ("GET", "/contents?prefix=guests/none", None, "viewer", 404),
    ("POST", "/rewind", {"guest": NAME, "target": "latest", "dry_run": True}, "viewer", 200),
    ("POST", "/rewind", {"guest": NAME, "target": "latest", "mode": "production"}, "operator", 409),
    ("POST", "/captures", {"guest": NAME, "reason": "x"}, "operator", 503),
    ("POST", "/events", {"guest": NAME, "event": {"name": "x"}}, "operator", 503),
    ("POST", "/marks", {"guest": NAME, "target": "nothing-like-it", "name": "x"}, "operator", 400),
    ("POST", "/marks/release", {"guest": NAME, "target": "latest"}, "operator", 400),
    ("POST", "/clones", {"guest": NAME, "target": "nothing-like-it"}, "operator", 400),
    ("DELETE", "/clones/none", None, "operator", 404),
    ("POST", "/prune", {"guest": NAME, "retention": {"tiers": [{"for": "1h"}]}, "dry_run": True}, "operator", 200),
    ("POST", "/prune", {"guest": NAME, "confirm": "nothing-like-it"}, "admin", 409),
    ("GET", "/trials", None, "viewer", 200),
    ("GET", "/trials/none", None, "viewer", 404),
    ("POST", "/trials", {"guest": NAME, "commit_within": 60, "dry_run": True}, "viewer", 200),
    ("POST", "/trials", {"guest": NAME, "commit_within": 60, "confirm": "another"}, "operator", 409),
    ("POST", "/trials/none/commit", {"confirm": NAME}, "operator", 404),
    ("POST", "/trials/none/undo", {"confirm": NAME}, "operator", 404),
    ("POST", "/capture-config", {"guest": "other", "enabled": False}, "admin", 200),
]


@pytest.fixture
def service(service_of: Callable[..., Service]) -> Service:
    return service_of(RECORDED, body_bytes=4_096)


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(create_app(service), raise_server_exceptions=False) as made:
        yield made


def bearer(service: Service, role: str, guests: tuple[str, ...] = ()) -> dict[str, str]:
    return {"Authorization": f"Bearer {service.tokens.make(f'{role}-{len(service.tokens.all())}', role, guests)}"}


def with_guest(service: Service, client: TestClient) -> None:
    answer = client.post("/capture-config", json={"guest": NAME}, headers=bearer(service, "admin"))
    assert answer.status_code == 200


def path_of(path: str) -> str:
    return path.replace("CAPTURE", CAPTURES[0][:12])


def test_every_path_is_for_its_role_and_those_above(service: Service, client: TestClient) -> None:
    with_guest(service, client)
    callers = {role: bearer(service, role) for role in ROLES}
    for (method, path, body, least, expected), role in itertools.product(PATHS, ROLES):
        answer = client.request(method, path_of(path), json=body, headers=callers[role])
        allowed = ROLES.index(role) >= ROLES.index(least)
        wanted = expected if isinstance(expected, set) else {expected}
        assert answer.status_code in (wanted if allowed else {403}), (method, path, role, answer.text)


def test_nobody_gets_anything_but_health(service: Service, client: TestClient) -> None:
    for method, path, body, _, _ in PATHS:
        answer = client.request(method, path_of(path), json=body)
        assert answer.status_code == 401
        assert answer.json()["error"]["message"]
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/guests", headers={"Authorization": "Bearer wb_wrong"}).status_code == 401
    assert client.get("/guests", headers={"Authorization": "Basic x"}).status_code == 401


def test_the_matrix_has_every_path(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    tested = {(method, path.partition("?")[0]) for method, path, *_ in PATHS} | {("GET", "/healthz")}
    named = {
        (method, "/".join("X" if part.startswith("{") else part for part in path.split("/"))) for method, path in told
    }
    parts = {"CAPTURE": "X", "none": "X"}
    assert {(method, "/".join(parts.get(part, part) for part in path.split("/"))) for method, path in tested} == named
    assert document["openapi"].startswith("3.1")


def test_a_guest_that_is_not_for_a_caller_does_not_exist_for_it(service: Service, client: TestClient) -> None:
    with_guest(service, client)
    other = bearer(service, "operator", ("db1",))
    for method, path, body, least, _ in PATHS:
        if NAME in path or "CAPTURE" in path or (body or {}).get("guest") == NAME:
            caller = bearer(service, least, ("db1",))
            answer = client.request(method, path_of(path), json=body, headers=caller)
            assert answer.status_code == 404, (path, answer.text)
    assert client.get("/capture-status", headers=other).json()["guests"] == []
    assert client.get("/capture-config", headers=other).json()["guests"] == []
    own = bearer(service, "viewer", (NAME,))
    by_uuid = bearer(service, "viewer", (GUEST,))
    assert client.get(f"/timeline?guest={GUEST}", headers=own).status_code == 200
    assert client.get(f"/timeline?guest={NAME}", headers=by_uuid).status_code == 200


def test_a_timeline_comes_in_stretches(service: Service, client: TestClient) -> None:
    asked = {"headers": bearer(service, "viewer")}
    whole = client.get(f"/timeline?guest={NAME}", **asked).json()
    assert [each["id"] for each in whole["captures"]] == CAPTURES
    assert [each["name"] for each in whole["marks"]] == MARKS
    assert not whole["more"]
    first = client.get(f"/timeline?guest={NAME}&limit=2", **asked).json()
    rest = client.get(f"/timeline?guest={NAME}&since_ns={first['captures'][-1]['time_ns'] + 1}", **asked).json()
    assert first["more"]
    assert first["captures"] + rest["captures"] == whole["captures"]


def test_a_dry_run_returns_the_plan_and_does_nothing(service: Service, client: TestClient) -> None:
    body = {"guest": NAME, "target": "2 captures ago", "mode": "production", "dry_run": True}
    answer = client.post("/rewind", json=body, headers=bearer(service, "viewer"))
    assert answer.status_code == 200
    plan = answer.json()["plan"]
    assert (plan["guest"], plan["target"], plan["left_behind"]) == (NAME, CAPTURES[-3], 2)
    assert answer.json()["job"] is None
    assert list(service.audit.lines()) == []


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 422, "JSON"),
        (b'{"guest": "web1"}', 422, "reason"),
        (b'{"guest": "web1", "reason": "x", "colour": 1}', 422, "colour"),
        (b'{"guest": "nobody", "reason": "x"}', 404, "nobody"),
        (b"[" * 4_000, 400, ""),
        (b'{"guest": "' + b"a" * 5_000 + b'"}', 413, "large"),
    ],
)
def test_a_bad_body_is_told_what_is_wrong(service: Service, client: TestClient, body, status, said) -> None:
    headers = {**bearer(service, "operator"), "Content-Type": "application/json"}
    answer = client.post("/captures", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]


def test_a_body_without_a_length_is_bounded_too(service: Service, client: TestClient) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(1_000):
            yield b" " * 1_000

    headers = {**bearer(service, "operator"), "Content-Type": "application/json"}
    assert client.post("/captures", content=endless(), headers=headers).status_code == 413


def test_a_bad_configuration_changes_nothing(service: Service, client: TestClient) -> None:
    admin = bearer(service, "admin")
    good = client.post("/capture-config", json={"guest": NAME, "interval_s": 3}, headers=admin).json()
    bad = client.post("/capture-config", json={"guest": NAME, "interval_s": 0}, headers=admin)
    assert bad.status_code == 422
    assert "interval_s" in bad.json()["error"]["message"]
    now = client.get("/capture-config", headers=admin).json()
    assert now == good
    assert (now["version"], now["guests"][0]["interval_s"]) == (1, 3.0)


def test_rules_that_do_not_compile_name_their_line_and_change_nothing(service: Service, client: TestClient) -> None:
    rules = "rule fine { condition: true }\nrule bad { condition: $nothing }"
    told = {"guest": NAME, "triggers": {"increments": {"rules": rules}}}
    bad = client.post("/capture-config", json=told, headers=bearer(service, "admin"))
    assert bad.status_code == 400
    assert "do not compile" in bad.json()["error"]["message"]
    assert bad.json()["error"]["facts"]["line"] == "2"
    assert service.book.version == 0


def test_a_gate_goes_on_with_what_it_counts_until_its_own_rules_change(service: Service, client: TestClient) -> None:
    admin = bearer(service, "admin")
    with_guest(service, client)
    gate = service._gates[NAME]
    for told in ({"guest": "other", "enabled": False}, {"guest": NAME, "interval_s": 9}):
        assert client.post("/capture-config", json=told, headers=admin).status_code == 200
    assert service._gates[NAME] is gate
    client.post("/capture-config", json={"guest": NAME, "triggers": {"gate": {"cool_down_s": 1}}}, headers=admin)
    assert service._gates[NAME].rules.cool_down_s == 1


def test_an_unknown_moment_says_what_exists(service: Service, client: TestClient) -> None:
    operator = bearer(service, "operator")
    answer = client.post("/rewind", json={"guest": NAME, "target": "alert-9"}, headers=operator)
    assert answer.status_code in (400, 404)
    assert "alert-9" in answer.json()["error"]["message"]
    assert answer.json()["error"]["cure"] or answer.json()["error"]["facts"]
    future = client.post("/rewind", json={"guest": NAME, "target": "2999-01-01"}, headers=operator)
    assert future.status_code in (400, 404)


def test_acts_are_in_the_audit_log_and_secrets_are_not(service: Service, client: TestClient) -> None:
    admin = bearer(service, "admin")
    client.post("/capture-config", json={"guest": NAME}, headers=admin)
    lines = client.get("/audit", headers=admin).json()
    assert lines["damage"] == []
    assert [(each["what"], each["result"]) for each in lines["lines"]] == [
        ("capture-config", "asked"),
        ("capture-config", "done"),
    ]
    assert all(each["who"].startswith("token:admin") for each in lines["lines"])
    secret = admin["Authorization"].split()[1]
    for path in service.settings.state.rglob("*"):
        assert path.is_dir() or secret not in path.read_text()


def test_where_an_act_cannot_be_noted_it_is_not_done(service: Service, client: TestClient) -> None:
    admin = bearer(service, "admin")
    (service.settings.state / "audit.jsonl").mkdir()
    answer = client.post("/capture-config", json={"guest": NAME}, headers=admin)
    assert answer.status_code == 500
    assert service.book.version == 0


def test_who_asks_too_often_is_told_when_to_come_again(service: Service) -> None:
    slow = Service(service.settings.model_copy(update={"limits": Limits(requests_per_minute=20)}))
    now = 0.0
    with TestClient(create_app(slow, clock=lambda: now)) as client:
        asked = bearer(slow, "viewer")
        answers = [client.get("/capture-status", headers=asked) for _ in range(4)]
        assert [each.status_code for each in answers] == [200, 200, 429, 429]
        now += int(answers[-1].headers["Retry-After"])
        assert client.get("/capture-status", headers=asked).status_code == 200
        assert client.get("/capture-status", headers=bearer(slow, "viewer")).status_code == 200
    slow.close()


def test_no_page_of_another_origin_is_let_in(service: Service, client: TestClient) -> None:
    answer = client.get("/capture-status", headers={**bearer(service, "viewer"), "Origin": "http://other"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "set-cookie" not in answer.headers
    forged = {"X-Forwarded-For": "uid:0", "Forwarded": "for=uid:0"}
    assert client.get("/capture-status", headers=forged).status_code == 401


def test_metrics_can_be_read_by_prometheus(service: Service, client: TestClient) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    with_guest(service, client)
    text = client.get("/metrics", headers=bearer(service, "viewer")).text
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert {sample.labels["guest"] for sample in found["workbench_captures"].samples} == {NAME}
    assert sum(sample.value for sample in found["workbench_health"].samples) == 1
    assert [sample.value for sample in found["workbench_budget_cores_used"].samples] == [0]
    assert "workbench_budget_cores" not in found  # there is no limit
    restricted = client.get("/metrics", headers=bearer(service, "viewer", (NAME,))).text
    assert "workbench_budget" not in restricted  # it would tell how much others do


def test_the_budget_is_told_to_who_sees_all_guests(service: Service, client: TestClient) -> None:
    told = client.get("/capture-status", headers=bearer(service, "viewer")).json()["budget"]
    assert told == {"cpu": None, "bandwidth": None, "cpu_used": 0, "bandwidth_used": 0, "stretched": 0}
    assert client.get("/capture-status", headers=bearer(service, "viewer", (NAME,))).json()["budget"] is None


def test_any_request_that_the_document_allows_gets_an_answer_that_it_describes(service: Service) -> None:
    app = create_app(service)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    admin = bearer(service, "admin")
    operations = [each.ok() for each in schema.get_all_operations()]
    assert len(operations) == len(PATHS) - 2  # two rewinds, prunes and trials, and health
    for operation in operations:

        @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def asks(case: schemathesis.Case) -> None:
            said = case.call(headers=admin)
            # The document cannot say all that is wrong (an unknown moment); 503 and 507 are what it says of guests.
            case.validate_response(said, excluded_checks=[positive_data_acceptance, not_a_server_error])
            assert said.status_code != 500

        asks()
