"""What an experiment does in a clone: variants, the work, when it is over, and measures, each with a digest.

A part is a shell script (text), a callable that gets the clone, files to be put, or nothing. Files are read once, when
the experiment is planned, so that every run gets the same bytes and the digest is theirs. Refuses to take the number of
a measure from anything but one plain decimal number on the last line: what a guest prints is not evaluated.
"""

from __future__ import annotations

import inspect
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Literal, Protocol

from blake3 import blake3

from workbench.errors import CommandTimeoutError, UsageError
from workbench.experiment.text import inert, last_line
from workbench.inside.ran import Ran

__all__ = [
    "Clone",
    "Failed",
    "Files",
    "Hung",
    "Measured",
    "Part",
    "measure_of",
    "number_of",
    "until_of",
    "variant_of",
    "work_of",
]

Files = Mapping[str, "bytes | str | Path"]
Measured = dict[str, "float | str"]
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_TEXT = 100_000
"""Characters of a script that a document keeps; the digest is of all of it."""
_EVERY = 0.1
_LONGEST_TEXT = 2_000
"""Characters of a text that a measure gives."""
_MOST_KEYS = 100


class Clone(Protocol):
    """What a part may ask of a clone; `workbench.case.Clone` is one, with more."""

    def run(self, command: str, *, timeout: float) -> Ran:
        """Run a shell command in it."""

    def put(self, path: str, data: bytes, *, timeout: float) -> Any:
        """Write a file in it."""

    def wait_for(
        self, pattern: str | re.Pattern[str], *, timeout: float, since: Literal["start", "now"]
    ) -> re.Match[str]:
        """Wait until its console shows a pattern."""


class Failed(Exception):  # noqa: N818  (an outcome, and no error of ours)
    """A part did not do what it should; the run is a failed one."""


class Hung(Exception):  # noqa: N818
    """A part was not done in time; the run is a hung one."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something that is done in each run.

    Attributes
    ----------
    kind : {"nothing", "script", "callable", "files", "seconds", "pattern"}
    text : str
        The script, the callable's name, the files' names, the seconds or the pattern: for people.
    digest : str
        BLAKE3-256 of what it is; of a callable, of its source, or "" where that cannot be had.
    act : callable
        Takes the clone and the seconds that are left; gives what the part gives.
    """

    kind: str
    text: str
    digest: str
    act: Callable[[Any, float], Any]


def variant_of(name: str, value: object) -> Part:
    """Return the part that makes a clone this variant.

    Raises
    ------
    UsageError
        If it is none of None, text, a path of a script, a callable, a mapping of absolute guest paths to content.
    """
    if value is None:
        return Part("nothing", "", "", lambda _clone, _left: None)
    if isinstance(value, Mapping):
        return _files(name, value)
    if isinstance(value, str | Path) or callable(value):
        return _done(value if not isinstance(value, Path) else _read(value).decode("utf-8"))
    cure = "Give None, a shell script, a callable, or a mapping of guest paths to bytes."
    raise UsageError(f"variant {name!r} cannot be applied", found=type(value).__name__, cure=cure)


def work_of(value: str | Callable[[Any], object] | None) -> Part:
    """Return the part that is the same for all variants."""
    return Part("nothing", "", "", lambda _clone, _left: None) if value is None else _done(value)


def until_of(value: float | str | re.Pattern[str] | Callable[[Any], object] | None) -> Part:
    """Return the part that waits: some seconds, for a pattern on the console, or until a callable gives what is true.

    Raises
    ------
    UsageError
        If the seconds are no number above 0, or the pattern is none.
    """
    if value is None:
        return Part("nothing", "", "", lambda _clone, _left: None)
    if isinstance(value, float | int):
        return _seconds(float(value))
    if isinstance(value, str | re.Pattern):
        return _pattern(value)
    name, digest = _named(value)
    return Part("callable", name, digest, lambda clone, left: _asked_until(value, clone, left))


def measure_of(name: str, value: str | Callable[[Any], object]) -> Part:
    """Return the part that measures: it gives numbers (or texts) by name."""
    if isinstance(value, str):
        script = _script(value)
        return Part("script", value[:_TEXT], _digest(script), lambda clone, left: _read_off(clone, value, left, name))
    called, digest = _named(value)
    return Part("callable", called, digest, lambda clone, _left: _told(name, value(clone)))


# Doing.


def _script(value: str) -> bytes:
    if not value.strip() or "\0" in value:
        raise UsageError("a shell script says something, and has no NUL", found=value[:80])
    return value.encode("utf-8", "surrogateescape")


