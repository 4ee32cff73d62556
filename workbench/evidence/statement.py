"""What a report says of itself, for machines: a block of JSON in the page.

Refuses to believe it: what is read has the types that it should have and a bounded size, and is compared with what
running the template again gives.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.errors import FormatError, UsageError

__all__ = ["MARKUP_ID", "Output", "Statement", "read_report"]

MARKUP_ID = "rewind-report"
_FORMAT = 1
_LARGEST = 256 << 20
_ID = re.compile("[0-9a-f]{64}|[0-9a-f-]{36}")
_BLOCK = re.compile(rf'<script type="application/json" id="{MARKUP_ID}">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Output:
    """What one cell showed.

    Attributes
    ----------
    cell : str
        The cell's id in the template.
    digest : str
        BLAKE3-256 of its outputs, as canonical JSON.
    exhibit : int
        Its number; 0 for what is no exhibit.
    title : str
    captures : list of str
        Ids of the captures that it came from.
    """

    cell: str
    digest: str
    exhibit: int = 0
    title: str = ""
    captures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """What a report was made of.

    Attributes
    ----------
    case : str
        The case's UUID.
    template : str
        Its name.
    template_digest : str
        BLAKE3-256 of the template's file.
    parameters : dict of str to str
        since, until (capture ids), guest (UUID).
    versions : dict of str to str
        Of what made it.
    outputs : tuple of Output
        By their place in the report.
    """

    case: str
    template: str
    template_digest: str
    parameters: dict[str, str]
    versions: dict[str, str]
    outputs: tuple[Output, ...]

    @property
    def captures(self) -> list[str]:
        """Every capture that something in the report came from."""
        return sorted({each for output in self.outputs for each in output.captures} | self._ends())

    def _ends(self) -> set[str]:
        return {self.parameters[name] for name in ("since", "until")}

    def element(self) -> str:
        """Return it as an element of the page that does nothing."""
        told = {"format": _FORMAT, **asdict(self), "captures": self.captures}
        text = json.dumps(told, sort_keys=True, indent=1).replace("<", "\\u003c")
        return f'<script type="application/json" id="{MARKUP_ID}">{text}</script>'


def read_report(path: Path) -> tuple[str, Statement]:
    """Return a report's page and what it says of itself.

    Raises
    ------
    UsageError
        If it cannot be read.
    FormatError
        If it is no report that can be verified.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise FormatError("too large for a report", path=str(path), largest=_LARGEST)
        page = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"the report cannot be read: {error.strerror}", path=str(path)) from error
    blocks = _BLOCK.findall(page)
    if len(blocks) != 1:
        raise FormatError(
            "no report of ours: it does not say what it was made of",
            path=str(path),
            cure="Verify the HTML file that `workbench report` wrote.",
        )
    try:
        return page, _statement(json.loads(blocks[0]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FormatError("what the report says of itself cannot be read", path=str(path)) from error


def _statement(told: Any) -> Statement:
    if told["format"] != _FORMAT:
        raise FormatError("a report of another format", expected=_FORMAT, found=told["format"])
    return Statement(
        _text(told["case"]),
        _text(told["template"]),
        _text(told["template_digest"]),
        {name: _identity(told["parameters"][name]) for name in ("since", "until", "guest")},
        {_text(name): _text(value) for name, value in told["versions"].items()},
        tuple(_output(each) for each in told["outputs"]),
    )


def _output(told: Any) -> Output:
    captures = tuple(_text(each) for each in told["captures"])
    return Output(_text(told["cell"]), _text(told["digest"]), int(told["exhibit"]), _text(told["title"]), captures)


def _identity(value: Any) -> str:
    """Return a capture's or guest's id; nothing else becomes a parameter."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError("not an id")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
