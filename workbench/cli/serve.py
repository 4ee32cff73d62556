"""`workbench serve`: the service, until it is told to end."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench.cli.output import Output
from workbench.cli.words import examples

__all__ = ["DEFAULT", "add"]

DEFAULT = Path("/etc/workbench.toml")


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "serve",
        parents=[common],
        help="record guests all day long, over REST",
        description="Keep guests recorded, answer over a unix socket (and TCP where asked), until SIGTERM or Ctrl-C.",
        epilog=examples("workbench serve --settings /etc/workbench.toml"),
    )
    parser.add_argument("--settings", type=Path, default=DEFAULT, metavar="FILE", help="default: %(default)s")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Serve."""
    from workbench.server.serving import serve
    from workbench.service.settings import read_settings

    settings = read_settings(arguments.settings)
    where = [str(settings.listen.socket)] if settings.listen.socket else []
    where += [f"{settings.listen.address}:{settings.listen.port}"] if settings.listen.port else []
    output.note(f"serving {settings.case} on {' and '.join(where)}; Ctrl-C ends it")
    serve(settings)
    return 0
