"""A whole experiment as it could have been kept: for whatever needs no guest."""

from __future__ import annotations

from workbench.case import Case
from workbench.experiment.document import Asked, Document, Run

NOTHING = Asked("nothing", "", "")
MOMENT = "ab" * 32
GUEST = "0b4405ed-8a44-46c5-bbae-ee867c0a3ab1"
EVIL = "</title><script>alert(1)</script>\x1b]0;x\x07"


def document(runs: list[Run] | None = None, **changed: object) -> Document:
    """Two variants, four runs each; B is higher by ten, one of its runs failed and one hung."""
    control = [Run("control", n, 2 * n, "ok", seconds=1.0 + n, values={"load": float(n)}) for n in (1, 2, 3, 4)]
    other = [Run("B", n, 2 * n - 1, "ok", seconds=2.0 + n, values={"load": 10.0 + n}) for n in (1, 2)]
    other += [
        Run("B", 3, 5, "failed", "measure load", f"measure load: {EVIL}", 9.0, {}, console=EVIL),
        Run("B", 4, 7, "hung", "workload", "workload: a command did not end in 3.0 s"),
    ]
    told: dict[str, object] = {
        "format": 1,
        "case": "c5ca1b1a-31a5-4d3c-9d6d-5f0d8f0a7e55",
        "guest": GUEST,
        "moment": MOMENT,
        "made_ns": 1_700_000_000_123_456_789,
        "seed": 42,
        "control": "control",
        "variants": {"B": Asked("script", f"echo '{EVIL}'", "cd" * 32), "control": NOTHING},
        "workload": Asked("script", "make", "ef" * 32),
        "until": NOTHING,
        "measures": {"load": Asked("script", "cat /proc/loadavg", "01" * 32)},
        "repeats": 4,
        "at_once": 2,
        "timeout": 3.0,
        "keep": "captures",
        "versions": {"python": "3.11"},
        "runs": tuple(sorted(runs or [*control, *other], key=lambda run: run.position)),
    }
    return Document(**{**told, **changed})  # type: ignore[arg-type]


def assert_nothing_left(case: Case) -> None:
    """No clone, no domain of one, no directory."""
    names = {guest.name for guest in case.hypervisor.guests()}
    assert case.clones() == []
    assert not [name for name in names if name.startswith(f"{case.guests()[0].name}-clone-")]
    clones = case.path / "clones"
    assert [path for path in clones.glob("*") if path.is_dir()] == []
