"""Our own questions as a list: what each takes and of which kind, as `case.plugins` tells of Volatility's plugins.

Refuses to list what cannot be asked on this host.
"""

from __future__ import annotations

import importlib
import inspect

from workbench.memory.questions import OWN

__all__ = ["own_questions"]

_KINDS = {"bool": "bool", "int": "int", "Sequence[int]": "list of int", "Sequence[str]": "list of text"}


def own_questions(prefix: str = "workbench.") -> list[tuple[str, dict[str, str]]]:
    """Return our questions whose names begin with `prefix`, each with the kinds of its arguments by name."""
    found = []
    for name, place in sorted(OWN.items()):
        module, function = place.split(":")
        try:
            asked = getattr(importlib.import_module(module), function)
        except ImportError:
            continue  # the library that it stands on is not there
        if name.startswith(prefix):
            found.append(
                (name, {each.name: _kind(each) for each in [*inspect.signature(asked).parameters.values()][1:]})
            )
    return found


def _kind(parameter: inspect.Parameter) -> str:
    """Return what an argument wants, in words, by its annotation (a text, as these modules postpone theirs)."""
    kind = _KINDS.get(str(parameter.annotation).removesuffix(" | None"), "text")
    return kind if parameter.default is not inspect.Parameter.empty else f"{kind}, needed"
