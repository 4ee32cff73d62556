"""The seam to libvirt's Python binding, which is imported when something of it is first used.

Reading a case needs no libvirt, and the binding is built against the system's: so it is an extra. Every name of
`libvirt` and `libvirt_qemu` is a name of this module. Refuses to be needed for reading.
"""

from __future__ import annotations

import importlib
from typing import Any

from workbench.errors import UnsupportedError

_BINDING = ("libvirt", "libvirt_qemu")
_CURE = (
    "Install it: pip install 'rewind-workbench[guest]'. pip builds it, which takes a C compiler, pkg-config and the "
    "headers of Python and libvirt (Debian: gcc pkg-config python3-dev libvirt-dev), and a guest takes QEMU and "
    "libvirt (Debian: qemu-system-x86 qemu-utils libvirt-daemon-system). Reading a case needs none of it"
)


class _NeverRaisedError(Exception):
    """Stands for libvirt's error where there is no libvirt: a handler that names it lets every other error through."""


def __getattr__(name: str) -> Any:
    """Return what the binding calls by this name.

    Raises
    ------
    UnsupportedError
        If the binding is not installed, or finds no libvirt.
    AttributeError
        If it has no such name.
    """
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        modules = [importlib.import_module(each) for each in _BINDING]
    except ImportError as error:
        if name == "libvirtError":
            return _NeverRaisedError
        raise UnsupportedError("libvirt's Python binding is not here", why=str(error), cure=_CURE) from error
    for module in modules:
        if hasattr(module, name):
            return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"libvirt's Python binding has no {name!r}", name=name, obj=modules[0])
