"""Take away whatever of ours is left in a QEMU: jobs, exports, nodes, bitmaps, descriptors.

Everything that we make begins with `rwb-`; nothing else is touched. For the guard after a killed process, and for a
new session before it begins. Every step is tried, whatever the others said.
"""

from __future__ import annotations

import contextlib
from typing import Any

from workbench.errors import GuestError
from workbench.guest.monitor import PREFIX, Monitor

__all__ = ["drop_descriptors", "find_leftovers", "sweep"]


def find_leftovers(monitor: Monitor) -> list[str]:
    """Return what of ours is in this QEMU, as "kind name"; empty where it is as nobody had touched it."""
    found = [f"job {each['id']}" for each in monitor.execute("query-jobs") if each["id"].startswith(PREFIX)]
    found += [
        f"export {each['id']}" for each in monitor.execute("query-block-exports") if each["id"].startswith(PREFIX)
    ]
    for node in monitor.execute("query-named-block-nodes", flat=True):
        if node["node-name"].startswith(PREFIX):
            found.append(f"node {node['node-name']}")
        for bitmap in node.get("dirty-bitmaps", []):
            if bitmap.get("name", "").startswith(PREFIX):
                found.append(f"bitmap {node['node-name']}/{bitmap['name']}")
    found += [f"fdset {each['fdset-id']}" for each in monitor.execute("query-fdsets") if _is_ours(each)]
    return found


def _is_ours(fdset: dict[str, Any]) -> bool:
    return any(each.get("opaque") == PREFIX for each in fdset["fds"])


def sweep(monitor: Monitor) -> list[str]:
    """Take it all away and return what was found; descriptors go when the guest runs, if it stands still now.

    Raises
    ------
    GuestError
        If the monitor does not answer, or something of ours cannot be taken away.
    """
    found = find_leftovers(monitor)
    for kind, name in (each.split(" ", 1) for each in found):
        with contextlib.suppress(GuestError):
            _remove(monitor, kind, name)
    left = [each for each in find_leftovers(monitor) if not each.startswith("fdset ")] if found else []
    if left:
        raise GuestError(
            "these of ours could not be taken out of QEMU", left=left, cure="Restart the guest when it suits"
        )
    return found


def drop_descriptors(monitor: Monitor) -> None:
    """Take away our descriptors that were given back during a pause: QEMU closes them only while the guest runs."""
    for fdset in monitor.execute("query-fdsets"):
        if _is_ours(fdset):
            with contextlib.suppress(GuestError):
                monitor.execute("remove-fd", fdset_id=fdset["fdset-id"])


def _remove(monitor: Monitor, kind: str, name: str) -> None:
    if kind == "job":
        with contextlib.suppress(GuestError):
            monitor.execute("block-job-cancel", device=name, force=True)
        with contextlib.suppress(GuestError):
            monitor.wait_job(name, timeout=10)
    elif kind == "export":
        monitor.execute("block-export-del", id=name, mode="hard")
    elif kind == "node":
        monitor.execute("blockdev-del", node_name=name)
    elif kind == "bitmap":
        node, bitmap = name.rsplit("/", 1)
        monitor.execute("block-dirty-bitmap-remove", node=node, name=bitmap)
    elif kind == "fdset":
        monitor.execute("remove-fd", fdset_id=int(name))
