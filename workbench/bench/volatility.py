"""The peer of memory analysis: Volatility's own command line on a raw dump of the same moment.

jsonschema is hidden from it, as where Volatility is installed without its extras: with it, every start validates the
symbol table, for half a minute the first time. It gets the symbol table for nothing. Refuses a run that fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from workbench.case import Moment
from workbench.errors import UsageError

__all__ = ["Dump", "dump_of"]

_MAIN = "import sys; sys.modules['jsonschema'] = None; sys.argv[0] = 'vol'; from volatility3.cli import main; main()"


@dataclass(frozen=True, slots=True)
class Dump:
    """A raw dump, its symbols, and a cache of its own."""

    place: Path

    def seconds(self, plugin: str) -> float:
        """Run one plugin by the command line, and return how long that took.

        Raises
        ------
        UsageError
            If it fails.
        """
        program = self.place / "vol.py"
        words = ["-q", "--offline", "-f", self.place / "dump.raw", "-s", self.place, "-r", "json", plugin]
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, program, *map(str, words)],
            env={**os.environ, "XDG_CACHE_HOME": str(self.place / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.monotonic() - began
        if done.returncode:
            raise UsageError(f"vol {plugin} failed: {done.stderr.strip()[-300:]}")
        return took


def dump_of(moment: Moment, place: Path) -> Dump:
    """Write a moment's RAM as a raw file (one block, no hole), its symbols beside it."""
    (place / "linux").mkdir(parents=True)
    moment.case.store.view(moment.id).region("pc.ram").write_sparse(place / "dump.raw")
    shutil.copy(str(moment.kernel().iloc[0]["symbols"]), place / "linux" / "kernel.json")
    (place / "vol.py").write_text(_MAIN.replace("; ", "\n") + "\n")
    return Dump(place)
