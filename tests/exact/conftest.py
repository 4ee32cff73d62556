"""One machine recorded exactly for all: its boot, and the work that was done after it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from exactly import AFTER, BEFORE, PLANTED, Linked, type_and_wait

from workbench.case import Case, ExactRecording, Machine
from workbench.demo import DemoImage


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    with Case.create(tmp_path_factory.mktemp("exact") / "case") as opened:
        yield opened


@pytest.fixture(scope="session")
def boot(case: Case, demo_image: DemoImage) -> ExactRecording:
    """From the first instruction to the prompt."""
    image = demo_image
    return case.boot_exactly(
        Machine(memory_mib=96), until="# ", seconds=400, kernel=image.kernel, initrd=image.initrd, disk=image.disk
    )  # fmt: skip


@pytest.fixture(scope="session")
def work(case: Case, boot: ExactRecording) -> ExactRecording:
    """Goes on after the boot: much is printed, a file is written, then changed in place, each with a word then."""
    with case.record_exactly(after=boot) as recorder:
        type_and_wait(recorder, "seq 1000 1999", "printed")
        type_and_wait(recorder, f"printf {BEFORE} >{PLANTED}; sync", "first")
        type_and_wait(recorder, f"printf {AFTER[:1]} | dd of={PLANTED} conv=notrunc 2>/dev/null; sync", "second")
    return case.exact_recording(recorder.id)


@pytest.fixture
def linked(boot: ExactRecording, tmp_path: Path) -> Linked:
    """The boot's recording in another case, as a stranger may have made it: its files linked, its description ours."""
    return Linked(boot, tmp_path / "stranger")
