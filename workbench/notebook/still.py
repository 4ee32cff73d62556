"""What stands where a widget cannot: a report, an export, a notebook that is not trusted.

A `Still` widget says what it shows as HTML made of inert texts and images. Where the environment variable
`WORKBENCH_STATIC` is set, that is all it shows. Refuses to leave a blank.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from workbench.notebook.text import markup

__all__ = ["STATIC", "Still", "replace_children", "still_of"]

STATIC = "WORKBENCH_STATIC"
"""Environment variable: set, widgets show their still only."""


class Still:
    """Mixin, before the widget's class: adds the still to what IPython is told of the widget."""

    def still(self) -> str:
        """Return what it shows as HTML: no element of a guest's making, nothing that asks the network."""
        return f"<p>{markup(repr(self))}</p>"

    def _repr_mimebundle_(self, **asked: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        still = {"text/plain": repr(self), "text/html": self.still()}
        if os.environ.get(STATIC):
            return still, {}
        told = super()._repr_mimebundle_(**asked)  # type: ignore[misc]
        data, metadata = told if isinstance(told, tuple) else (told or {}, {})
        return {**data, **still}, metadata


def still_of(widget: Any) -> str:
    """Return the still of a widget; of one that holds others (a box, tabs), those of what it holds, in turn."""
    if isinstance(widget, Still) and type(widget).still is not Still.still:
        return widget.still()
    return "".join(still_of(each) for each in getattr(widget, "children", ()))


def replace_children(box: Any, children: Sequence[Any]) -> None:
    """Show other widgets in a box, and end those that were there: kernel and page would keep them for good."""
    before, box.children = box.children, tuple(children)
    for each in before:
        for part in (getattr(each, "style", None), getattr(each, "layout", None), each):
            if part is not None:
                part.close()
