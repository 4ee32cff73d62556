"""The command on a real guest: record, look, clone, rewind, undo, and let go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import Command, on_a_terminal

from workbench.demo import DemoGuest
from workbench.guest.connection import Hypervisor
from workbench.guest.leftovers import find_leftovers


@pytest.fixture
def place(public_directory: Path) -> Path:
    return public_directory / "case"


def nothing_left(guest: DemoGuest) -> bool:
    with Hypervisor(guest.uri) as hypervisor:
        found = hypervisor.guest(guest.name)
        return found.is_running() and not find_leftovers(found.monitor)


def test_guests_and_doctor_see_the_guest(workbench: Command, guest: DemoGuest) -> None:
    listed = workbench("guests", "--json", "--connect", guest.uri).json()
    assert {"name": guest.name, "memory_mib": 512}.items() <= next(
        each for each in listed if each["name"] == guest.name
    ).items()
    topics = workbench("doctor", "--connect", guest.uri).out
    for word in ("reading memory", "dirty pages", "KVM", "libvirt", guest.name):
        assert word in topics


def test_a_case_from_the_first_capture_to_the_undone_rewind(workbench: Command, guest: DemoGuest, place: Path) -> None:
    case = ("--case", place, "--connect", guest.uri)
    assert workbench("capture", guest.name, "--reason", "before", "--mark", "clean", *case).code == 0
    guest.run("echo planted >/root/planted; sync")
    watched = workbench("watch", guest.name, "--interval", "0.5", "--count", "3", "--json", *case)
    assert watched.code == 0
    assert len([json.loads(line) for line in watched.out.splitlines()]) == 3

    plan = workbench("rewind", "clean", "--mode", "production", "--plan", *case)
    assert plan.code == 0
    assert "the guest itself" in plan.out
    for confirm in ((), ("--confirm", "somebody-else")):
        refused = workbench("rewind", "clean", "--mode", "production", *confirm, *case)
        assert refused.code == 2
        assert guest.name in refused.err
    assert guest.run("cat /root/planted").stdout == "planted\n"

    done = workbench("rewind", "clean", "--mode", "production", "--confirm", guest.name, "--json", *case).json()
    assert done["how"] == "in place"
    assert guest.run("test -e /root/planted").rc == 1
    assert workbench("undo", "--confirm", guest.name, *case).code == 0
    assert guest.run("cat /root/planted").stdout == "planted\n"
    assert guest.health().ok
    branches = {row["branch"] for row in workbench("timeline", "--json", *case).json()}
    assert branches >= {0, 1}
    assert workbench("check", *case).code == 0
    assert nothing_left(guest)
    guest.run("rm /root/planted; sync")


def test_a_clone_is_started_listed_and_removed(workbench: Command, guest: DemoGuest, place: Path) -> None:
    case = ("--case", place, "--connect", guest.uri)
    workbench("capture", guest.name, *case)
    made = workbench("rewind", "latest", "--mode", "test", "--json", *case).json()
    who = ("--identity", "hostname=copy.example", "--clock", "now")
    other = workbench("clone", "run", "latest", "--name", f"{guest.name}-second", *who, "--json", *case).json()
    assert (other["identity"], other["clock"]) == ({"hostname": "copy.example"}, "now")
    running = {each["name"] for each in workbench("guests", "--json", "--connect", guest.uri).json()}
    assert running >= {made["name"], other["name"]}
    assert workbench("clone", "list", "--json", *case).json() == [made, other]
    assert workbench("clone", "rm", guest.name, *case).code == 2, "only clones can be removed"
    assert workbench("clone", "rm", "--all", *case).code == 0
    left = {each["name"] for each in workbench("guests", "--json", "--connect", guest.uri).json()}
    assert guest.name in left
    assert not {made["name"], other["name"]} & left
    assert workbench("clone", "list", "--json", *case).json() == []


def test_a_person_types_the_name_and_undoes_it_by_name(workbench: Command, guest: DemoGuest, place: Path) -> None:
    case = ("--case", place, "--connect", guest.uri)
    workbench("capture", guest.name, *case)
    guest.run("echo typed >/root/typed; sync")
    words = ("rewind", "latest", "--mode", "production", *case)
    code, drawn = on_a_terminal(*words, typed=f"{guest.name}\n")
    assert code == 0, drawn
    assert "is back at" in drawn
    assert guest.run("test -e /root/typed").rc == 1
    told = workbench("undo", guest.name, "--confirm", guest.name, *case)
    assert told.code == 0, told.err
    assert guest.run("cat /root/typed").stdout == "typed\n"
    assert workbench("undo", "--plan", *case).code == 0, "the way back can be undone, too"
    assert "branches from" in workbench("timeline", *case).out
    guest.run("rm /root/typed; sync")
    assert nothing_left(guest)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_watch_lets_the_guest_go(guest: DemoGuest, place: Path, number: signal.Signals) -> None:
    words = ["watch", guest.name, "--interval", "0.3", "--case", str(place), "--connect", guest.uri]
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench.cli", *words], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    assert "pause" in process.stdout.readline()
    time.sleep(0.4)
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert nothing_left(guest)
