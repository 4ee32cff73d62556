"""Apply a change to a guest that runs: a script, files, or a function that is given the guest's inside.

Refuses what is none of these, before anything is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import UsageError
from workbench.inside.doors import Inside

__all__ = ["Variant", "apply_variant", "refuse_no_variant"]

Variant = None | str | Path | Mapping[str, bytes | Path] | Callable[[Inside], Any]


def refuse_no_variant(variant: object) -> None:
    """Raise `UsageError` for what cannot be applied."""
    if isinstance(variant, Path) and not variant.is_file():
        raise UsageError("the variant's script is no file", path=str(variant))
    if variant is not None and not isinstance(variant, str | Path | Mapping) and not callable(variant):
        raise UsageError("a variant is a script, files or a function", found=type(variant).__name__)


def apply_variant(inside: Inside, variant: Variant, timeout: float) -> None:
    """Apply it.

    Parameters
    ----------
    variant : str, Path, mapping, callable or None
        A script for `sh`; a file of the host with one; paths in the guest and their content; a function.
    timeout : float
        Seconds for a script.

    Raises
    ------
    CommandError, GuestError
        If a script does not end with 0, or a file cannot be put.
    Exception
        Whatever the function raises.
    """
    if variant is None:
        return
    if isinstance(variant, str):
        inside.run(variant, timeout=timeout).check()
    elif isinstance(variant, Path):
        inside.run(variant.read_text(), timeout=timeout).check()
    elif isinstance(variant, Mapping):
        for path, data in variant.items():
            inside.put(path, data)
    else:
        variant(inside)
