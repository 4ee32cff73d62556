"""`workbench files`: which files are not the same at two moments, or how the text of one changed."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.cli.frames import show_frame
from workbench.cli.output import Output
from workbench.cli.text import inert
from workbench.cli.words import WHEN, examples

__all__ = ["add"]

_SHOWN = ("path", "change", "old_path", "size_before", "size_after", "modified_after", "source", "state")


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "files",
        parents=[common],
        help="which files changed between two moments",
        description="List the files of the guest that are not the same at two moments, or show how the text of one\n"
        "of them changed. --deep hashes everything; the answer is the same.",
        epilog=examples("workbench files -10m latest", "workbench files before:alert-7 latest --text /etc/passwd"),
    )
    parser.add_argument("a", metavar="A", help=f"the earlier moment: {WHEN}")
    parser.add_argument("b", metavar="B", nargs="?", default="latest", help="the later one (default: latest)")
    parser.add_argument("--text", metavar="PATH", help="how the text of this file changed")
    parser.add_argument("--deep", action="store_true", help="hash all content of both moments")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the files, or the diff."""
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case:
        diff = case.diff(arguments.a, arguments.b, arguments.guest)
        if arguments.text:
            text = diff.text(arguments.text)
            if output.as_json:
                output.document({"path": arguments.text, "diff": text})
            else:
                for line in text.splitlines():
                    output.say(inert(line, 10_000))
            return 0
        frame = diff.files(deep=arguments.deep)
    show_frame(output, frame, without=[name for name in frame.columns if name not in _SHOWN])
    return 0
