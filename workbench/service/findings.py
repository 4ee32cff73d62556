"""What becomes of what was found in an increment: the capture that it is of is marked, where the gate lets it pass.

Nothing is captured for it: the state is in that capture already. Refuses to act without a line in the audit log.
"""

from __future__ import annotations

from workbench.capture.triggers.event import Event
from workbench.errors import WorkbenchError
from workbench.service.acts import Acts
from workbench.service.keeper import Keeper
from workbench.service.lookback import mark_before, mark_name

__all__ = ["Findings"]


class Findings(Acts):
    """Marks for findings."""

    def _examined(self, keeper: Keeper, event: Event, capture: str) -> None:
        """Mark the capture that an increment's finding is of, and those before it, where the gate lets it pass.

        Raises
        ------
        StoreError, UsageError
            What is not marked stands in the audit log.
        """
        if not self._decide(keeper, event).passes:
            return
        who, guest = f"trigger:{event.source}", keeper.configuration.guest
        told = {"guest": guest, "name": event.name, "capture": capture}
        self.audit.add(who, "event", "asked", **told, reason=event.reason)
        try:
            with self.case() as case:
                moment = case.moment(f"id:{capture}", keeper.identity[0] if keeper.identity else guest)
                case.mark(mark_name(event), moment, kind=event.facts["kind"], note=event.reason)
                mark_before(case.store, moment.guest.id, event, moment.id, keeper.configuration.triggers.look_back_s)
        except WorkbenchError as error:
            self.audit.add(who, "event", "failed", **told, told=error.message)
            raise
        self.audit.add(who, "event", "done", **told)
