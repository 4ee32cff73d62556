"""The private segment that clones of an experiment share, and whose every packet is kept.

Each clone is somebody else on it (`identity="new"`): copies of one guest with one address would answer for each other.
Refuses to say of a packet more than its own sender's address: a guest may send under any.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from blake3 import blake3

from workbench.errors import DamagedError, FormatError, StoreError, UsageError
from workbench.experiment.document import Document
from workbench.rewind.network import network_of

__all__ = ["MOST", "options_of", "packets_of", "sealed"]

MOST = 64
"""Clones that fit on a segment."""
_OURS = {"name", "run", "progress", "network", "segment"}
_PATIENCE = 60.0
"""Seconds for a hub to hear that its last clone is gone."""
_LOOK = 0.05
_LARGEST = 1 << 30
"""Bytes of a file of packets that are read: more than a hub writes."""


def options_of(network: bool | str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of `Case.start_clone` for the clones of one experiment.

    Raises
    ------
    UsageError
        If an option is one that the experiment sets itself, or there is no such network.
    """
    if _OURS & set(given):
        raise UsageError(
            "an experiment sets this of its clones itself",
            options=sorted(_OURS & set(given)),
            cure="A network is asked of the experiment: network='shared'.",
        )
    meant = network_of(network)
    if meant != "shared":
        return {"network": meant, **given}
    return {"network": meant, "segment": f"experiment-{secrets.token_hex(8)}", "identity": "new", **given}


def sealed(case: Any, segment: str) -> str:
    """Wait until a segment's hub has ended with its last clone; return the BLAKE3-256 of its file, "" without one."""
    there = case.segment(segment)
    until = time.monotonic() + _PATIENCE
    while there.running and time.monotonic() < until:
        time.sleep(_LOOK)
    there.end()
    return _digest(there.pcap)


def packets_of(case: Any, document: Document, variant: str | None) -> pd.DataFrame:
    """Return the packets of an experiment; see `Experiment.packets`."""
    if not document.segment:
        raise UsageError("the clones of this experiment shared no network", cure="Ask for network='shared'.")
    there = case.segment(document.segment)
    found = _digest(there.pcap)
    if found != document.packets:
        raise DamagedError(
            "the packets are not those of the experiment", path=str(there.pcap), expected=document.packets, found=found
        )
    frame: pd.DataFrame = there.packets()
    senders = {run.identity["mac"]: run for run in document.runs if "mac" in run.identity}
    runs = [senders.get(mac) for mac in frame["source_mac"]]
    # A guest may send under another's address; nothing here can tell.
    frame.insert(1, "variant", pd.Series(["" if run is None else run.variant for run in runs], dtype="str"))
    frame.insert(2, "repeat", pd.Series([None if run is None else run.repeat for run in runs], dtype="Int64"))
    return frame if variant is None else frame[frame["variant"] == variant].reset_index(drop=True)


def _digest(path: Path) -> str:
    """Return the BLAKE3-256 of a file, "" where there is none; a stranger's case may have anything in its place."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > _LARGEST:
                raise FormatError("this is no file of packets", path=str(path), bytes=facts.st_size, limit=_LARGEST)
            told = blake3()
            while piece := file.read(1 << 20):
                told.update(piece)
            return told.hexdigest()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StoreError(f"the packets cannot be read: {error.strerror}", path=str(path)) from error
