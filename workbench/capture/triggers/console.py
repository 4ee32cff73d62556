"""Console patterns: words on a guest's console that mean trouble.

Lines are put together from whatever pieces arrive; a line that never ends is cut. Refuses patterns that could take the
watcher's time: they are searched in at most `LONGEST_LINE` characters, and are the operator's, never the guest's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from workbench.capture.triggers.event import Event
from workbench.errors import UsageError

__all__ = ["BUILT_IN", "LONGEST_LINE", "ConsoleWatch"]

LONGEST_LINE = 1_000
"""Characters of a line that are looked at."""
BUILT_IN = {
    "kernel-panic": r"Kernel panic - not syncing",
    "kernel-oops": r"\bOops: |BUG: (?:unable to handle|kernel NULL)|general protection fault",
    "out-of-memory": r"Out of memory: Kill(?:ed)? process|oom-kill:|invoked oom-killer",
    "segfault": r"\bsegfault at [0-9a-f]+ ip ",
    "soft-lockup": r"watchdog: BUG: soft lockup|rcu_(?:sched|preempt) (?:self-)?detected",
    "file-system-error": r"EXT4-fs error|XFS \([^)]+\): .*[Cc]orruption|Buffer I/O error",
}
"""What the Linux kernel prints when something is wrong (its own messages, kernel/panic.c, mm/oom_kill.c,
arch/x86/mm/fault.c, kernel/watchdog.c, fs/ext4/super.c)."""
_ESCAPES = re.compile(rb"\x1b\[[0-9;?]{0,32}[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


class ConsoleWatch:
    """Looks for patterns in the bytes of one console.

    Parameters
    ----------
    patterns : mapping of str to str
        Name and regular expression; `BUILT_IN` by default.

    Raises
    ------
    UsageError
        If one is no regular expression.
    """

    def __init__(self, patterns: Mapping[str, str] = BUILT_IN) -> None:
        self._patterns = {name: _compiled(name, pattern) for name, pattern in patterns.items()}
        self._rest = b""

    def feed(self, data: bytes, time_ns: int) -> Iterator[Event]:
        """Take bytes as they came and yield an event for every line that a pattern fits, named by the first."""
        *lines, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if len(rest) > LONGEST_LINE:
            lines.append(rest)
            rest = b""
        self._rest = rest
        for line in lines:
            text = _ESCAPES.sub(b"", line[: 2 * LONGEST_LINE])[:LONGEST_LINE].decode("utf-8", "replace")
            for name, pattern in self._patterns.items():
                if pattern.search(text):
                    yield Event("console", name, text.strip(), time_ns)
                    break


def _compiled(name: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(f"not a regular expression: {error}", name=name, pattern=pattern) from error
