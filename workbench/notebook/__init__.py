"""What an analyst sees and touches in JupyterLab: widgets, pictures of our objects, magics.

A front end: knows `workbench.case` and the vocabulary, holds no domain logic of its own. Whatever a guest or a
stranger's case made is inert here: `text.inert` escapes it, and a page gets it as text nodes. Refuses to ask anything
of the network.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.notebook.capturing import CapturePanel
    from workbench.notebook.console import CloneConsole
    from workbench.notebook.diffview import DiffView
    from workbench.notebook.explorer import Explorer
    from workbench.notebook.files import FileBrowser
    from workbench.notebook.rewinding import RewindButton
    from workbench.notebook.table import Table
    from workbench.notebook.terminal import Terminal
    from workbench.notebook.timeline import Timeline
    from workbench.notebook.variants import Variants
    from workbench.notebook.work import Work

__all__ = [
    "CapturePanel",
    "CloneConsole",
    "DiffView",
    "Explorer",
    "FileBrowser",
    "RewindButton",
    "Table",
    "Terminal",
    "Timeline",
    "Variants",
    "Work",
]

_WHERE = {
    "CapturePanel": "capturing",
    "CloneConsole": "console",
    "DiffView": "diffview",
    "Explorer": "explorer",
    "FileBrowser": "files",
    "RewindButton": "rewinding",
    "Table": "table",
    "Terminal": "terminal",
    "Timeline": "timeline",
    "Variants": "variants",
    "Work": "work",
}
"""Widgets by name: the module that has each."""


def __getattr__(name: str) -> object:
    """Import a widget when it is asked for: anywidget takes a while."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"workbench.notebook.{_WHERE[name]}"), name)
