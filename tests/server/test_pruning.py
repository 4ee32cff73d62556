"""Pruning over HTTP: a plan first, then exactly that; what was marked meanwhile stays, and it is in the audit log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from workbench.case import Case
from workbench.server.app import create_app
from workbench.service.configuration import GuestConfiguration
from workbench.service.hub import Service

TIERS = {"tiers": [{"every": "1h", "for": "3h"}]}  # the recorded case is older: only what is protected stays
Ask = Callable[..., Any]


@pytest.fixture
def service(recorded: Path, service_of: Callable[..., Service]) -> Service:
    return service_of(recorded)


@pytest.fixture
def ask(service: Service) -> Iterator[Ask]:
    """Ask for a prune as an admin; returns the answer."""
    admin = {"Authorization": f"Bearer {service.tokens.make('root', 'admin')}"}
    with Case(service.settings.case) as case:
        name = case.guest().name
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        yield lambda **body: client.post("/prune", json={"guest": name, **body}, headers=admin)


def ids(service: Service) -> list[str]:
    with Case(service.settings.case) as case:
        return [ref.id for ref in case.store.captures(case.guest().id)]


def ended(service: Service, job: dict[str, Any]) -> dict[str, Any]:
    service.jobs.close()  # waits for it
    return service.jobs.get(job["id"]).plain()


def test_what_was_planned_is_dropped_and_its_bytes_are_freed(service: Service, ask: Ask) -> None:
    before = ids(service)
    planned = ask(dry_run=True, retention=TIERS)
    assert planned.status_code == 200
    plan = planned.json()["plan"]
    assert ids(service) == before
    assert (plan["dropped"] + plan["kept"], plan["dropped"] > 0) == (len(before), True)
    assert list(service.audit.lines()) == []
    answer = ask(confirm=planned.json()["confirm"])
    assert (answer.status_code, answer.json()["plan"]) == (202, None)
    job = ended(service, answer.json()["job"])
    assert (job["state"], job["result"]["dropped"]) == ("done", plan["dropped"])
    assert job["result"]["freed"] > 0
    assert len(ids(service)) == plan["kept"]
    assert service.upkeep.state.dropped == plan["dropped"]
    noted = [(each["who"], each["what"], each["result"]) for each in service.audit.lines()]
    assert noted == [("token:root", "prune", "asked"), ("token:root", "prune", "done")]
    with Case(service.settings.case) as case:
        assert not case.check()


def test_a_plan_is_carried_out_once(service: Service, ask: Ask) -> None:
    word = ask(dry_run=True, retention=TIERS).json()["confirm"]
    assert ask(confirm=word).status_code == 202
    again = ask(confirm=word)
    assert (again.status_code, "dry_run" in again.json()["error"]["cure"]) == (409, True)


def test_nothing_is_dropped_where_a_capture_of_the_plan_was_held_meanwhile(service: Service, ask: Ask) -> None:
    before = ids(service)
    word = ask(dry_run=True, retention=TIERS).json()["confirm"]
    with Case(service.settings.case) as case:
        rows = case.retained("1h for 3h")
        case.hold(case.moment(f"id:{rows.loc[~rows['keep'], 'capture'].iloc[0]}"))
    job = ended(service, ask(confirm=word).json()["job"])
    assert (job["state"], job["error"]["kind"], job["error"]["cure"]) == ("failed", "UsageError", "Plan again.")
    assert ids(service) == before
    assert [each["result"] for each in service.audit.lines()] == ["asked", "failed"]


def test_without_tiers_in_the_question_those_of_its_configuration_hold(service: Service, ask: Ask) -> None:
    with Case(service.settings.case) as case:
        name = case.guest().name
    refused = ask(dry_run=True)
    assert (refused.status_code, "tier" in refused.json()["error"]["message"]) == (400, True)
    admin = service.tokens.recognise(service.tokens.make("other", "admin"))
    assert admin is not None
    service.configure(admin, GuestConfiguration.model_validate({"guest": name, "retention": TIERS}))
    assert ask(dry_run=True).json()["plan"]["dropped"] > 0


def test_a_plan_and_its_confirmation_are_not_sent_together(ask: Ask) -> None:
    assert ask(dry_run=True, confirm="x").status_code == 422
    assert ask(retention=TIERS, confirm="x").status_code == 422
