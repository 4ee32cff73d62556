"""What is said of clones on the command line: who one shall be, and what is listed of those that are there."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from commandline import Command, SmallCase

from workbench.case import Identity
from workbench.cli.clone import identity_of
from workbench.errors import UsageError


def test_an_identity_is_said_in_one_word_or_by_its_parts() -> None:
    assert (identity_of(None), identity_of("new")) == (None, "new")
    assert identity_of("hostname") == Identity(hostname=True)
    asked = "hostname=copy.example,mac,machine-id,address=10.0.2.7/24"
    assert identity_of(asked) == Identity("copy.example", True, True, "10.0.2.7/24")


@pytest.mark.parametrize("text", ["", "old", "hostname=", "login=root", "hostname,,mac", "new,mac"])
def test_what_is_no_identity_is_refused_with_what_is_one(text: str) -> None:
    with pytest.raises(UsageError) as told:
        identity_of(text)
    assert "machine-id" in str(told.value)


def clone_in(case: Path, **told: object) -> None:
    place = case / "clones" / str(uuid.uuid4())
    place.mkdir(parents=True)
    plain = {"name": "web-then", "uuid": place.name, "uri": "qemu:///session", "capture": "c" * 64}
    (place / "clone.json").write_text(json.dumps({**plain, "started_ns": 7, "seconds": 0.5, **told}))


def test_the_list_says_what_each_clone_is_connected_to_and_who_it_is(workbench: Command, small_case: SmallCase) -> None:
    clone_in(small_case.path, started_ns=1)
    identity = {"hostname": "copy", "machine_id": "ab" * 16}
    clone_in(small_case.path, name="two", network="shared", segment="lab", identity=identity, clock="now")
    first, second = workbench("clone", "list", "--json", "--case", small_case.path).json()
    assert (first["network"], first["identity"], first["clock"]) == ("none", {}, "kept")
    assert (second["network"], second["segment"], second["identity"]) == ("shared", "lab", identity)
    shown = workbench("clone", "list", "--case", small_case.path).out
    for said in ("as its guest", "shared lab", "copy", "now"):
        assert said in shown


def test_a_clones_name_is_inert(workbench: Command, small_case: SmallCase) -> None:
    clone_in(small_case.path, name="x\x1b]0;owned\x07\u202e", uri="\x1b[2J")
    shown = workbench("clone", "list", "--case", small_case.path).out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
