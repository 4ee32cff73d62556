"""An experiment is found again as it was kept, and no stranger's file is taken for one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from experimenting import document

from workbench.case import Case
from workbench.errors import DamagedError, FormatError, MissingError, UsageError
from workbench.experiment.document import LARGEST, MOST_ROWS, Run, checked_name, read, write
from workbench.store.documents import canonical


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case.create(tmp_path / "case")


def planted(case: Case, data: bytes) -> str:
    """Put bytes where an experiment of that digest would be."""
    identity = blake3(data).hexdigest()
    case.store.backend.put(f"experiments/{identity}.json", data)
    return identity


def test_it_is_found_again_as_it_was(case: Case) -> None:
    kept = document()
    identity = write(case.store.backend, kept)
    assert read(case.store.backend, identity) == kept
    assert write(case.store.backend, kept) == identity
    found = case.open_experiment(identity[:10])
    assert (found.document, found.id) == (kept, identity)


def test_the_case_lists_its_experiments_by_time_and_names_what_it_cannot_read(case: Case) -> None:
    later = write(case.store.backend, document(made_ns=1_800_000_000_000_000_000))
    sooner = write(case.store.backend, document())
    odd = planted(case, b"{}")
    listed = case.experiments().set_index("id")
    assert list(listed.index) == [odd, sooner, later]
    assert (listed.loc[sooner, "runs"], listed.loc[sooner, "ok"], listed.loc[sooner, "variants"]) == (
        8,
        6,
        "B, control",
    )
    assert "makes no sense" in listed.loc[odd, "note"]
    assert case.check() == []


def test_an_empty_case_has_none(case: Case) -> None:
    assert len(case.experiments()) == 0
    with pytest.raises(UsageError, match="no experiment"):
        case.open_experiment("ab")
    with pytest.raises(UsageError, match="no experiment"):
        case.open_experiment("")
    with pytest.raises(MissingError):
        read(case.store.backend, "ab" * 32)


@pytest.mark.parametrize("identity", ["../case", "AB" * 32, "ab" * 31])
def test_an_id_is_a_digest_and_no_path(case: Case, identity: str) -> None:
    with pytest.raises(UsageError, match="no id"):
        read(case.store.backend, identity)


def test_a_changed_byte_is_named(case: Case) -> None:
    identity = write(case.store.backend, document())
    path = case.path / "experiments" / f"{identity}.json"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"ok"', b'"no"', 1))
    with pytest.raises(DamagedError, match="experiment is damaged"):
        read(case.store.backend, identity)


def changed(**keys: Any) -> Callable[[dict[str, Any]], object]:
    return lambda told: told.update(keys)


HOSTILE = {
    "another format": changed(format=2),
    "a number as text": changed(seed="42"),
    "a lost key": lambda told: told.pop("runs"),
    "a moment that is a path": changed(moment="../../etc/passwd"),
    "a control that is none": changed(control="C"),
    "another outcome": lambda told: told["runs"][0].update(outcome="fine"),
    "a run of a variant that is none": lambda told: told["runs"][0].update(variant="C"),
    "a repeat that was not asked for": lambda told: told["runs"][0].update(repeat=5),
    "a capture that is none": lambda told: told["runs"][0].update(after="x"),
    "a value that is a list": lambda told: told["runs"][0].update(values={"load": [1]}),
    "a name that is markup": lambda told: told["variants"].update({"<b>": told["variants"]["B"]}),
    "a time before all time": changed(made_ns=-1),
    "a seed that is none": changed(seed=-1),
    "a run that took less than nothing": lambda told: told["runs"][0].update(seconds=-1.0),
    "the same run twice": lambda told: told["runs"].append(told["runs"][0]),
    "more values than a table holds": lambda told: told["runs"][0].update(
        values={f"load.{each}": 1.0 for each in range(MOST_ROWS)}
    ),
    "packets that are no digest": changed(segment="x", packets="../../etc/passwd"),
}


@pytest.mark.parametrize("damage", HOSTILE)
def test_what_makes_no_sense_is_refused(case: Case, damage: str) -> None:
    told = json.loads(canonical(asdict(document())))
    HOSTILE[damage](told)
    identity = planted(case, canonical(told))
    with pytest.raises(FormatError, match="makes no sense"):
        read(case.store.backend, identity)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_refused(case: Case, value: float) -> None:
    told = json.loads(canonical(asdict(document())))
    told["runs"][0]["values"] = {"load": value}
    with pytest.raises(FormatError, match="makes no sense: values"):
        read(case.store.backend, planted(case, json.dumps(told).encode()))


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b"\xff{}", b"[]"])
def test_what_is_no_document_is_refused(case: Case, data: bytes) -> None:
    with pytest.raises(FormatError, match="makes no sense"):
        read(case.store.backend, planted(case, data))


def test_a_file_without_end_is_not_read(case: Case) -> None:
    path = case.path / "experiments" / f"{'ab' * 32}.json"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(FormatError, match="too large"):
        read(case.store.backend, "ab" * 32)
    with pytest.raises(UsageError, match="too large to be kept"):
        write(case.store.backend, document([Run("B", 1, 1, "ok", console="x" * LARGEST)]))


@pytest.mark.parametrize("name", ["", "<b>", "a\nb", "../x", "x" * 61, 3, None])
def test_names_are_plain(name: object) -> None:
    with pytest.raises(UsageError, match="plain name"):
        checked_name(name, "variant")
