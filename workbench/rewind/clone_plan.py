"""What a clone shall be, held against its moment before anything is started.

Refuses what cannot be meant, and a guest that was started with files that are not on this host: a case holds its
memory, devices and disks, and no kernel that libvirt gave it from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

from workbench.capture.session import XML
from workbench.errors import UnsupportedError
from workbench.rewind.identity import Change, Clock, Identity, plan_change
from workbench.rewind.network import Network, network_of
from workbench.store import CaptureView

__all__ = ["ClonePlan", "plan_clone"]

_STARTED_WITH = ("kernel", "initrd", "dtb", "loader")
"""Elements of `os` whose text is a file: libvirt, "Domain XML format", "Operating system booting"."""


@dataclass(frozen=True, slots=True)
class ClonePlan:
    """What was asked of a clone, and can be done.

    Attributes
    ----------
    network : Network
    segment : str
        Empty where it is on none.
    change : Change
        What has to be carried out in it.
    """

    network: Network
    segment: str
    change: Change


def plan_clone(
    view: CaptureView,
    *,
    network: bool | Network = "none",
    segment: str | None = None,
    identity: Identity | Literal["new"] | None = None,
    clock: Clock = "kept",
) -> ClonePlan:
    """Return what a clone of a moment shall be; for the parameters see `start_clone`.

    Raises
    ------
    UsageError
        If it cannot be meant.
    UnsupportedError
        If the guest of that moment does not allow it.
    """
    xml = view.region(XML).open().read().decode()
    wanted = network_of(network, segment)
    change = plan_change(identity, clock, xml, shared=wanted == "shared")
    _refuse_missing_files(xml)
    return ClonePlan(wanted, segment or "shared" if wanted == "shared" else "", change)


def _refuse_missing_files(xml: str) -> None:
    domain = ET.fromstring(xml)
    for name in _STARTED_WITH:
        file = domain.findtext(f"./os/{name}")
        if file and not _is_there(Path(file)):
            raise UnsupportedError(
                f"the guest was started with a {name} that is not on this host, and a case does not hold it",
                file=file, cure="Put that very file there. Analyses of the moment need none.",
            )  # fmt: skip


def _is_there(path: Path) -> bool:
    """Tell whether there is such a file; also where we may not look, and QEMU's user may."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        return True
    return True
