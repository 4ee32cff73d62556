"""What `capture` and `watch` share: the words of a recording, its beginning, and a capture in a few values."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from workbench.cli.output import Output
from workbench.cli.text import when
from workbench.errors import UsageError
from workbench.model import CaptureRecord

if TYPE_CHECKING:
    from workbench.case import Case, Quiesce, Recording

__all__ = ["add_words", "brief", "opened", "wish"]

_FACTS = ("dirty_pages", "dirty_clusters", "stored_bytes", "tracker", "consistency", "consistency_why", "frozen_ns")


def add_words(parser: argparse.ArgumentParser) -> None:
    """Add the words that say how to record."""
    parser.add_argument(
        "name", metavar="GUEST", nargs="?", help="name or UUID of a running guest; needless where the case has one"
    )
    parser.add_argument("--tracker", choices=("userfaultfd", "soft-dirty", "compare"), help="insist on a tracker")
    parser.add_argument("--audit", action="store_true", help="prove in every pause that no page was missed (slow)")
    parser.add_argument(
        "--allow-own-volume", action="store_true", help="accept a case that lies in the guest's own volumes"
    )
    parser.add_argument(
        "--quiesce", action="store_true", help="have the guest's agent freeze its file systems for each capture"
    )
    parser.add_argument(
        "--freeze-limit", type=float, default=2.0, metavar="S", help="thaw after so many seconds at the latest (2)"
    )
    parser.add_argument(
        "--require-quiesce", action="store_true", help="take no capture where that fails, instead of one that says so"
    )


def wish(arguments: argparse.Namespace) -> Quiesce | None:
    """Return what is asked of the guest's agent; None for nothing.

    Raises
    ------
    UsageError
        If the limit cannot be meant.
    """
    from workbench.case import Quiesce

    wanted = Quiesce(arguments.freeze_limit, required=arguments.require_quiesce)
    return wanted if arguments.quiesce or arguments.require_quiesce else None


@contextlib.contextmanager
def opened(arguments: argparse.Namespace, output: Output, quiesce: Quiesce | None = None) -> Iterator[Recording]:
    """Attach to the guest, make the case where there is none, and detach at the end; `quiesce` is for all captures.

    A guest that is not there leaves no case behind.
    """
    named = _named(arguments)
    options = {name: getattr(arguments, name) for name in ("tracker", "audit", "allow_own_volume")}
    with (
        _case(arguments, named) as case,
        output.progress() as progress,
        case.record(named or _only(case), progress=progress, quiesce=quiesce, **options) as running,
    ):
        yield running


def _case(arguments: argparse.Namespace, named: str | None) -> Case:
    from workbench.case import Case, require_guest
    from workbench.remote import open_case

    if isinstance(arguments.case, str):  # a service's, which knows its guests
        return open_case(arguments.case)
    if named is not None:
        require_guest(named, arguments.connect)
    return Case.open_or_create(arguments.case, uri=arguments.connect)


def _named(arguments: argparse.Namespace) -> str | None:
    """Return the guest that was named, before or behind.

    Raises
    ------
    UsageError
        If two different ones are named.
    """
    named = {name for name in (arguments.name, arguments.guest) if name is not None}
    if len(named) > 1:
        raise UsageError("two guests are named", guests=sorted(named), cure="Name one.")
    return next(iter(named), None)


def _only(case: Case) -> str:
    """Return the guest that the case has.

    Raises
    ------
    UsageError
        If it does not have exactly one.
    """
    if not case.guests():
        raise UsageError("no guest is named, and the case has none yet", cure="See `workbench guests`.")
    return case.guest().id


def brief(record: CaptureRecord) -> dict[str, Any]:
    """Return a capture in a few values."""
    return {
        "id": record.id,
        "time": f"{when(record.time_ns).replace(' ', 'T')}Z",
        "time_ns": record.time_ns,
        "mode": str(record.mode),
        "pause_ms": record.facts["pause_ns"] / 1e6,
        **{name: record.facts.get(name) for name in _FACTS},
    }
