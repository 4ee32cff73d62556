"""Volatility's own command line, run for several plugins: DUMP SYMBOLS OUT PLUGIN...

Each plugin's JSON goes to OUT/PLUGIN.json. What it finds out about the kernel for the first is saved by it and given to
the others as its configuration: half of each run would go into finding it again. Each has a process of its own that
collects no garbage and frees nothing at its end, which took as long as all the rest. jsonschema is hidden, as where
Volatility is installed without its extras: with it, each symbol table is validated for half a minute.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
import traceback
from pathlib import Path

sys.modules["jsonschema"] = None  # type: ignore[assignment]

from volatility3.cli import CommandLine  # noqa: E402


def run(dump: str, symbols: str, out: Path, config: Path, plugin: str) -> None:
    known = ["-c", str(config)] if config.exists() else ["--save-config", str(config)]
    sys.argv = ["vol", "-q", "--offline", "-f", dump, "-s", symbols, "-r", "json", *known, plugin]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        CommandLine().run()
    text = printed.getvalue()
    (out / f"{plugin}.json").write_text(text[text.index("[") :] if "[" in text else "")


def in_child(dump: str, symbols: str, out: Path, config: Path, plugin: str) -> int:
    """Return the child's exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        gc.disable()
        run(dump, symbols, out, config, plugin)
        code = 0
    except BaseException:  # noqa: BLE001  (a copy of the parent must not go on)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(dump: str, symbols: str, out: str, *plugins: str) -> int:
    config = Path(out) / f"{plugins[0]}.config"
    return int(any(in_child(dump, symbols, Path(out), config, plugin) for plugin in plugins))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
