"""Lines that a guest writes to ask for a capture: `mark NAME [WORDS]` on a virtio-serial channel.

The guest is told nothing back, so a guest that was broken into learns nothing from it. Refuses lines that do not begin
with `mark`, and more than `LONGEST_LINE` bytes of one: the rest of such a line is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

from workbench.capture.triggers.event import Event

__all__ = ["CHANNEL", "LONGEST_LINE", "ChannelLines"]

CHANNEL = "org.rewind.mark.0"
"""The channel's name, as a guest finds it under /dev/virtio-ports."""
LONGEST_LINE = 1_000
"""Bytes."""


class ChannelLines:
    """Puts lines together from the pieces in which they arrive."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes, time_ns: int) -> Iterator[Event]:
        """Take bytes and yield an event for every whole line that asks for a mark."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            skipped, self._skipping = self._skipping, False
            if not skipped and len(line) <= LONGEST_LINE:
                yield from _event(line, time_ns)
        if len(self._rest) > LONGEST_LINE:
            self._rest, self._skipping = b"", True


def _event(line: bytes, time_ns: int) -> Iterator[Event]:
    words = line.decode("utf-8", "replace").split(maxsplit=2)
    if len(words) >= 2 and words[0] == "mark":
        yield Event("guest", words[1], words[2] if len(words) > 2 else words[1], time_ns)
