"""What `workbench.case` gives its Case of this room: bisection.

Refuses to load what starts clones before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench.progress import Progress, silent
from workbench.store import CaseStore

if TYPE_CHECKING:
    from workbench.replay.bisect import Bisection

__all__ = ["BisectOfCase"]


class BisectOfCase:
    """Find when something came about."""

    store: CaseStore

    def moment(self, when: str = "latest", guest: str | None = None) -> Any:
        """Return the moment that `when` names."""
        raise NotImplementedError

    def bisect(
        self,
        predicate: Callable[[Any], bool],
        between: tuple[Any, Any],
        guest: str | None = None,
        *,
        refine: bool = False,
        progress: Progress = silent,
    ) -> Bisection:
        """Find a capture for which a predicate holds and did not hold at the one before, with few questions.

        Parameters
        ----------
        predicate : callable
            Takes a Moment and returns a bool: `file_exists`, `process_runs`, `plugin_reports`, or one of your own. A
            capture at which it raises an error is passed over and told as unknown.
        between : tuple
            Two moments or names of moments, A and B: it does not hold at A and holds at B, which descends from A.
        refine : bool
            Go on between the two captures found with clones that are run on from the earlier one; see
            `Bisection.refinement`. Takes as long as that interval and some seconds, and leaves captures of the clones
            in the case.

        Returns
        -------
        Bisection
            `first`, `last_before`, `unknown`, `span`, `evaluations`, `refinement`. If the answer turns several times
            between A and B, this is one of the turns. Where refining failed the bisection stands: `refused` says why.

        Raises
        ------
        UsageError
            If B does not descend from A, or the predicate is not as said at one of them.
        MomentNotFoundError, AmbiguousMomentError, StoreError
        """
        from workbench.replay.bisect import bisect_moments
        from workbench.replay.path import path_between

        a, b = (self.moment(each, guest) if isinstance(each, str) else each for each in between)
        path = path_between(self.store, a.id, b.id)
        found = bisect_moments(path, lambda capture: self.moment(capture, b.guest.id), predicate, progress)
        if refine:
            found.refine(predicate, progress)
        return found
