"""What views of a difference have in common: a heading, facts before and after, rows that go to the page by pages.

Refuses to send more rows at a time than a page of `size`, and a text that is not inert.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anywidget
import traitlets

from workbench.notebook.still import Still
from workbench.notebook.text import inert, markup, table

__all__ = ["Paged"]

Fact = tuple[object, object, object]


class Paged(Still, anywidget.AnyWidget):
    """Rows of a difference, a page at a time.

    Attributes
    ----------
    heading, note : str
        What is compared; what should be known of it.
    facts : list of list of str
        Name, before, after.
    rows : list of list
        Those of the page that is shown.
    first : int
        Which row of all is the first of `rows`; set from either side, it turns the page.
    total : int
        How many rows there are.
    """

    heading = traitlets.Unicode("").tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    facts = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    rows = traitlets.List(traitlets.List()).tag(sync=True)
    first = traitlets.Int(0).tag(sync=True)
    total = traitlets.Int(0).tag(sync=True)
    size = traitlets.Int(400, min=1).tag(sync=True)

    def fill(self, heading: str, note: str, facts: Sequence[Fact], total: int) -> None:
        """Show something else, from its first row on."""
        with self.hold_sync():
            self.heading, self.note, self.total = inert(heading, 400), inert(note, 600), total
            self.facts = [[inert(each) for each in fact] for fact in facts]
            self.first = 0
            self.rows = self.page(0, self.size)

    def page(self, first: int, count: int) -> list[list[Any]]:
        """Return so many rows from one on, inert."""
        raise NotImplementedError

    def above(self) -> str:
        """Return the heading, the note and the facts as HTML, for the still."""
        told = f"<p><strong><bdi>{markup(self.heading, 400)}</bdi></strong> {markup(self.note, 600)}</p>"
        rows: list[tuple[object, ...]] = [tuple(each) for each in self.facts]
        return told + (table(rows, ("", "before", "after")) if rows else "")

    @traitlets.validate("first")
    def _a_row(self, proposal: Any) -> int:
        return max(0, min(int(proposal["value"]), self.total - 1))

    @traitlets.observe("first")
    def _turned(self, change: Any) -> None:
        self.rows = self.page(change["new"], self.size)
