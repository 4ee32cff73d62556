"""Volatility's own way to a kernel: its automagic, with symbols from a folder that the user gives.

For guests whose symbols are not in their memory: Windows, above all. The capture's physical memory is what Volatility
opens as a file (`capture:`); nothing is written and nothing is fetched. Refuses questions of ours: those need a kernel
that we know.
"""

from __future__ import annotations

import io
import time
import urllib.response
from collections.abc import Callable, Mapping
from email.message import Message
from pathlib import Path
from typing import Any

from volatility3 import symbols
from volatility3.framework import automagic, constants, contexts, exceptions, plugins
from volatility3.framework.interfaces.configuration import path_join
from volatility3.framework.layers.resources import VolatilityHandler

from workbench.errors import AnalysisError
from workbench.inquiry.answer import Answer
from workbench.memory.physical import PhysicalMemory
from workbench.memory.volatility.artefacts import Artefacts
from workbench.memory.volatility.catalogue import check_arguments, find
from workbench.memory.volatility.context import forget_caches
from workbench.memory.volatility.frame import collect
from workbench.store.seekable import SeekableFile

__all__ = ["AutomaticSight"]

Progress = Callable[[float, str], None]
_SCHEME = "capture"
_MOST_READ = 16 << 20
_opened: dict[str, PhysicalMemory] = {}
"""What `capture:ID` is at the moment."""


class _MemoryFile(SeekableFile):
    """Physical memory as a file; where the guest has none it reads as zeros, as in a raw dump."""

    def __init__(self, memory: PhysicalMemory) -> None:
        super().__init__(memory.size)
        self._memory = memory

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        view = memoryview(buffer).cast("B")
        length = max(0, min(len(view), self.size - self._at, _MOST_READ))
        view[:length] = self._memory.read_padded(self._at, length)
        self._at += length
        return length


class CaptureHandler(VolatilityHandler):
    """Opens `capture:ID` for Volatility."""

    @classmethod
    def non_cached_schemes(cls) -> list[str]:
        """Say that it is not to be copied."""
        return [_SCHEME]

    @staticmethod
    def capture_open(request: Any) -> Any:
        """Return the memory that is open under this id."""
        memory = _opened[str(request.full_url).partition(":")[2]]
        return urllib.response.addinfourl(io.BufferedReader(_MemoryFile(memory)), Message(), request.full_url)


class AutomaticSight:
    """One capture under Volatility, its kernel found by automagic.

    Parameters
    ----------
    capture : str
    memory : PhysicalMemory
    folder : Path
        Symbol tables, as Volatility wants them: `windows/`, `linux/`, `mac/` below it.
    """

    def __init__(self, capture: str, memory: PhysicalMemory, folder: Path) -> None:
        self.capture = capture
        self.memory = memory
        self._folder = folder

    def run(
        self, plugin: str, arguments: Mapping[str, Any], files: Path | None = None, progress: Progress | None = None
    ) -> Answer:
        """Run a plugin; as `Sight.run`.

        Raises
        ------
        UsageError
            If there is no such plugin or argument.
        AnalysisError
            If the folder has no symbols for this kernel, or the plugin cannot start.
        """
        name, found = find(plugin)
        artefacts = Artefacts(files)
        began = time.monotonic()
        _opened[self.capture] = self.memory
        before = list(symbols.__path__)
        symbols.__path__ = [str(self._folder), *before]
        try:
            built = self._built(name, found, arguments, artefacts, progress)
            rows = collect(built.run(), lambda address: address)
        finally:
            symbols.__path__ = before
            _opened.pop(self.capture)
        facts = {
            "capture": self.capture,
            "plugin": name,
            "arguments": dict(arguments),
            "versions": {"volatility3": constants.PACKAGE_VERSION, "plugin": ".".join(map(str, found.version))},
            "kernel": "by automagic",
            "configuration": {"symbols": str(self._folder)},
            "seconds": round(time.monotonic() - began, 3),
        }
        return Answer(rows.frame, facts, rows.absent, artefacts.kept, rows.error)

    def _built(
        self, name: str, found: Any, arguments: Mapping[str, Any], artefacts: Artefacts, progress: Progress | None
    ) -> Any:
        context = contexts.Context()
        place = path_join("plugins", found.__name__)
        for key, value in check_arguments(found, arguments).items():
            context.config[path_join(place, key)] = value
        context.config["automagic.LayerStacker.single_location"] = f"{_SCHEME}:{self.capture}"
        magics = automagic.choose_automagic(automagic.available(context), found)
        opener = None if artefacts.directory is None else artefacts.handler()
        try:
            return plugins.construct_plugin(context, magics, found, "plugins", progress or _silent, opener)
        except exceptions.UnsatisfiedException as error:
            lacking = ", ".join(sorted(str(each) for each in error.unsatisfied))
            raise AnalysisError(
                f"{name} lacks {lacking}: no symbols in the folder fit this capture's kernel",
                folder=str(self._folder),
                cure="Put the kernel's symbol table under windows/ or linux/ in the folder.",
            ) from error

    def close(self) -> None:
        """Let go of the capture."""
        self.memory.forget()
        forget_caches()


def _silent(_percent: float, _words: str) -> None:
    """Take progress and do nothing with it."""
