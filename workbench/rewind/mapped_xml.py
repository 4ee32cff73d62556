"""What a clone's XML says about memory that its QEMU maps from a file: QEMU arguments that libvirt has no words for.

libvirt's own file-backed memory names the file after the domain's number, so that no file can be there before the
start. Instead `-object memory-backend-file` names ours, and `-machine memory-backend` puts it in the place of libvirt's
own (options of one machine are merged, the last one counts; libvirt's object stays, unused and untouched). Refuses
every shape of memory but one plain block: what libvirt was told about pages, nodes or slots would be lost.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from workbench.guest.mtree import MAPPED
from workbench.rewind.own_xml import add_arguments
from workbench.store import CaptureView

__all__ = ["main_memory", "with_mapping"]

_BLOCK = "pc.ram"
"""The main memory of the machines pc and q35 (hw/i386/pc.c, default_ram_id)."""
_SHAPES = ("./memoryBacking", "./maxMemory", "./numatune", "./cpu/numa", "./devices/memory")
"""Elements by which libvirt was told more about memory than its size."""
_UNITS = {"b": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def main_memory(xml: str, view: CaptureView) -> str | None:
    """Return the name of the one block that is all of the guest's main memory, or None if it has another shape."""
    root = ET.fromstring(xml)
    if any(root.find(shape) is not None for shape in _SHAPES):
        return None
    memory = root.find("./memory")
    size = int(memory.text or 0) * _UNITS.get(memory.get("unit", "KiB"), 0) if memory is not None else 0
    found = [each.spec.length for each in view.record.regions if each.spec.name == _BLOCK]
    return _BLOCK if found == [size] else None


def with_mapping(xml: str, block: str, path: str, size: int) -> str:
    """Return the XML with `block`, `size` bytes, mapped privately from `path`."""
    root = ET.fromstring(xml)
    name = MAPPED + block
    # Opened read-write and mapped privately: a write is the clone's own. QEMU 7.2 cannot map a read-only file so.
    backend = f"memory-backend-file,id={name},mem-path={path},size={size},share=off"
    add_arguments(root, ["-object", backend, "-machine", f"memory-backend={name}"])
    return ET.tostring(root, encoding="unicode")
