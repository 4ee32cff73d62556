"""What `capture` and `watch` share: the words of a recording, and a capture in one line."""

from __future__ import annotations

import argparse
from typing import Any

import pandas as pd

from workbench.model import CaptureRecord

__all__ = ["add_words", "brief", "line", "options"]


def add_words(parser: argparse.ArgumentParser) -> None:
    """Add the words that say how to record."""
    parser.add_argument("name", metavar="GUEST", help="name or UUID of a running guest")
    parser.add_argument("--tracker", choices=("userfaultfd", "soft-dirty", "compare"), help="insist on a tracker")
    parser.add_argument("--audit", action="store_true", help="prove in every pause that no page was missed (slow)")
    parser.add_argument(
        "--allow-own-volume", action="store_true", help="accept a case that lies in the guest's own volumes"
    )


def options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the recording's options."""
    names = ("tracker", "audit", "allow_own_volume")
    return {name: getattr(arguments, name) for name in names}


def brief(record: CaptureRecord) -> dict[str, Any]:
    """Return a capture in a few values."""
    facts = record.facts
    return {
        "id": record.id,
        "time": pd.Timestamp(record.time_ns, unit="ns", tz="UTC").isoformat(),
        "mode": str(record.mode),
        "pause_ms": facts["pause_ns"] / 1e6,
        "dirty_pages": facts["dirty_pages"],
        "dirty_clusters": facts["dirty_clusters"],
        "stored_bytes": facts["stored_bytes"],
        "tracker": facts["tracker"],
    }


def line(record: CaptureRecord) -> str:
    """Return a capture in one line of text."""
    known = brief(record)
    clock = pd.Timestamp(record.time_ns, unit="ns", tz="UTC").strftime("%H:%M:%S.%f")[:-3]
    return (
        f"{clock}Z  {record.id[:12]}  {known['mode']:<10}  pause {known['pause_ms']:6.1f} ms  "
        f"{known['dirty_pages']:>7} pages  {known['dirty_clusters']:>5} clusters  {known['stored_bytes'] / 1e3:8.1f} kB"
    )
