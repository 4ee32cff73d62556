"""`workbench clone exec`, `put` and `get`: commands and files in a clone.

What a clone says is a guest's: to a terminal it goes without control characters. Refuses to start or end a clone.
"""

from __future__ import annotations

import argparse
import base64
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from workbench.cli.output import Output
from workbench.cli.text import inert
from workbench.cli.words import examples
from workbench.errors import UsageError

if TYPE_CHECKING:
    from workbench.case import Case, Clone, Ran

__all__ = ["add"]


def add(acts: Any, common: argparse.ArgumentParser) -> None:
    """Add the acts to those of `workbench clone`."""
    command = _act(acts, common, "exec", "run a command in a clone", "workbench clone exec web1-then -- ls -l /tmp")
    command.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="then it is killed (30)")
    command.add_argument("--stdin", action="store_true", help="give it our standard input")
    command.add_argument("words", metavar="CMD", nargs="+", help="its words; one alone is a script for `sh`")
    command.set_defaults(run=run_exec)
    put = _act(acts, common, "put", "write a file in a clone", "workbench clone put web1-then patch.sh /root/patch.sh")
    put.add_argument("source", metavar="FILE", type=Path, help="a file of this host")
    put.add_argument("path", metavar="PATH", help="its whole path in the clone")
    put.add_argument("--mode", default="644", metavar="OCTAL", help="its mode (644)")
    put.set_defaults(run=run_put)
    get = _act(acts, common, "get", "fetch a file of a clone", "workbench clone get web1-then /etc/passwd then.passwd")
    get.add_argument("path", metavar="PATH", help="its whole path in the clone")
    get.add_argument("target", metavar="FILE", type=Path, help="a new file of this host")
    get.set_defaults(run=run_get)


def _act(acts: Any, common: argparse.ArgumentParser, name: str, about: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = acts.add_parser(name, parents=[common], help=about, epilog=examples(example))
    parser.add_argument("name", metavar="NAME", help="the clone's name or UUID; see `workbench clone list`")
    parser.add_argument("--how", choices=("agent", "console"), help="by default the agent where one answers")
    return parser


def _clone(case: Case, name: str) -> Clone:
    for clone in case.clones():
        if name in (clone.name, clone.record.uuid):
            return clone
    known = ", ".join(clone.name for clone in case.clones()) or "none"
    raise UsageError(f"no clone {name!r} in this case", known=known, cure="See `workbench clone list`.")


def run_exec(arguments: argparse.Namespace, output: Output) -> int:
    """Run a command; its exit code is ours."""
    from workbench.remote import open_case

    words = arguments.words[0] if len(arguments.words) == 1 else arguments.words
    stdin = sys.stdin.buffer.read() if arguments.stdin else b""
    with closing(open_case(arguments.case, uri=arguments.connect)) as case:
        ran = _clone(case, arguments.name).run(words, timeout=arguments.timeout, stdin=stdin, how=arguments.how)
    if output.as_json:
        output.document(_told(ran))
        return 0
    _pass_on(ran.stdout, sys.stdout.buffer, terminal=sys.stdout.isatty())
    _pass_on(ran.stderr, sys.stderr.buffer, terminal=sys.stderr.isatty())
    if ran.truncated:
        output.note("It wrote more than is kept.")
    return ran.exit_code or 0


def _told(ran: Ran) -> dict[str, Any]:
    told = {name: getattr(ran, name) for name in ("exit_code", "seconds", "how", "truncated")}
    return {
        **told,
        "stdout_base64": base64.b64encode(ran.stdout).decode(),
        "stderr_base64": base64.b64encode(ran.stderr).decode(),
    }


def _pass_on(data: bytes, stream: BinaryIO, *, terminal: bool) -> None:
    """Write what a guest said: as it is into a file or pipe, without control characters to a terminal."""
    if terminal:
        lines = data.decode("utf-8", "backslashreplace").split("\n")
        data = "\n".join(inert(line, 10_000) for line in lines).encode()
    stream.write(data)
    stream.flush()


def run_put(arguments: argparse.Namespace, output: Output) -> int:
    """Write a file in a clone."""
    from workbench.remote import open_case

    try:
        mode, content = int(arguments.mode, 8), arguments.source.read_bytes()
    except (ValueError, OSError) as error:
        raise UsageError(
            f"it cannot be put: {error}", cure="Give a file that can be read, and an octal mode."
        ) from error
    with closing(open_case(arguments.case, uri=arguments.connect)) as case:
        _clone(case, arguments.name).put(arguments.path, content, mode, how=arguments.how)
    return _done(arguments, output, len(content))


def run_get(arguments: argparse.Namespace, output: Output) -> int:
    """Fetch a file of a clone into a file that is not there yet."""
    from workbench.remote import open_case

    if os.path.lexists(arguments.target):
        raise UsageError("a file is there already", path=str(arguments.target), cure="Name a new one.")
    with closing(open_case(arguments.case, uri=arguments.connect)) as case:
        content = _clone(case, arguments.name).get(arguments.path, how=arguments.how)
    try:
        with arguments.target.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise UsageError(f"it cannot be written: {error}", cure="Name a file that can be made.") from error
    return _done(arguments, output, len(content))


def _done(arguments: argparse.Namespace, output: Output, count: int) -> int:
    if output.as_json:
        output.document({"clone": arguments.name, "path": arguments.path, "bytes": count})
    else:
        output.say(f"{count} bytes.")
    return 0
