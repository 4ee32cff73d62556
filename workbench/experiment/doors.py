"""What the one door gives its Case of this room: make an experiment, and find those that were made.

Refuses to run anything before all of it was understood: a wrong word costs no clone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from workbench.progress import Progress, silent

if TYPE_CHECKING:
    from workbench.experiment.result import Experiment
    from workbench.rewind.network import Network

__all__ = ["ExperimentsOfCase"]


class ExperimentsOfCase:
    """Experiments of a case."""

    def experiment(
        self,
        moment: Any,
        variants: Mapping[str, Any],
        *,
        repeats: int = 5,
        measure: Mapping[str, str | Callable[[Any], object]] | None = None,
        workload: str | Callable[[Any], object] | None = None,
        until: float | str | re.Pattern[str] | Callable[[Any], object] | None = None,
        timeout: float = 300.0,
        control: str | None = None,
        at_once: int | None = None,
        seed: int | None = None,
        keep: Literal["captures", "none"] = "captures",
        save: bool = True,
        network: bool | Network = "none",
        clone_options: Mapping[str, Any] | None = None,
        guest: str | None = None,
        progress: Progress = silent,
    ) -> Experiment:
        """Start clones of one moment, make each a variant, let all do the same work, and compare what was measured.

        Each run is: a clone, the variant, the work, `until`, the measures, a capture; then the clone is gone. Runs are
        drawn in blocks from the seed. A run that fails or hangs is a result. Callables get the clone and run in
        threads; one that never returns is left behind when its time is over.

        Parameters
        ----------
        moment : Moment or str
        variants : mapping of str to None, str, Path, callable or mapping
            None leaves the clone as it is; text is a shell script that runs in it; a Path is a script's file; a
            mapping of absolute guest paths to bytes, text or Path puts files.
        repeats : int
            Runs of each variant. 3 against 3 can give no p below 0.1; 5 against 5 reach 0.008.
        measure : mapping of str to str or callable
            A shell command whose last line is a number, or what gives a number, a text or a mapping of these. The
            seconds of the work are always in `runs`.
        workload : str or callable, optional
            A shell command, which has to end with 0, or a callable.
        until : float, str, re.Pattern or callable, optional
            After the work: seconds, a pattern on the console, or what is asked again and again until it is true.
        timeout : float
            Seconds of one run from its first instruction to its last measure; what takes longer is "hung".
        control : str, optional
            The variant that the others are compared with: by default "control", else the one that is None, else the
            first.
        at_once : int, optional
            Clones at the same time; by default as many as memory and processors allow.
        seed : int, optional
            By default drawn; the experiment says it.
        keep : {"captures", "none"}
            Capture each clone as it ends: `files`, `processes` and the like need that.
        save : bool
            Keep the experiment in the case.
        network : {"none", "as-guest", "shared"}
            "shared": all clones are on one private segment, each with a name and address of its own, and
            `Experiment.packets` has what they sent; those meet that run at once (`at_once`).
        clone_options : mapping, optional
            Further keywords of `Case.start_clone`: identity, clock.

        Raises
        ------
        UsageError
            Nothing was started.
        MomentNotFoundError, AmbiguousMomentError, StoreError
        """
        from workbench.experiment.making import Request, make
        from workbench.experiment.wire import options_of

        found = moment if not isinstance(moment, str) else self.moment(moment, guest)
        asked = Request.of(
            variants=variants,
            measures=measure or {},
            workload=workload,
            until=until,
            repeats=repeats,
            timeout=timeout,
            control=control,
            seed=seed,
            keep=keep,
        )
        options = options_of(network, clone_options or {})
        return make(self, found, asked, at_once, save=save, options=options, progress=progress)

    def experiments(self) -> pd.DataFrame:
        """Return the experiments that the case keeps, oldest first.

        Returns
        -------
        DataFrame
            id (str), made (datetime64[us, UTC]), guest, moment, variants (str), runs, ok (Int64), note (str: why one
            cannot be read).

        Raises
        ------
        StoreError
        """
        from workbench.experiment.making import listing

        return listing(self)

    def open_experiment(self, identity: str) -> Experiment:
        """Return an experiment that the case keeps, by its id or the beginning of it.

        Raises
        ------
        UsageError
            If there is none, or more than one.
        DamagedError, FormatError
            If it is not what was written, or makes no sense.
        """
        from workbench.experiment.making import reopened

        return reopened(self, identity)

    def moment(self, when: str = "latest", guest: str | None = None) -> Any:
        """Return the moment that `when` names."""
        raise NotImplementedError
