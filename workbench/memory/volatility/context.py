"""Volatility's world, set up once for a worker, and the context of one capture in it.

No automagic: page-table root, shift and symbols are known, so layers and the kernel's module are built directly.
Refuses the network, half a minute of JSON schema for tables that we made, and caches in other people's places.
"""

from __future__ import annotations

import functools
import gc
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import SymbolsError
from workbench.memory.physical import PhysicalMemory
from workbench.memory.volatility.kernel_log import with_newest_record

if TYPE_CHECKING:
    from workbench.memory.symbols.kernel import Kernel

__all__ = ["KERNEL", "CaptureContext", "Table", "open_context", "open_table", "set_up"]

KERNEL = "kernel"
"""What the kernel's module is called, here and by every plugin."""
_TABLE, _PHYSICAL, _VIRTUAL = "symbols", "physical", "virtual"
_done: list[Callable[[], None]] = []


def set_up() -> None:
    """Import Volatility and its plugins, offline and with a cache of its own; once per process."""
    if _done:
        return
    # With jsonschema at hand, Volatility validates each table for half a minute; without, it takes them as they are.
    sys.modules.setdefault("jsonschema", None)  # type: ignore[arg-type]
    import volatility3.plugins
    from volatility3 import framework
    from volatility3.framework import constants

    framework.require_interface_version(2, 0, 0)
    constants.OFFLINE = True
    constants.CACHE_PATH = tempfile.gettempdir()
    framework.import_files(volatility3.plugins, ignore_errors=True)
    with_newest_record()
    kind = type(functools.lru_cache(len))
    caches = [each for each in gc.get_objects() if isinstance(each, kind) and _is_theirs(each)]
    _done.extend(each.cache_clear for each in caches)


def _is_theirs(cache: Any) -> bool:
    return str(getattr(cache, "__module__", "")).startswith("volatility3.")


def forget_caches() -> None:
    """Empty Volatility's caches of methods: they keep the layers of a capture alive."""
    for clear in _done:
        clear()


@dataclass(frozen=True, slots=True)
class Table:
    """A loaded symbol table, good for every capture of one kernel build.

    Attributes
    ----------
    space : SymbolSpace
        With the table in it.
    levels : int
        Of the page tables that it was loaded for.
    path : Path
    """

    space: Any
    levels: int
    path: Path


def open_table(path: Path, levels: int) -> Table:
    """Load a symbol table.

    Raises
    ------
    SymbolsError
        If it is none.
    """
    set_up()
    from volatility3.framework import contexts
    from volatility3.framework.symbols.linux import LinuxKernelIntermedSymbols, network

    owner = contexts.Context()  # without layers: the table outlives captures, and keeps this context
    mask = (1 << (57 if levels == 5 else 48)) - 1
    owner.config[f"{_TABLE}.symbol_mask"] = mask  # read while the table is made, before its own argument is
    try:
        table = LinuxKernelIntermedSymbols(
            owner, _TABLE, _TABLE, isf_url=path.absolute().as_uri(), validate=False, symbol_mask=mask
        )
        # Before any type is resolved: plugins of the network would add these classes too late otherwise.
        network.NetSymbols.apply(table)
    except Exception as error:
        raise SymbolsError(f"not a symbol table of a Linux kernel: {error}", path=str(path)) from error
    owner.symbol_space.append(table)
    return Table(owner.symbol_space, levels, path)


def open_context(memory: PhysicalMemory, kernel: Kernel, table: Table) -> Any:
    """Return a context with physical memory, virtual memory and the kernel's module of one capture."""
    from volatility3.framework import contexts
    from volatility3.framework.interfaces.configuration import path_join

    from workbench.memory.volatility.layer import CaptureLayer, kernel_layer

    class CaptureContext(contexts.Context):
        """A context over a symbol space that is there already."""

        def __init__(self) -> None:
            super().__init__()
            self._symbol_space = table.space

    _drop_other_tables(table)
    context = CaptureContext()
    context.add_layer(CaptureLayer(context, path_join("layers", _PHYSICAL), _PHYSICAL, memory))
    place = path_join("layers", _VIRTUAL)
    context.config[path_join(place, "memory_layer")] = _PHYSICAL
    context.config[path_join(place, "page_map_offset")] = kernel.page_table_root
    context.config[path_join(place, "kernel_virtual_offset")] = kernel.shift
    layer = kernel_layer(kernel.levels)
    context.add_layer(layer(context, place, _VIRTUAL, metadata={"os": "Linux"}))
    contexts.Module.create(context, KERNEL, layer_name=_VIRTUAL, offset=kernel.shift, symbol_table_name=_TABLE)
    return context


CaptureContext = Any
"""What `open_context` returns."""


def _drop_other_tables(table: Table) -> None:
    """Take out what plugins added for the capture before."""
    for name in list(table.space):
        if name != _TABLE:
            table.space.remove(name)
