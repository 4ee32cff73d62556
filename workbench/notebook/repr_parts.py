"""What pictures of our objects are made of: a title and a body, where something lies in a case, the fields of a record.

Refuses to show a field that its class keeps out of its repr: a login has a password.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from workbench.notebook.history import read_history
from workbench.notebook.picture import as_image, timeline_picture
from workbench.notebook.text import inert, markup, table, when

__all__ = ["ROWS", "SHORT", "fields_html", "said", "titled", "where"]

SHORT = 12
ROWS = 100
_PICTURED = 20_000
"""Captures up to which a repr reads the records for a picture; past it the listing has to do."""
_SOME = 8


def titled(title: str, body: str) -> str:
    """Return a title with what it is of."""
    return f'<div class="wb-repr"><p><strong><bdi>{markup(title, 300)}</bdi></strong></p>{body}</div>'


def where(case: Any, chosen: tuple[str, ...], captures: int | None = None) -> str:
    """Return the picture of a case's timeline, or the words that it is too long for one."""
    if captures is None:
        captures = sum(len(case.store.captures(guest.id)) for guest in case.guests())
    if captures > _PICTURED:
        return f"<p>{captures:,} captures: `%wb timeline` draws them.</p>"
    return as_image(timeline_picture(read_history(case), chosen), f"timeline of {captures} captures")


def said(data: bytes, title: str, longest: int = 2000) -> str:
    """Return what a guest said as text, its lines kept, inert; "" where it said nothing."""
    lines = data[: 4 * longest].decode("utf-8", "backslashreplace")[:longest].splitlines()
    if not data:
        return ""
    shown = "\n".join(f"<bdi>{markup(line, 300)}</bdi>" for line in lines)
    more = f"<p>{len(data):,} bytes in all.</p>" if len(data) > longest else ""
    return f"<p>{markup(title)}</p><pre>{shown}</pre>{more}"


def fields_html(thing: Any) -> str:
    """Show a record by its public fields."""
    rows: list[tuple[object, ...]] = [
        (each.name, _value(getattr(thing, each.name)))
        for each in dataclasses.fields(thing)
        if each.repr and not each.name.startswith("_")
    ]
    return titled(type(thing).__name__, table(rows))


def _value(value: Any) -> str:
    """Return the value of a field in words: records of captures by time and id, long ones by their length."""
    if hasattr(value, "time_ns") and hasattr(value, "id"):
        return f"{value.id[:SHORT]}, {when(value.time_ns)}"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, Mapping):
        return ", ".join(f"{inert(key, 40)}: {inert(each, 40)}" for key, each in list(value.items())[:_SOME]) or "-"
    if isinstance(value, tuple | list):
        told = ", ".join(_value(each) for each in value[:_SOME])
        return f"{told} and {len(value) - _SOME} more" if len(value) > _SOME else told or "-"
    if callable(value):
        return getattr(value, "__qualname__", None) or type(value).__name__
    return "-" if value is None or value == "" else str(value)
