"""A rewind from a page: its plan first, then a button, for production the guest's name, and the way back.

Everything is asked of the case; this shows. Refuses to touch the guest itself before its name was typed: a page can be
clicked by accident.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import ipywidgets

from workbench.errors import UsageError
from workbench.notebook.following import follow, moment_words
from workbench.notebook.reprs import plan_html
from workbench.notebook.still import Still
from workbench.notebook.text import inert
from workbench.notebook.work import Work
from workbench.progress import Progress, ProgressEvent

if TYPE_CHECKING:
    from workbench.case import Clone, Moment, Recording, RewindPlan, Rewound
    from workbench.notebook.timeline import Timeline

__all__ = ["RewindButton"]

_MODES = [("Test: a clone beside the guest", "test"), ("Production: the guest itself", "production")]


class RewindButton(Still, ipywidgets.VBox):  # type: ignore[misc]
    """Plan a rewind, do it, undo it.

    Parameters
    ----------
    moment : Moment, optional
        Where to; may be set later, and follows a timeline with `follow`.
    mode : {"test", "production"}
    recording : Recording, optional
        The open recording of the guest, where this process has one: production goes through it.

    Attributes
    ----------
    plan : RewindPlan or None
        What the button would do.
    result : Rewound or Clone or None
        What it did last.
    """

    def __init__(
        self,
        moment: Moment | None = None,
        mode: Literal["test", "production"] = "test",
        *,
        recording: Recording | None = None,
    ) -> None:
        self._moment: Moment | None = None
        self._recording = recording
        self._timeline: Timeline | None = None
        self.plan: RewindPlan | None = None
        self.result: Rewound | Clone | None = None
        self.mode = ipywidgets.Dropdown(options=_MODES, value=mode, description="Mode", layout={"width": "24em"})
        self.confirm = ipywidgets.Text(
            description="Its name", placeholder="type the guest's name", continuous_update=True
        )
        self.go = ipywidgets.Button(description="Rewind", button_style="warning", disabled=True)
        self.undo = ipywidgets.Button(description="Undo the last rewind", layout={"width": "auto"}, disabled=True)
        self.shown = ipywidgets.HTML()
        self.said = ipywidgets.Label()
        self.work = Work()
        row = ipywidgets.HBox([self.mode, self.confirm, self.go, self.undo], layout={"flex_flow": "row wrap"})
        self.go.layout.flex = self.undo.layout.flex = "0 0 auto"
        super().__init__([self.shown, row, self.work, self.said])
        self.mode.observe(lambda _change: self._show_plan(), "value")
        self.confirm.observe(lambda _change: self._allow(), "value")
        self.go.on_click(lambda _button: self.rewind())
        self.undo.on_click(lambda _button: self.plan_undo())
        self.moment = moment

    def __repr__(self) -> str:
        return f"<RewindButton to {moment_words(self._moment) if self._moment else 'no moment'}>"

    def still(self) -> str:
        """Return the plan."""
        return plan_html(self.plan) if self.plan else "<p>No moment is chosen.</p>"

    @property
    def moment(self) -> Moment | None:
        """Where to."""
        return self._moment

    @moment.setter
    def moment(self, moment: Moment | None) -> None:
        self._moment = moment
        self._show_plan()

    def follow(self, timeline: Timeline) -> Self:
        """Rewind to what a timeline has chosen."""
        self._timeline = timeline
        follow(cast("Any", self), timeline)
        return self

    # Plans.

    def _show_plan(self) -> None:
        """Plan anew, off the main thread: it compares two captures."""
        self._show(None)
        moment, mode = self._moment, self.mode.value
        if moment is not None:
            self.work.run("planning", lambda _progress: moment.case.plan_rewind(moment, mode), self._show)

    def plan_undo(self) -> None:
        """Show the plan that undoes the guest's last rewind; the button then does it."""
        moment = self._moment
        if moment is not None:
            self._show(None)
            self.work.run("planning", lambda _progress: moment.case.plan_undo(moment.guest.id), self._show)

    def _show(self, plan: RewindPlan | None) -> None:
        self.plan = plan
        self.shown.value = self.still().replace("<img ", '<img style="max-width:100%;height:auto" ')  # fits the cell
        self.confirm.layout.display = "" if plan and plan.mode == "production" else "none"
        self.confirm.value = ""
        self._allow()

    def _allow(self) -> None:
        plan = self.plan
        named = plan is not None and (plan.mode == "test" or self.confirm.value == plan.guest_name)
        self.go.disabled = not named
        self.undo.disabled = self._moment is None
        self.said.value = (
            ""
            if plan is None or named
            else f"The guest itself is changed: type its name, {inert(plan.guest_name, 80)}."
        )

    # Deeds.

    def rewind(self) -> None:
        """Do what the plan says.

        Raises
        ------
        UsageError
            If there is no plan, or the guest's name was not typed.
        """
        plan = self.plan
        if plan is None or self.go.disabled:
            raise UsageError("nothing that may be done is planned", cure="Choose a moment, and type the guest's name")
        self.go.disabled = True
        confirm = self.confirm.value
        self.work.run("rewinding", lambda progress: self._rewind(plan, confirm, progress), lambda _result: None)

    def _rewind(self, plan: RewindPlan, confirm: str, progress: Progress) -> None:
        assert self._moment is not None
        case, in_production = self._moment.case, plan.mode == "production"
        told = _unbroken(progress) if in_production else progress
        try:
            if in_production and self._recording is not None:
                self._tell(plan, self._recording.rewind(plan, confirm=confirm, progress=told))
            else:
                self._tell(plan, case.rewind(plan, confirm=confirm or None, progress=told))
        except BaseException:
            self._allow()
            raise

    def _tell(self, plan: RewindPlan, result: Rewound | Clone) -> None:
        self.result, self.plan = result, None
        self.confirm.value = ""
        self._allow()
        if plan.mode == "production":
            done = cast("Rewound", result)
            words = f"Rewound {done.how}: stood still for {done.downtime_ns / 1e9:.2f} s. It can be undone."
        else:
            words = f"The clone {inert(cast('Clone', result).name, 120)} runs; `.result` is it."
        self.said.value = words
        if self._timeline is not None:
            self._timeline.refresh()


def _unbroken(progress: Progress) -> Progress:
    """Tell of progress, but let no Cancel break off what is done to the guest itself half-way."""

    def told(event: ProgressEvent) -> None:
        with contextlib.suppress(BaseException):
            progress(event)

    return told
