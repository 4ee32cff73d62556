"""Any plugin, and our own questions, from a list that is searched; its arguments as a form made of their kinds.

Refuses to guess what is meant by a value that is not of its kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets
import pandas as pd

from workbench.errors import UsageError
from workbench.notebook.still import replace_children
from workbench.notebook.text import inert

__all__ = ["Asking", "arguments_of", "field_of", "value_of"]

_WIDE = {"width": "34em"}
_STYLE = {"description_width": "12em"}


def arguments_of(row: pd.Series) -> dict[str, tuple[str, str]]:
    """Return the arguments of a row of `Case.plugins`: name -> kind and description."""
    kinds = dict(part.split(": ", 1) for part in str(row["kinds"]).split("; ") if part)
    words, found = str(row["arguments"]), {}
    for name in reversed(kinds):  # a description may hold what separates two of them
        before, _, told = words.rpartition(f"{name}: ")
        found[name] = (kinds[name], told)
        words = before.removesuffix("; ")
    return dict(reversed(found.items()))


def field_of(name: str, kind: str, words: str) -> Any:
    """Return the field of an argument."""
    told = {"description": name, "tooltip": f"{words} ({kind})", "style": _STYLE}
    bare = kind.removesuffix(", needed")
    if bare == "bool":
        return ipywidgets.Checkbox(value=False, layout=_WIDE, **told)
    if bare.startswith("one of "):
        return ipywidgets.Dropdown(options=["", *bare.removeprefix("one of ").split(", ")], layout=_WIDE, **told)
    return ipywidgets.Text(placeholder=f"{kind}{': ' if words else ''}{words}"[:120], layout=_WIDE, **told)


def value_of(name: str, kind: str, given: Any) -> Any:
    """Return what a field's value means, None for nothing.

    Raises
    ------
    UsageError
        If it is not of its kind, or is needed and not there.
    """
    bare, needed = kind.removesuffix(", needed"), kind.endswith(", needed")
    if bare == "bool":
        return True if given else None
    text = str(given).strip()
    if not text:
        if needed:
            raise UsageError(f"{name} is needed", wants=bare)
        return None
    if bare.startswith("list of "):
        return [_one(name, bare.removeprefix("list of "), each) for each in text.replace(",", " ").split()]
    return _one(name, bare, text)


def _one(name: str, kind: str, text: str) -> Any:
    if kind != "int":
        return text
    try:
        return int(text, 0)
    except ValueError as error:
        raise UsageError(f"{name} wants whole numbers, also as 0x...", found=text) from error


class Asking(ipywidgets.VBox):  # type: ignore[misc]
    """The list and the form.

    Parameters
    ----------
    ask : callable
        Gets a plugin's name and its arguments by name.
    tell : callable
        Gets words for the user, where a form is not right.
    """

    def __init__(self, ask: Callable[[str, dict[str, Any]], None], tell: Callable[[str], None]) -> None:
        self._ask, self._tell = ask, tell
        self._known: dict[str, dict[str, tuple[str, str]]] = {}
        self.search = ipywidgets.Text(description="Search", placeholder="part of a name", layout=_WIDE, style=_STYLE)
        self.chosen = ipywidgets.Select(description="Question", rows=8, layout=_WIDE, style=_STYLE)
        self.form = ipywidgets.VBox()
        self._run = ipywidgets.Button(description="Ask", tooltip="Ask this question at the moment", disabled=True)
        self.search.observe(lambda _change: self._found(), "value")
        self.chosen.observe(lambda _change: self._formed(), "value")
        self._run.on_click(lambda _button: self.ask())
        super().__init__([self.search, self.chosen, self.form, self._run])

    def know(self, plugins: pd.DataFrame) -> None:
        """Take what can be asked, as `Case.plugins` gives it."""
        self._known = {str(row["plugin"]): arguments_of(row) for _, row in plugins.iterrows()}
        self._found()

    @property
    def known(self) -> tuple[str, ...]:
        """What can be asked."""
        return tuple(self._known)

    def ask(self) -> None:
        """Ask what the form says."""
        name = self.chosen.value
        if not name:
            return
        try:
            given = {
                key: value_of(key, kind, field.value)
                for (key, (kind, _)), field in zip(self._known[name].items(), self.form.children, strict=True)
            }
        except UsageError as error:
            self._tell(inert(error, 300))
            return
        self._ask(name, {key: value for key, value in given.items() if value is not None})

    def _found(self) -> None:
        words = self.search.value.lower().split()
        fitting = [name for name in self._known if all(word in name.lower() for word in words)]
        kept = self.chosen.value
        self.chosen.options = fitting
        self.chosen.value = kept if kept in fitting else (fitting[0] if fitting else None)

    def _formed(self) -> None:
        takes = self._known.get(self.chosen.value or "", {})
        replace_children(self.form, [field_of(name, kind, words) for name, (kind, words) in takes.items()])
        self._run.disabled = not self.chosen.value
