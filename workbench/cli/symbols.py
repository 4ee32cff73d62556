"""`workbench symbols`: the kernel of a moment and its symbol table, and tables made of kernels' files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench.cli.frames import show_frame
from workbench.cli.output import Output
from workbench.cli.words import WHEN, examples

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser, cased: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "symbols",
        help="the kernel of a moment, and symbol tables",
        description="Symbols are made from what lies in a capture's memory (BTF and kallsyms). A table can be made\n"
        "of the kernel's file, for a guest whose memory has none.",
        epilog=examples(
            "workbench symbols show latest", "workbench symbols build /boot/vmlinuz-6.1.0-40-amd64 -o k.json"
        ),
    )
    acts = parser.add_subparsers(dest="act", metavar="ACT", required=True)
    show = acts.add_parser("show", parents=[cased], help="the kernel of a moment, and where its table is")
    show.add_argument("moment", metavar="MOMENT", nargs="?", default="latest", help=WHEN)
    show.set_defaults(run=_show)
    build = acts.add_parser("build", parents=[common], help="make a table of a kernel's file")
    build.add_argument("kernel", type=Path, metavar="VMLINUZ", help="vmlinuz or vmlinux")
    build.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to (default: the user's cache)")
    build.set_defaults(run=_build)


def _show(arguments: argparse.Namespace, output: Output) -> int:
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case:
        frame = case.moment(arguments.moment, arguments.guest).kernel()
    show_frame(output, frame, without=("banner",))
    return 0


def _build(arguments: argparse.Namespace, output: Output) -> int:
    from workbench.case import build_symbols

    made = build_symbols(arguments.kernel, arguments.output)
    if output.as_json:
        output.document({"symbols": str(made)})
    else:
        output.say(str(made))
    return 0
