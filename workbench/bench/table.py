"""Results as a table, for a terminal and for a document. Refuses to leave a peer without a number and a reason."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from workbench.bench.result import Peer, Result

__all__ = ["markdown", "terminal_table"]

_COLUMNS = ("figure", "reach", "median", "p95", "met", "peers (median)", "what there is to say")


def _number(value: float, unit: str) -> str:
    places = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 or unit in ("%", "ms") else 2
    return f"{value:,.{places}f} {unit}"


def _peer(peer: Peer, unit: str) -> str:
    return f"{peer.name}: {peer.how if peer.median is None else _number(peer.median, unit)}"


def _cells(result: Result) -> tuple[str, list[str]]:
    reach = f"{result.reach:g} {result.unit}" + (f", p95 {result.reach_p95:g}" if result.reach_p95 else "")
    return result.name, [
        reach,
        _number(result.median, result.unit),
        _number(result.p95, result.unit),
        ("yes" if result.met else "NO") if result.settled else "not settled",
    ]


def terminal_table(results: Sequence[Result]) -> Table:
    """Return a table for a terminal."""
    table = Table(title="Figures", title_justify="left", show_lines=True)
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for result in results:
        name, cells = _cells(result)
        table.add_row(name, *cells, "\n".join(_peer(peer, result.unit) for peer in result.peers), result.note)
    return table


def markdown(results: Sequence[Result]) -> str:
    """Return the table for docs/figures.md."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + " --- |" * len(_COLUMNS)]
    for result in results:
        name, cells = _cells(result)
        peers = "; ".join(_peer(peer, result.unit) for peer in result.peers)
        lines.append("| " + " | ".join([name, *cells, peers, result.note]) + " |")
    return "\n".join(lines) + "\n"
