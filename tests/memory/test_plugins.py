"""Our rows are Volatility's: thirty plugins and more against its own command line, on a raw dump of the same moment."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from workbench.bench.forensics import PLUGINS as MEASURED
from workbench.case import Case, Moment

PLUGINS = (*MEASURED, "linux.pslist.PsList", "linux.ptrace.Ptrace")
KERNEL_LOG = "linux.kmsg.Kmsg"
RECORDED = Path(__file__).parents[2] / "datasets" / "intrusion" / "case"


@pytest.fixture(scope="module")
def moment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moment]:
    """A moment of the recorded intrusion, in a case of its own: nothing that was answered before is read."""
    place = tmp_path_factory.mktemp("intrusion") / "case"
    shutil.copytree(RECORDED, place, ignore=shutil.ignore_patterns("cache"))
    with Case(place) as case:
        yield case.moment("alert-backdoor")


@pytest.fixture(scope="module")
def command_line(moment: Moment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory with what the command line says, a file per plugin: two runs, half of the plugins each."""
    place = tmp_path_factory.mktemp("command-line")
    moment.case.store.view(moment.id).region("pc.ram").write_sparse(place / "dump.raw")
    (place / "linux").mkdir()
    shutil.copy(str(moment.kernel().iloc[0]["symbols"]), place / "linux" / "kernel.json")
    program = Path(__file__).with_name("vol_command.py")
    running = []
    for part in (PLUGINS[::2], PLUGINS[1::2]):
        cache = tmp_path_factory.mktemp("vol-cache")
        words = [sys.executable, program, place / "dump.raw", place, place, *part]
        running.append(subprocess.Popen(list(map(str, words)), env={**os.environ, "XDG_CACHE_HOME": str(cache)}))
    assert [each.wait(timeout=1500) for each in running] == [0, 0]
    (place / "dump.raw").unlink()
    return place


def flat(rows: list[dict[str, Any]], depth: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    for row in rows:
        children = row.pop("__children")
        yield depth, row
        yield from flat(children, depth + 1)


def plain(value: Any, *, address: bool) -> Any:
    """Return a cell as the command line's JSON has it: addresses masked to 48 bits, times as text."""
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    if hasattr(value, "item"):
        value = value.item()
    return value & ((1 << 48) - 1) if address and value >> 63 else value


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("plugin", PLUGINS)
def test_every_row_is_the_command_lines(plugin: str, moment: Moment, command_line: Path) -> None:
    expected = list(flat(json.loads((command_line / f"{plugin}.json").read_text())))
    frame = moment.vol(plugin)
    assert not frame.attrs["partial"]
    addresses = {name for name in frame.columns if frame[name].dtype == "UInt64"}
    depths = frame.pop("depth") if "depth" in frame else [0] * len(frame)
    found = [
        (int(depth), {name: plain(value, address=name in addresses) for name, value in row.items()})
        for depth, row in zip(depths, frame.to_dict("records"), strict=True)
    ]
    if plugin == KERNEL_LOG:  # the newest record, which Volatility leaves out
        assert found.pop()[1]["line"] not in [row["line"] for _, row in expected]
    assert found == expected
