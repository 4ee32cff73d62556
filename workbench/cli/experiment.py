"""`workbench experiment`: variants of one moment, the same work in clones of it, and what was measured."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from workbench.cli.output import Output
from workbench.cli.table import Column
from workbench.cli.text import inert
from workbench.cli.words import WHEN, examples
from workbench.errors import UsageError

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "experiment",
        parents=[common],
        help="A against B in clones of one moment",
        description="Start clones of a moment, make each a variant, let all do the same work, and compare.\n"
        "The guest is not touched; the clones are gone at the end. A run that fails or hangs is a result.\n"
        "3 runs of each variant can give no p below 0.1, 5 none below 0.008.",
        epilog=examples(
            "workbench experiment -5m --variant patched=fix.sh --measure 'errors=wc -l </tmp/e' -o ab.html",
            "workbench experiment before:upgrade --variant new=upgrade.sh --workload 'make -C /srv test' --repeats 7",
            "workbench experiment latest --variant b=b.sh --network shared --at-once 2 --until 30",
        ),
    )
    verb.add_argument("when", metavar="WHEN", help=WHEN)
    variant = "a shell script that makes a clone the variant; without a file, as it is (`control` always is one)"
    verb.add_argument("--variant", metavar="NAME[=FILE]", action="append", default=[], help=variant)
    measure = "a shell command whose last line is a number"
    verb.add_argument("--measure", metavar="NAME=CMD", action="append", default=[], help=measure)
    verb.add_argument("--workload", metavar="CMD", help="what all variants do; it has to end with 0")
    verb.add_argument("--until", metavar="S|PATTERN", help="then wait: seconds, or a pattern on the console")
    verb.add_argument("--repeats", metavar="N", type=int, default=5, help="runs of each variant (default: 5)")
    verb.add_argument("--timeout", metavar="S", type=float, default=300.0, help="seconds of a run (default: 300)")
    verb.add_argument("--at-once", metavar="N", type=int, help="clones at once (default: what memory and CPUs allow)")
    verb.add_argument("--seed", metavar="N", type=int, help="of the order of runs (default: drawn, and said)")
    verb.add_argument("--keep", choices=("captures", "none"), default="captures", help="of each clone")
    network = "none, as-guest, or shared: all on a private segment, whose packets are kept (default: none)"
    verb.add_argument("--network", choices=("none", "as-guest", "shared"), default="none", help=network)
    verb.add_argument("-o", "--output", metavar="FILE", type=Path, help="write a report, one HTML file")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run an experiment and say what came of it; failed runs are results."""
    from workbench.remote import open_case

    variants: dict[str, Path | None] = {"control": None}
    variants |= {name: Path(file) if file else None for name, file in map(_pair, arguments.variant)}
    measures = dict(map(_pair, arguments.measure))
    if arguments.output is not None and arguments.output.exists():
        raise UsageError("a file is there already", path=str(arguments.output), cure="Name a new one.")
    with open_case(arguments.case, uri=arguments.connect) as case, output.progress() as progress:
        found = case.experiment(
            case.moment(arguments.when, arguments.guest),
            variants,
            repeats=arguments.repeats,
            measure=measures,
            workload=arguments.workload,
            until=_until(arguments.until),
            timeout=arguments.timeout,
            at_once=arguments.at_once,
            seed=arguments.seed,
            keep=arguments.keep,
            network=arguments.network,
            progress=progress,
        )
        if arguments.output is not None:
            found.report(arguments.output, _parts(arguments))
    _say(found, arguments.output, output)
    return 0


def _parts(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return what there is to be said of each variant."""
    captured = ("files", "processes", "kernel_log", "pages") if arguments.keep != "none" else ()
    return (*captured, *(("packets",) if arguments.network == "shared" else ()), "console")


def _say(found: Any, report: Path | None, output: Output) -> None:
    outcomes, summary = found.outcomes(), found.summary()
    if output.as_json:
        runs, rows = (frame.to_dict("records") for frame in (found.runs, summary))
        output.document({"id": found.id, "seed": found.seed, "runs": runs, "summary": rows})
        return
    output.table([Column(name) for name in outcomes], list(outcomes.itertuples(index=False)))
    names = ["measure", "variant", "n", "median", "iqr", "difference", "p_holm", "cliffs_delta"]
    rows = [[_short(each) for each in row] for row in summary[names].itertuples(index=False)]
    output.table([Column(name) for name in names], rows)
    output.say(f"experiment {found.id[:12]}, seed {found.seed}")
    if report is not None:
        output.say(f"report: {inert(report, 1000)}")


def _pair(word: str) -> tuple[str, str]:
    name, _, rest = word.partition("=")
    return name, rest


def _until(word: str | None) -> float | str | None:
    try:
        return None if word is None else float(word)
    except ValueError:
        return word


def _short(value: object) -> object:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.4g}"
