"""What `Moment` and `Diff` offer of memory and disks together; `case.py` gives them these as base classes.

Thin: a method is a question to the case's analyst. Refuses to hide that one half of an answer is missing.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from workbench.errors import WorkbenchError
from workbench.inquiry.analysis import Analyst
from workbench.model import CaptureId

__all__ = ["InstantOfDiff", "InstantOfMoment"]

_QUESTION = "workbench.instant.altered_code"


class InstantOfMoment:
    """Questions that need memory and disks of one moment."""

    _analyst: Analyst
    id: CaptureId

    def altered_code(self) -> pd.DataFrame:
        """Return code that processes execute and that the disk does not have so, though nothing waits to be written.

        Returns
        -------
        DataFrame
            As `Diff.findings`; `attrs` has "compared" and "not_compared" (pages, and why not).

        Raises
        ------
        AnalysisError, SymbolsError, StoreError
            If memory or disks cannot be read.
        """
        return self._analyst.ask(self.id, _QUESTION, {}).told()


class InstantOfDiff:
    """What is suspicious between two moments."""

    a: Any
    b: Any

    def findings(self) -> pd.DataFrame:
        """Return what is suspicious about the pages that changed, with reasons and evidence.

        Changed pages are held against the page cache, and code against the disk of the later moment too; what the
        disk did not have so at the earlier moment already is no news.

        Returns
        -------
        DataFrame
            finding, weight ("high", "low"), pfn, address, whose it is, reason, evidence. `attrs["error"]` says what
            could not be compared.
        """
        found: pd.DataFrame = self.b.vol("workbench.findings", against=self.a.id)
        told = dict(found.attrs)
        try:
            code = self.b.altered_code()
            known = self.a.altered_code() if len(code) else code
        except WorkbenchError as error:
            lacking = f"code was not compared with the disk: {error.message}"
        else:
            found = _joined(found, code, known)
            lacking = str(code.attrs["error"])
        found.attrs |= told
        found.attrs["error"] = "; ".join(filter(None, (str(told.get("error", "")), lacking)))
        return found


def _joined(found: pd.DataFrame, code: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return findings of memory and those of the disk that are new; copies that the disk vouches for are none."""
    same = (found["finding"] == "executable_copy_unverified") & found["pfn"].isin(code.attrs["same"])
    found = found[~same]
    told = set(found.loc[found["finding"] == "executable_copy_differs", "pfn"])
    old = set(zip(known["path"], known["file_offset"], known["evidence"], strict=True))
    places = zip(code["path"], code["file_offset"], code["evidence"], code["pfn"], strict=True)
    fresh = [(path, at, words) not in old and frame not in told for path, at, words, frame in places]
    if not any(fresh):
        return found.reset_index(drop=True)
    return pd.concat([found, code[fresh]], ignore_index=True).sort_values(
        ["weight", "finding", "address"], ignore_index=True
    )
