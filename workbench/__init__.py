"""The rewind workbench: journal QEMU/libvirt guests and go back to any moment of them.

A capture is memory, devices and disks of one instant; a rewind takes a guest back to one, a clone starts a copy there.

The map of the house, a room per verb; imports only go downward:

bench       measures captures, rewinds and the store
demo        a small guest that plants its own truth
cli         one module per verb
notebook    what an analyst sees and touches in JupyterLab: widgets, pictures, magics
server      the REST service's face: HTTP and nothing else
service     all day long: keepers of guests, configuration, tokens, the audit log
remote      a service's case from afar: the same Case, read over HTTP, acted on by the service
case        the one door: what notebooks, server and command line all use
experiment  clones of one moment, A against B: the same work in each, and what came of it
evidence    what is handed over: reports that can be run again and come out the same
replay      the past again: find when something came about, run what was recorded once more
trial       a guest itself taken back with a change, kept only if somebody says so in time
rewind      store to guest: plan, in place, clone
inside      commands and files in a guest that runs, by its agent or its console
instant     memory and disks of one instant together: files as the guest would have read them
memory      what a moment's memory says: Volatility, lifelines, page owners
disk        what a moment's disks say: files as they were, and which changed
inquiry     questions put to captures: workers, kept answers, what they say over time
timeline    choose a moment
capture     guest to store: the pause, baseline, schedule
store       never heard of guests: format, packs, check, prune
guest       talks to a live guest: monitor, memory, dirty pages, disks
progress    one stream of progress events; nobody below a front end prints
errors      one tree of errors, by what the caller can do next
model       frozen records

Refuses to import a room before it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.case import Case, Clone, Diff, Moment, Recording, RewindPlan, Rewound, doctor, running_guests
    from workbench.errors import WorkbenchError
    from workbench.remote import connect

__version__ = "0.1.0"

__all__ = [
    "Case",
    "Clone",
    "Diff",
    "Moment",
    "Recording",
    "RewindPlan",
    "Rewound",
    "WorkbenchError",
    "__version__",
    "app",
    "connect",
    "doctor",
    "running_guests",
]  # fmt: skip  # most important first

_ROOMS = {"WorkbenchError": "workbench.errors", "connect": "workbench.remote"}


def __getattr__(name: str) -> object:
    """Import a public name when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ROOMS.get(name, "workbench.case")), name)


def app(case: Case, guest: str | None = None) -> Any:
    """Return the dashboard of a case for a notebook: its timeline, and in tabs what there is of the chosen moment.

    Parameters
    ----------
    case : Case
    guest : str, optional
        Name or UUID of the only guest that is shown.

    Raises
    ------
    UsageError
        If there is no such guest.
    StoreError
    """
    return importlib.import_module("workbench.notebook.app").App(case, guest)


def load_ipython_extension(ipython: object) -> None:
    """Give a notebook the pictures of our objects and `%wb`; for `%load_ext workbench`."""
    importlib.import_module("workbench.notebook.magics").load(ipython)


def __dir__() -> list[str]:
    return sorted(__all__)
