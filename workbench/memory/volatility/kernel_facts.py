"""What a moment's kernel is, and where its symbols are. Refuses to say more than was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from workbench.memory.questions import Scene

__all__ = ["kernel_facts"]


def kernel_facts(scene: Scene) -> pd.DataFrame:
    """Return one row about the kernel.

    Returns
    -------
    DataFrame
        release, banner, build (string: key of the symbol table), shift (UInt64, bytes by which KASLR moved it),
        page_table_root (UInt64, physical), levels (Int64), vmcoreinfo (string: whether its own note "agrees",
        "differs" or is "absent"), symbols (string, path of the table).
    """
    kernel = scene.sight.kernel
    row = {
        "release": kernel.release,
        "banner": kernel.banner.decode("latin-1").rstrip("\n\0"),
        "build": kernel.build,
        "shift": kernel.shift,
        "page_table_root": kernel.page_table_root,
        "levels": kernel.levels,
        "vmcoreinfo": kernel.vmcoreinfo,
        "symbols": str(scene.sight.symbols),
    }
    kinds = {"shift": "UInt64", "page_table_root": "UInt64", "levels": "Int64"}
    return pd.DataFrame([row]).astype({name: kinds.get(name, "string") for name in row})
