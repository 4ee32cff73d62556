"""Recordings that are damaged, or that a stranger made, are refused with what is wrong, and hide no other."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exactly import Linked, qemus_of

from workbench.case import Case
from workbench.errors import DamagedError, FormatError, MissingError, MomentNotFoundError

HOSTILE: dict[str, Callable[[Linked], Any]] = {
    "a file outside": lambda each: each.describe(files={"../../../etc/passwd": "0" * 64}),
    "no log": lambda each: each.describe(files={"kernel": "0" * 64, "state.qcow2": "0" * 64}),
    "another id": lambda each: each.describe(id="00000000-0000-0000-0000-000000000000"),
    "more than it could run": lambda each: each.describe(icount=1 << 62),
    "a count that is text": lambda each: each.describe(icount="1"),
    "an end before its beginning": lambda each: each.describe(begins=1 << 40),
    "a snapshot that is an option": lambda each: each.describe(snapshot="x,rr=record"),
    "an option that writes a file": lambda each: each.machine(arguments=["-D", "out"]),
    "a device that reads a file": lambda each: each.machine(arguments=["-device", "loader,file=/etc/shadow"]),
    "a machine type with options": lambda each: each.machine(machine="pc,dumpdtb=x"),
    "two processors": lambda each: each.machine(vcpus=2),
    "another format": lambda each: each.describe(format=2),
    "fields nobody knows": lambda each: each.describe(surprise=1),
    "no JSON": lambda each: (each.place / "description.json").write_bytes(b"\xff{"),
    "depth": lambda each: (each.place / "description.json").write_text("[" * 100_000),
    "length": lambda each: (each.place / "description.json").write_text(" " * (2 << 20)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_description_that_lies_is_refused(linked: Linked, what: str) -> None:
    HOSTILE[what](linked)
    with pytest.raises(FormatError, match="not the description of a recording"):
        linked.open()
    (told,) = Case(linked.path).exact_recordings()["wrong"]
    assert "not the description" in told


def test_a_file_that_was_altered_is_named(linked: Linked) -> None:
    content = bytearray((linked.place / "log").read_bytes())
    content[len(content) // 2] ^= 1
    (linked.place / "log").unlink()
    (linked.place / "log").write_bytes(content)
    with pytest.raises(DamagedError, match=r"not what was recorded.*log"):
        linked.open().replay(1000)


@pytest.mark.parametrize("name", ["log", "console"])
def test_a_link_to_a_file_of_the_host_is_not_followed(linked: Linked, name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (linked.place / name).unlink()
    (linked.place / name).symlink_to(tmp_path / "secret")
    with pytest.raises(MissingError, match=name):
        linked.open().replay(1000)
    if name == "console":
        with pytest.raises(MissingError, match=name):
            _ = linked.open().console


@pytest.mark.parametrize("name", ["state.qcow2", "base.qcow2"])
def test_an_image_that_names_another_file_is_refused(linked: Linked, name: str, tmp_path: Path) -> None:
    evil, secret = tmp_path / "evil.qcow2", tmp_path / "secret"
    secret.write_bytes(bytes(1 << 20))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", evil], check=True)
    linked.put(name, evil.read_bytes())
    with pytest.raises(FormatError, match="names another file"):
        linked.open().replay(1000)
    assert not qemus_of(linked.id)


def test_an_image_that_is_none_is_refused(linked: Linked) -> None:
    linked.put("state.qcow2", b"no image")
    with pytest.raises(FormatError, match="not a qcow2 image"):
        linked.open().replay(1000)


def test_a_recording_that_is_not_there_is_told_with_those_that_are(linked: Linked) -> None:
    with pytest.raises(MomentNotFoundError, match="no one recording 'nothing'") as error:
        Case(linked.path).exact_recording("nothing")
    assert error.value.facts["known"] == [linked.id]


def test_a_directory_without_a_description_is_no_recording(linked: Linked) -> None:
    (linked.place / "description.json").unlink()
    assert Case(linked.path).exact_recordings().empty
