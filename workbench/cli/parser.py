"""The words of the command line. Refuses to do anything: each verb brings its own words and its own function."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from workbench import __version__
from workbench.cli import (
    bench,
    bisect,
    capture,
    cat,
    check,
    clone,
    diff,
    doctor,
    experiment,
    export,
    files,
    guests,
    history,
    lifelines,
    marks,
    prune,
    record,
    replay,
    report,
    rewind,
    serve,
    show,
    symbols,
    timeline,
    token,
    trial,
    undo,
    verify_report,
    vol,
    watch,
    yara,
)
from workbench.cli.words import Words, examples
from workbench.errors import UsageError

__all__ = ["parse"]

_DEFAULT_URI = "qemu:///session"
_OFFSET = re.compile(r"-[0-9.]+ ?[a-z]+( ?[0-9.]+ ?[a-z]+)*")
_CODES = (
    "0 done, 1 a fault of ours (also: a report differs), 2 wrong request, 3 not offered here, 4 guest,\n"
    "5 case (also: check found damage), 6 capture, 7 rewind, 8 analysis (also: an answer broke off),\n130 interrupted."
)
_EXAMPLES = (
    "workbench guests                                  what runs here",
    "export WORKBENCH_CASE=/var/lib/cases/web1         where the journal goes",
    "workbench watch web1 --interval 2                 record until Ctrl-C",
    "workbench timeline                                what was recorded",
    "workbench diff -30s latest                        what changed in half a minute",
    "workbench vol latest workbench.processes          what ran, with no symbol package",
    "workbench lifelines sockets                       when each was first and last seen",
    "workbench files -10m latest                       which files changed in ten minutes",
    'workbench clone run "2026-11-24T14:03Z"           a copy of the guest as it was',
    "workbench rewind -5m --mode production            take the guest itself back",
)


def _add_common(parser: argparse.ArgumentParser, *, json: object, connect: object) -> None:
    """Add the words that may stand before and behind every verb."""
    parser.add_argument("--json", action="store_true", default=json, help="machine-readable results and errors")
    parser.add_argument(
        "--connect",
        metavar="URI",
        default=connect,
        help=f"libvirt address (default: $WORKBENCH_CONNECT or {_DEFAULT_URI})",
    )


def _common() -> argparse.ArgumentParser:
    """Return the words of every verb; left out there, what stood before the verb counts."""
    common = argparse.ArgumentParser(add_help=False)
    _add_common(common, json=argparse.SUPPRESS, connect=argparse.SUPPRESS)
    return common


def _with_case(common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Words of the verbs that work on a case."""
    cased = argparse.ArgumentParser(add_help=False, parents=[common])
    default = os.environ.get("WORKBENCH_CASE")
    cased.add_argument(
        "--case",
        type=_place,
        metavar="DIR",
        default=_place(default) if default else None,
        help="the case, or the address of a service: unix:///PATH, https://HOST:PORT (default: $WORKBENCH_CASE)",
    )
    cased.add_argument("--guest", metavar="NAME", help="which guest of the case; needless where it has one")
    return cased


def _place(word: str) -> Path | str:
    """Return a path, or an address as it was written."""
    return word if "://" in word else Path(word)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; the chosen verb's function is in `run`.

    An offset into the past (`-30s`) is a moment, though it looks like an option: argparse takes a word that begins with
    a space for what it is, and a moment may have spaces around it.
    """
    found = _build_parser().parse_args([f" {word}" if _OFFSET.fullmatch(word) else word for word in words])
    if getattr(found, "case", ...) is None:
        raise UsageError("no case is named", cure="Give --case DIR, or set WORKBENCH_CASE.")
    return found


def _build_parser() -> argparse.ArgumentParser:
    """Return the parser of the `workbench` command."""
    parser = Words(
        prog="workbench",
        description="Journal running QEMU/libvirt guests, look at any moment of the past, and go back to it.",
        epilog=examples(*_EXAMPLES) + "\n\nExit codes: " + _CODES,
    )
    _add_common(parser, json=False, connect=os.environ.get("WORKBENCH_CONNECT", _DEFAULT_URI))
    parser.add_argument("--version", action="version", version=f"workbench {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    common = _common()
    cased = _with_case(common)
    for verb in (doctor, guests, bench, serve, token):
        verb.add(verbs, common)
    for verb in (
        capture,
        watch,
        timeline,
        show,
        diff,
        files,
        cat,
        history,
        vol,
        lifelines,
        bisect,
        yara,
        rewind,
        undo,
        clone,
        trial,
        experiment,
        record,
        replay,
        prune,
        check,
    ):
        verb.add(verbs, cased)
    symbols.add(verbs, common, cased)
    export.add(verbs, cased)
    marks.add(verbs, cased)
    for verb in (report, verify_report):
        verb.add(verbs, common)
    return parser
