"""What the tests of the notebook share: a case with a fork and hostile names, a large history, and what is inert."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workbench.bench.large import Large
from workbench.case import Experiment
from workbench.experiment.document import Asked, Document, Run
from workbench.model import CaptureId, CaptureMode, GuestId, Mark, RegionKind, RegionSpec
from workbench.store import CaseStore

__all__ = ["Forked", "Large", "experiment_in", "inert", "kept_experiment"]

GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
NOON = 1_714_566_600_000_000_000  # 2024-05-01T12:30:00Z
S = 10**9
MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
CONTROL = "web\x1b]0;owned\x07\x00\r\n\u2028"
BACKWARDS = "\u202egnp.exe\u2066 \u05d0\u05d1\u05d2"
LONG = "A" * 10_000
HOSTILE = (MARKUP, CONTROL, BACKWARDS, LONG, "&lt;b&gt; ' \" ` ${1} ]]>")
RAM = RegionSpec("pc.ram", RegionKind.MEMORY, 16 * 4096, 4096)
LAYOUT = RegionSpec("state:layout", RegionKind.STATE, 0, 4096)
DISK = RegionSpec(f"disk:{MARKUP}", RegionKind.DISK, 8 * 65536, 65536)


@dataclass
class Forked:
    """Line 0 at 0, 2, 4, 6, 8 s; a rewind to 4 s opens line 1 at 20, 22, 24 s; a mark at each end."""

    path: Path
    ids: dict[int, CaptureId] = field(default_factory=dict)

    def build(self, name: str = "demo") -> Forked:
        store = CaseStore.create(self.path)
        store.add_guest(GUEST, name)
        with store.writer(GUEST) as writer:
            for second in (0, 2, 4, 6, 8, 20, 22, 24):
                if second == 20:
                    writer.move_to(self.ids[4])
                self.take(writer, second, 1 if second == 20 else None, name)
        store.add_mark(Mark(name[:100], GUEST, NOON, self.ids[0], "event", name))
        store.add_mark(Mark("alert-7", GUEST, NOON + 22 * S, self.ids[22], "alert", "planted"))
        return self

    def take(self, writer: Any, second: int, branch: int | None = None, reason: str = "") -> None:
        with writer.begin([RAM, DISK, LAYOUT], branch=branch) as transaction:
            transaction.put_stream(LAYOUT.name, b"{}")
            transaction.put(RAM.name, np.array([second % 16]), np.full((1, 4096), second + 1, np.uint8))
            transaction.put(DISK.name, np.array([second % 8]), np.full((1, 65536), second + 1, np.uint8))
            mode = CaptureMode.EVENT if second == 22 else CaptureMode.CONTINUOUS
            facts = {"pause_ns": second * 10**6, "dirty_pages": second, "dirty_clusters": 1, "note": reason}
            record = transaction.commit(time_ns=NOON + second * S, mode=mode, reason=reason[:200], facts=facts)
        self.ids[second] = record.id

    def append(self, second: int) -> None:
        store = CaseStore.open(self.path)
        with store.writer(GUEST) as writer:
            writer.move_to(self.ids[max(self.ids)])
            self.take(writer, second)


def kept_experiment(
    name: str = "planted", moment: str = "ab" * 32, after: tuple[str, str] = ("", ""), guest: str = GUEST
) -> Document:
    """Two variants, three runs each; what a guest says is `name`; one run of B failed, one hung.

    `after`: captures of the runs of each variant that are ok, which are those of `guest`.
    """
    nothing = Asked("nothing", "", "")
    runs = [_run("control", n, 2 * n - 1, float(n), name, after[0], guest) for n in (1, 2, 3)]
    runs += [
        _run("B", 1, 2, 9.0, name, after[1], guest),
        Run("B", 2, 4, "failed", "measure load", f"measure load: {name}"[:500], 9.0, {}, console=f"line 1\n{name}"),
        Run("B", 3, 6, "hung", "workload", "workload: a command did not end in 3.0 s", console=name),
    ]
    return Document(
        format=1, case="c5ca1b1a-31a5-4d3c-9d6d-5f0d8f0a7e55", guest=guest, moment=moment, made_ns=NOON, seed=42,
        control="control", variants={"control": nothing, "B": Asked("script", name, "cd" * 32)}, workload=nothing,
        until=nothing, measures={"load": Asked("script", "cat /proc/loadavg", "01" * 32)}, repeats=3, at_once=2,
        timeout=3.0, keep="captures", versions={}, runs=tuple(sorted(runs, key=lambda run: run.position)),
    )  # fmt: skip


def _run(variant: str, repeat: int, position: int, load: float, name: str, after: str, guest: str) -> Run:
    values: dict[str, float | str] = {"load": load, "said": name[:2000]}
    return Run(
        variant,
        repeat,
        position,
        "ok",
        seconds=load,
        values=values,
        guest=guest if after else "",
        after=after,
        console=f"line 1\n{name}",
    )


def experiment_in(case: Any, document: Document) -> Experiment:
    """An experiment as the case would give it."""
    return Experiment(case, document, "5a" * 32)


def inert(text: str) -> bool:
    """Say whether a text on a page can do nothing: no control or direction characters, and short."""
    return not any(char in text for char in "\x1b\x07\x00\r\u202e\u2066\u2028") and "A" * 1000 not in text
