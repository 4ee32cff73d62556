"""Widgets that show one moment, and follow what is chosen elsewhere.

A widget with a settable `moment` follows a timeline: a drag there is a new target here. Refuses to do anything to a
guest by itself: what follows is a target, and a button acts.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Protocol

from workbench.errors import WorkbenchError
from workbench.notebook.text import inert, when

if TYPE_CHECKING:
    from workbench.case import Moment
    from workbench.notebook.timeline import Timeline

__all__ = ["Follower", "follow", "moment_words"]


class Follower(Protocol):
    """A widget that shows one moment."""

    moment: Moment | None


def follow(follower: Follower, timeline: Timeline) -> None:
    """Let a widget show what a timeline has chosen, now and whenever that changes; nothing chosen changes nothing."""
    whose = weakref.ref(follower)

    def heed(_change: Any = None) -> None:
        here = whose()
        if here is None:
            timeline.unobserve(heed, "selected")
            return
        try:
            chosen = timeline.selected_moment
        except WorkbenchError as error:
            timeline.said = inert(error, 400)
            return
        if chosen is not None:
            here.moment = chosen

    timeline.observe(heed, "selected")
    heed()


def moment_words(moment: Moment) -> str:
    """Return a moment in words: whose, when, its id's first digits; inert."""
    return f"{inert(moment.guest.name, 80)} at {when(moment.record.time_ns)} ({moment.id[:12]})"
