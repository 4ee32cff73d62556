"""The demo guest: a small Debian guest that plants its own truth, built and booted without root's help.

`DemoGuest.boot(DemoSpec(...))` gives a running libvirt guest that answers commands, tells its health, makes load and
plays a scripted intrusion, each act logged with the guest's own time. Demonstrations, tests and benchmarks use it.

Refuses to know how captures and rewinds work; only the demonstration (`__main__.py`) goes through the one door.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.demo.domain import DemoSpec, domain_xml
    from workbench.demo.guest import DemoGuest
    from workbench.demo.image import DemoImage, build_demo_image
    from workbench.demo.intrusion import STEPS, Step, play
    from workbench.demo.supervisor import Health, RunResult, Supervisor

__all__ = [
    "STEPS",
    "DemoGuest",
    "DemoImage",
    "DemoSpec",
    "Health",
    "RunResult",
    "Step",
    "Supervisor",
    "build_demo_image",
    "domain_xml",
    "play",
]

_WHERE = {
    "STEPS": "intrusion",
    "DemoGuest": "guest",
    "DemoImage": "image",
    "DemoSpec": "domain",
    "Health": "supervisor",
    "RunResult": "supervisor",
    "Step": "intrusion",
    "Supervisor": "supervisor",
    "build_demo_image": "image",
    "domain_xml": "domain",
    "play": "intrusion",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: `python -m workbench.demo.image` needs no libvirt."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