def _done(value: Any) -> Part:
    """Return a part that runs a script, or calls."""
    if isinstance(value, str):
        script = _script(value)
        return Part("script", value[:_TEXT], _digest(script), lambda clone, left: _ran(clone, value, left))
    name, digest = _named(value)
    return Part("callable", name, digest, lambda clone, _left: value(clone))


def _ran(clone: Clone, command: str, left: float) -> Ran:
    try:
        ran = clone.run(command, timeout=left)
    except CommandTimeoutError as error:
        raise Hung(f"a command did not end in {left:.1f} s") from error
    if ran.exit_code != 0:
        said = last_line(ran.stderr.decode("utf-8", "backslashreplace") or ran.text)
        raise Failed(f"exit code {ran.exit_code}" + (f": {said}" if said else ""))
    return ran


def _files(name: str, value: Mapping[Any, Any]) -> Part:
    content: dict[str, bytes] = {}
    for path, data in value.items():
        if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
            raise UsageError(f"variant {name!r} names a file that is no absolute path in the guest", found=path)
        content[path] = (
            _read(data) if isinstance(data, Path) else data.encode() if isinstance(data, str) else bytes(data)
        )
    whole = "\n".join(f"{blake3(data).hexdigest()} {path}" for path, data in sorted(content.items()))

    def put(clone: Clone, left: float) -> None:
        until = time.monotonic() + left
        for path, data in content.items():
            clone.put(path, data, timeout=max(1.0, until - time.monotonic()))

    return Part("files", "\n".join(sorted(content))[:_TEXT], _digest(whole.encode("utf-8", "surrogateescape")), put)


def _seconds(value: float) -> Part:
    if not 0 < value <= 86_400:
        raise UsageError("an experiment waits between 0 s and a day", found=value)

    def wait(_clone: object, left: float) -> None:
        time.sleep(min(value, left))
        if value > left:
            raise Hung(f"{value:g} s are more than its time")

    return Part("seconds", f"{value:g}", "", wait)


def _pattern(value: str | re.Pattern[str]) -> Part:
    try:
        text = re.compile(value).pattern
    except re.error as error:
        raise UsageError(f"this is no pattern: {error}", pattern=value) from error
    return Part(
        "pattern", text[:_TEXT], _digest(text.encode()), lambda clone, left: clone.wait_for(value, timeout=left)
    )


def _asked_until(question: Callable[[Any], object], clone: Clone, left: float) -> None:
    until = time.monotonic() + left
    while not question(clone):
        if time.monotonic() > until:
            raise Hung(f"it did not become so in {left:.0f} s")
        time.sleep(_EVERY)


# Measuring.


def _read_off(clone: Clone, command: str, left: float, name: str) -> Measured:
    return _told(name, number_of(_ran(clone, command, left).text))


def number_of(text: str) -> float:
    """Return the plain decimal number that the last line is.

    Raises
    ------
    Failed
        If it is anything else.
    """
    line = last_line(text)
    if not _NUMBER.fullmatch(line):
        raise Failed(f"no number on the last line: {line!r}")
    return float(line)


def _told(name: str, value: object) -> Measured:
    """Return what a measure gave, as numbers and short texts; those of a mapping as `name.key`."""
    if not isinstance(value, Mapping):
        return {name: _one(value)}
    if len(value) > _MOST_KEYS:
        raise Failed(f"a measure gives at most {_MOST_KEYS} values, not {len(value)}")
    return {f"{name}.{inert(key, 60)}": _one(each) for key, each in value.items()}


def _one(value: object) -> float | str:
    if isinstance(value, str):
        return inert(value, _LONGEST_TEXT)
    if not isinstance(value, Real) and not hasattr(value, "__float__"):
        raise Failed(f"a measure gives a number, a text, or a mapping of these, not {type(value).__name__}")
    number = float(value)
    if not math.isfinite(number):
        raise Failed(f"{number} is no measurement")
    return number


# Naming.


def _named(value: Callable[..., object]) -> tuple[str, str]:
    name = inert(getattr(value, "__qualname__", None) or repr(value))
    try:
        return name, _digest(inspect.getsource(value).encode("utf-8", "surrogateescape"))
    except (OSError, TypeError):
        return name, ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{error.strerror}: {path}", cure="Name a file that can be read.") from error


def _digest(data: bytes) -> str:
    return blake3(data).hexdigest()
