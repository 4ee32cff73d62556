"""Tables: by rich on a terminal, one plain line a row for programs.

On a terminal only the columns that hold free text are wrapped: an id that is broken over two lines cannot be copied.
Refuses to make cells inert: who fills a table has done that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

__all__ = ["Column", "plain_lines", "rich_table"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes
    ----------
    name : str
    right : bool
        Set flush right: numbers.
    wraps : bool
        Free text, that may be broken over several lines.
    """

    name: str
    right: bool = False
    wraps: bool = False


def rich_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        justify = "right" if column.right else "left"
        table.add_column(column.name, justify=justify, overflow="fold", no_wrap=not column.wraps)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def plain_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table that nobody measures: a row is a line, however long."""
    cells = [[column.name for column in columns], *rows]
    widths = [max(map(cell_len, cells_of)) for cells_of in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(_padded(*each) for each in zip(line, widths, columns, strict=True)).rstrip()


def _padded(cell: str, width: int, column: Column) -> str:
    blank = " " * (width - cell_len(cell))
    return blank + cell if column.right else cell + blank
