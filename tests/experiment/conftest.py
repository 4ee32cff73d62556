"""One small guest for all experiments, and a moment of it; `experimenting` beside it for what needs none."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from workbench.case import Case, Moment
from workbench.demo import DemoGuest, DemoImage, DemoSpec

WORK = """\
#!/bin/sh
# Ten lines of work, or as many as it is told to do.
n=$(cat /root/lines 2>/dev/null || echo 10)
while [ $n -gt 0 ]; do echo line >>/root/done; n=$((n - 1)); done
echo "work is done" >/dev/ttyS0
sync
"""


@pytest.fixture(scope="session")
def exp_moment(demo_image: DemoImage) -> Iterator[Moment]:
    """A moment of a guest with an agent and a card, which can do its work, and did none yet."""
    spec = DemoSpec(f"exp-{os.getpid()}", memory_mib=128, agent=True, network=True)
    with tempfile.TemporaryDirectory(prefix="exp-test-") as name:
        Path(name).chmod(0o711)
        with Case.create(Path(name) / "case") as case, DemoGuest.boot(spec, image=demo_image) as guest:
            guest.run(f"cat >/root/work <<'END'\n{WORK}END\nchmod 755 /root/work; sync")
            with case.record(guest.name) as recording:
                there = recording.capture("before the work")
            yield there
            assert guest.health().ok
            assert guest.run("ls /root/done /etc/planted").rc != 0, "an experiment has reached the guest itself"
