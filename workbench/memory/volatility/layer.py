"""Layers over a capture: its physical memory, and the kernel's page tables on top.

Volatility's own scan swallows whatever goes wrong and then looks as if nothing had been found; here an error stays an
error. Refuses to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from volatility3.framework import exceptions, interfaces
from volatility3.framework.interfaces.layers import DummyProgress
from volatility3.framework.layers import intel

from workbench.errors import UnreadableError
from workbench.memory.physical import PhysicalMemory

__all__ = ["CaptureLayer", "FiveLevelLayer", "FourLevelLayer", "kernel_layer"]

Section = tuple[int, int]
Progress = Callable[[float, str], None]


def _open_scan(layer: Any, context: Any, scanner: Any, told: Progress | None, sections: list[Section]) -> Iterator[Any]:
    """Yield what `scanner` finds in sections (start and length) of `layer`.

    Raises what goes wrong in it, but for addresses that are not mapped: those hold nothing.
    """
    scanner.context = context
    scanner.layer_name = layer.name
    metric = layer._scan_metric(scanner, sections)  # noqa: SLF001  (scan() is what one overrides, with these)
    progress = DummyProgress()
    for chunk in layer._scan_iterator(scanner, sections):  # noqa: SLF001
        yield from layer._scan_chunk(scanner, progress, chunk)  # noqa: SLF001
        if told is not None:
            told(metric(progress.value), f"Scanning {layer.name}")


def _sections(layer: Any, sections: Iterable[Section] | None) -> list[Section]:
    whole = [(layer.minimum_address, layer.maximum_address - layer.minimum_address)]
    found = layer._coalesce_sections(whole if sections is None else sections)  # noqa: SLF001
    return [each for each in found if each[1] > 0]


class CaptureLayer(interfaces.layers.DataLayerInterface):
    """The guest-physical memory of one capture."""

    def __init__(self, context: Any, config_path: str, name: str, memory: PhysicalMemory) -> None:
        super().__init__(context, config_path, name)
        self._memory = memory

    @property
    def minimum_address(self) -> int:
        """The lowest address."""
        return 0

    @property
    def maximum_address(self) -> int:
        """The highest address."""
        return self._memory.size - 1

    def is_valid(self, offset: int, length: int = 1) -> bool:
        """Tell whether the guest has memory there."""
        return offset >= 0 and self._memory.holds(offset, length)

    def read(self, offset: int, length: int, pad: bool = False) -> bytes:
        """Return bytes; `pad` gives zeros where the guest has no memory.

        Raises
        ------
        InvalidAddressException
            If part of it is no memory and `pad` is off.
        """
        try:
            return self._memory.read(offset, length)
        except UnreadableError as error:
            if pad:
                return self._memory.read_padded(offset, length)
            raise exceptions.InvalidAddressException(self.name, offset, str(error)) from error

    def write(self, offset: int, data: bytes) -> None:
        """Refuse: a capture is evidence."""
        raise NotImplementedError("a capture cannot be written")

    def scan(
        self, context: Any, scanner: Any, progress_callback: Progress | None = None, sections: Any = None
    ) -> Iterator[Any]:
        """Yield what the scanner finds."""
        wanted = self._present(_sections(self, sections), scanner.overlap)
        return _open_scan(self, context, scanner, progress_callback, wanted)

    def _present(self, sections: list[Section], overlap: int) -> list[Section]:
        """Leave out pages of zeros, but for what may belong to a find at their edge."""
        found: list[Section] = []
        extents = [(max(0, start - overlap), start + length + overlap) for start, length in self._memory.extents()]
        for start, length in sections:
            for first, end in extents:
                low, high = max(first, start), min(end, start + length)
                if low < high:
                    found.append((low, high - low))
        return list(self._coalesce_sections(found))


class FourLevelLayer(intel.LinuxIntel32e):
    """Virtual memory through four levels of page tables."""

    def scan(
        self, context: Any, scanner: Any, progress_callback: Progress | None = None, sections: Any = None
    ) -> Iterator[Any]:
        """Yield what the scanner finds in what is mapped."""
        return _open_scan(self, context, scanner, progress_callback, _sections(self, sections))


class FiveLevelLayer(FourLevelLayer):
    """Virtual memory through five levels of page tables (57 bits)."""

    _maxvirtaddr = 57
    _structure: ClassVar = [("page map layer 5", 9, False), *intel.LinuxIntel32e._structure]  # noqa: SLF001


def kernel_layer(levels: int) -> type[FourLevelLayer]:
    """Return the class of layer for a number of page-table levels."""
    return FiveLevelLayer if levels == 5 else FourLevelLayer
