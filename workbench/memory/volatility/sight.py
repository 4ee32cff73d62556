"""The memory of one moment, opened: plugins run in it, one after the other, sharing what is loaded.

Refuses to call an empty process list an answer: a kernel that cannot be read must not look like one where nothing ran.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import AnalysisError
from workbench.inquiry.answer import Answer
from workbench.memory.physical import PhysicalMemory
from workbench.memory.volatility.artefacts import Artefacts
from workbench.memory.volatility.catalogue import configure, find
from workbench.memory.volatility.context import KERNEL, Table, forget_caches, open_context
from workbench.memory.volatility.frame import Rows, collect

if TYPE_CHECKING:
    from workbench.memory.symbols.kernel import Kernel

__all__ = ["Sight"]

Progress = Callable[[float, str], None]
_PROCESSES = "linux.pslist.PsList"


class Sight:
    """One capture's memory under Volatility.

    Parameters
    ----------
    capture : str
        Its id, for what is told.
    memory : PhysicalMemory
    kernel : Kernel
    table : Table
        Of the kernel's build.

    Raises
    ------
    AnalysisError
        If the first task is not where symbols and page tables say.
    """

    def __init__(self, capture: str, memory: PhysicalMemory, kernel: Kernel, table: Table) -> None:
        self.capture = capture
        self.memory = memory
        self.kernel = kernel
        self.symbols = table.path
        self.context = open_context(memory, kernel, table)
        self.module = self.context.modules[KERNEL]
        self._see_the_first_task()

    @property
    def layer(self) -> Any:
        """The kernel's virtual memory."""
        return self.context.layers[self.module.layer_name]

    def canonical(self, address: int) -> int:
        """Give a masked virtual address its upper bits back; other numbers stay as they are."""
        bits = 57 if self.kernel.levels == 5 else 48
        return address | ((1 << 64) - (1 << bits)) if address >> (bits - 1) == 1 else address

    def _see_the_first_task(self) -> None:
        from volatility3.framework import exceptions
        from volatility3.framework.objects import utility

        try:
            name = utility.array_to_string(self.module.object_from_symbol("init_task").comm)
        except (exceptions.VolatilityException, AttributeError, ValueError, TypeError) as error:
            raise AnalysisError(
                f"the kernel's first task cannot be read: {error}", capture=self.capture, kernel=self.kernel.release
            ) from error
        if not name.startswith("swapper"):
            raise AnalysisError(
                "the kernel's first task is not where the symbols say",
                capture=self.capture,
                expected="swapper",
                found=name,
            )

    def run(
        self, plugin: str, arguments: Mapping[str, Any], files: Path | None = None, progress: Progress | None = None
    ) -> Answer:
        """Run a plugin.

        Parameters
        ----------
        plugin : str
        arguments : mapping
            By the plugin's own names.
        files : Path, optional
            Directory for files that it takes out of memory.
        progress : callable, optional
            Told percent and words.

        Raises
        ------
        UsageError
            If there is no such plugin or argument.
        AnalysisError
            If it cannot start here, or gives no process at all.
        """
        from volatility3.framework import constants

        name, found = find(plugin)
        place = f"plugins.{found.__name__}"
        self._clear(place)
        configure(self.context, place, found, arguments)
        artefacts = Artefacts(files)
        began = time.monotonic()
        rows, configuration = self._rows(name, found, place, artefacts, progress)
        if name == _PROCESSES and not arguments and rows.frame.empty and not rows.error:
            raise AnalysisError("no process at all was found: memory or symbols are not understood", plugin=name)
        facts = {
            "capture": self.capture,
            "plugin": name,
            "arguments": dict(arguments),
            "versions": {"volatility3": constants.PACKAGE_VERSION, "plugin": ".".join(map(str, found.version))},
            "kernel": self.kernel.release,
            "configuration": configuration,
            "seconds": round(time.monotonic() - began, 3),
        }
        return Answer(rows.frame, facts, rows.absent, artefacts.kept, rows.error)

    def _rows(
        self, name: str, found: Any, place: str, artefacts: Artefacts, progress: Progress | None
    ) -> tuple[Rows, dict[str, Any]]:
        from volatility3.framework import exceptions

        try:
            plugin = found(self.context, place, progress)
            if artefacts.directory is not None:
                plugin.set_open_method(artefacts.handler())
            grid = plugin.run()
        except exceptions.PluginRequirementException as error:
            raise AnalysisError(f"{name} cannot run on this capture: {error}", plugin=name) from error
        except (exceptions.VolatilityException, Exception) as error:
            raise AnalysisError(f"{name} failed: {type(error).__name__}: {error}", plugin=name) from error
        rows = collect(grid, self.canonical)
        return rows, _json(plugin.build_configuration())

    def _clear(self, place: str) -> None:
        """Take away what a question before this one configured."""
        for key in [key for key in self.context.config if key == place or key.startswith(f"{place}.")]:
            del self.context.config[key]

    def close(self) -> None:
        """Let go of the capture: Volatility's caches would keep it."""
        self.memory.forget()
        forget_caches()


def _json(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as JSON values."""
    plain = (bool, int, float, str, type(None), list)
    return {key: value if isinstance(value, plain) else str(value) for key, value in dict(configuration).items()}
