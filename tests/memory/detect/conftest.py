"""A small guest for detectors: captured clean, then with programs that only a detector tells from honest ones."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.demo.intrusion import STEPS, play
from workbench.inquiry.answer import Answer
from workbench.memory.questions import Scene, ask
from workbench.memory.symbols.cache import SymbolCache
from workbench.memory.volatility.opening import Opener
from workbench.store import CaptureView, CaseStore

Asking = Callable[[CaseStore, CaptureView, str], Answer]
_KINDS = {
    "memory": ("memory", "payload"),
    "name": ("name", "kworker/0:7"),
    "argument": ("argument", "[kswapd9]"),
    "twin": ("name", "mm_percpu_wq"),
}
"""What is planted: the program's mode, and the name that it takes."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A case with the moments "clean" and "planted".

    Attributes
    ----------
    case : Case
    pids : dict of str to int
        Of what was planted, as the guest says: the kinds above, and "deleted".
    path : str
        Of the program that was deleted.
    """

    case: Case
    pids: dict[str, int]
    path: str

    def view(self, when: str) -> CaptureView:
        """Return a moment's capture."""
        return self.case.store.view(self.case.moment(when).id)


def build_planted(place: Path) -> bytes:
    """Compile the program that is planted."""
    target = place / "planted"
    options = ["-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pic", "-no-pie", "-s"]
    options += ["-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-Wl,-n,--build-id=none"]
    subprocess.run(["gcc", *options, "-o", target, Path(__file__).with_name("planted.c")], check=True)
    return target.read_bytes()


def plant(guest: DemoGuest, program: bytes) -> dict[str, int]:
    """Start the program in each of its ways; return the pids."""
    text = base64.b64encode(program).decode()
    lines = [f"echo {text} | base64 -d >/root/planted; chmod +x /root/planted"]
    for kind, (mode, name) in _KINDS.items():
        lines.append(
            f"setsid /root/planted {mode} '{name}' </dev/null >/dev/null 2>&1 & echo {kind} $!; pids=\"$pids $!\""
        )
    begun = 'for pid in $pids; do until [ "$(readlink /proc/$pid/exe)" != /bin/busybox ]; do usleep 20000; done; done'
    done = guest.run("\n".join([*lines, begun, "usleep 500000"]))
    assert done.rc == 0, done.stdout
    return {kind: int(pid) for kind, pid in (line.split() for line in done.stdout.splitlines())}


@pytest.fixture(scope="session")
def watched(demo_image: DemoImage) -> Iterator[Watched]:
    """The small guest, recorded; read only."""
    place = Path(tempfile.mkdtemp(prefix="detect-test-"))
    place.chmod(0o711)
    case = Case.create(place / "case")
    spec = DemoSpec(f"detect-{os.getpid()}", memory_mib=192, vcpus=2, network=False)
    with DemoGuest.boot(spec, image=demo_image) as guest, case.record(guest.name) as recording:
        recording.capture("before", mark="clean")
        pids = plant(guest, build_planted(place))
        (dropped,) = play(guest, steps=[step for step in STEPS if step.name == "dropped_binary"])
        recording.capture("after", mark="planted")
    yield Watched(case, {**pids, "deleted": int(str(dropped["pid"]))}, str(dropped["path"]))
    case.close()
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    """Opens captures of the small guest and of its copies, in this process; one at a time."""
    opened = Opener(tmp_path_factory.mktemp("kernels"), SymbolCache(tmp_path_factory.mktemp("symbols")))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def answer(eyes: Opener) -> Asking:
    """Ask a detector, by its name without "workbench.", of a capture."""

    def asked(store: CaseStore, view: CaptureView, name: str) -> Answer:
        return ask(Scene(store, view, eyes.open(view), lambda _percent, _words: None), f"workbench.{name}", {})

    return asked


def said(frame: pd.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    """Return rows of a frame, sorted."""
    return sorted(tuple(row) for row in frame[list(columns)].itertuples(index=False))
