"""The newest record of the kernel's log, which Volatility's `linux.kmsg` leaves out.

Its reading of the ring buffer of Linux 5.10 and later (Volatility 2.28) goes from the tail up to the head, and ends
before it looks at the head, which is the last record that was written: of a panic, its last line. Refuses to tell a
record twice, should a later Volatility read it. Source: Linux kernel/printk/printk_ringbuffer.h.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["with_newest_record"]

_STATE_BITS = 2
_COMMITTED, _FINALIZED = 1, 2
_LINES = 1024
"""Lines of a record: Linux keeps up to 1,000 bytes of one."""
Row = tuple[Any, ...]
Rows = Iterator[Row]


def with_newest_record() -> None:
    """Have Volatility's reader of the log read the newest record too; its plugins must have been imported."""
    from volatility3.plugins.linux import kmsg

    reader: Any = kmsg.Kmsg_5_10_to_
    reader.run = _whole(reader.run)


def _whole(theirs: Callable[[Any], Rows]) -> Callable[[Any], Rows]:
    def run(self: Any) -> Rows:
        last: deque[Row] = deque(maxlen=_LINES)
        for row in theirs(self):
            last.append(row)
            yield row
        newest = list(_newest(self))  # last: what a guest has there may be anything
        if newest != list(last)[-len(newest) :]:
            yield from newest

    return run


def _newest(reader: Any) -> Rows:
    """Yield the rows of the record at the head, one for each line, as the reader does for the others."""
    ring = reader.vmlinux.object_from_symbol("prb").dereference()
    descriptors = ring.desc_ring
    count = 1 << descriptors.count_bits
    at = descriptors.head_id.counter % count
    descriptor, info = (_element(reader, *each, count, at) for each in _arrays(descriptors))
    shift = reader.long_unsigned_int_size * 8 - _STATE_BITS
    if descriptor.state_var.counter >> shift & 3 not in (_COMMITTED, _FINALIZED):
        return
    facility, level, when, caller = reader.get_prefix(info)
    words = reader.get_facility_text(facility), reader.get_level_text(level), when, caller
    for line in (*reader.get_log_lines(ring.text_data_ring, descriptor, info), *reader.get_dict_lines(info)):
        yield (*words, line)


def _arrays(ring: Any) -> tuple[tuple[Any, str], tuple[Any, str]]:
    return (ring.descs, "prb_desc"), (ring.infos, "printk_info")


def _element(reader: Any, begin: Any, kind: str, count: int, at: int) -> Any:
    name = reader.vmlinux.symbol_table_name + "!array"
    element = reader.vmlinux.get_type(kind)
    return reader._context.object(  # noqa: SLF001  (as it reads them itself)
        name, offset=begin, subtype=element, count=count, layer_name=reader.layer_name
    )[at]
