"""The parser of the command line: wrong words are errors like any other, and every verb teaches by an example."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from workbench.errors import UsageError

__all__ = ["WHEN", "Words", "examples"]

WHEN = "a time, -30s, '2 captures ago', an id, a mark, before:MARK, latest"


class Words(argparse.ArgumentParser):
    """An argument parser that raises `UsageError`, keeps examples as they are written, and guesses no options."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        options.setdefault("allow_abbrev", False)
        super().__init__(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise UsageError(message, cure=f"See `{self.prog} --help`.")


def examples(*lines: str) -> str:
    """Return an epilog that shows how a verb is used."""
    return "\n".join(["example:" if len(lines) == 1 else "examples:", *(f"  {line}" for line in lines)])
