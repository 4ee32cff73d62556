"""Structures of the kernel that a sight sees, for `workbench.memory.owning`, which never heard of Volatility.

Refuses to guess an offset: a structure or member that the symbols lack is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volatility3.framework import exceptions

from workbench.errors import SymbolsError
from workbench.memory.owning.frames import Frames
from workbench.memory.owning.structures import Moment
from workbench.memory.physical import PhysicalMemory
from workbench.memory.volatility.sight import Sight
from workbench.store import CaptureView

__all__ = ["SightStructures", "moment_of"]


class SightStructures:
    """`Structures` of the kernel of a sight."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._known: dict[tuple[str, str], int] = {}

    def _type(self, kind: str) -> Any:
        try:
            return self._sight.module.get_type(kind)
        except exceptions.SymbolError as error:
            raise SymbolsError(f"the symbols have no struct {kind}", missing=kind) from error

    def size(self, kind: str) -> int:
        """Return the bytes of a structure."""
        return int(self._type(kind).size)

    def offset(self, kind: str, path: str) -> int:
        """Return the offset of a member; its path goes through structures that are inside, not through pointers."""
        if (kind, path) not in self._known:
            self._known[kind, path] = self._offset(kind, path)
        return self._known[kind, path]

    def _offset(self, kind: str, path: str) -> int:
        template, total = self._type(kind), 0
        for name in path.split("."):
            members = getattr(template.vol, "members", {})
            if name not in members:
                raise SymbolsError(f"struct {kind} has no member {path}", missing=name)
            total += int(members[name][0])
            template = self._resolved(members[name][1])
        return total

    def _resolved(self, template: Any) -> Any:
        """Return the structure that a reference stands for; other types as they are."""
        name = template.vol.type_name
        if hasattr(template.vol, "members") or "!" not in name:
            return template
        try:
            return self._sight.context.symbol_space.get_type(name)
        except exceptions.SymbolError:
            return template

    def has(self, kind: str, path: str = "") -> bool:
        """Tell whether there is such a structure and member."""
        try:
            if path:
                self.offset(kind, path)
            else:
                self._type(kind)
        except SymbolsError:
            return False
        return True

    def symbol(self, name: str) -> int | None:
        """Return the address of a symbol in this boot."""
        try:
            address = self._sight.module.get_absolute_symbol_address(name)
        except exceptions.SymbolError:
            return None
        return self._sight.canonical(int(address))

    def enumeration(self, name: str) -> Mapping[str, int]:
        """Return an enumeration."""
        try:
            return dict(self._sight.module.get_enumeration(name).vol.choices)
        except exceptions.SymbolError:
            return {}


def moment_of(sight: Sight, view: CaptureView, memory: PhysicalMemory | None = None) -> Moment:
    """Return a moment to be read in bulk.

    Parameters
    ----------
    sight : Sight
        Of this capture, or of another of the same boot.
    view : CaptureView
    memory : PhysicalMemory, optional
        Of `view`, where that is not the capture of the sight.
    """
    kernel = sight.kernel
    frames = Frames(memory or sight.memory, view)
    structures = SightStructures(sight)
    return Moment(frames, structures, root=kernel.page_table_root, levels=kernel.levels, delta=kernel.delta)
