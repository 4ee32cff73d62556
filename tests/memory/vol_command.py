"""Volatility's own command line, run for several plugins in one process: DUMP SYMBOLS OUT PLUGIN...

Each plugin's JSON goes to OUT/PLUGIN.json. jsonschema is hidden, as where Volatility is installed without its extras:
with it, each symbol table is validated for half a minute.
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

sys.modules["jsonschema"] = None  # type: ignore[assignment]

from volatility3.cli import CommandLine  # noqa: E402


def main(dump: str, symbols: str, out: str, *plugins: str) -> None:
    for plugin in plugins:
        sys.argv = ["vol", "-q", "--offline", "-f", dump, "-s", symbols, "-r", "json", plugin]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            CommandLine().run()
        text = printed.getvalue()
        (Path(out) / f"{plugin}.json").write_text(text[text.index("[") :] if "[" in text else "")


if __name__ == "__main__":
    main(*sys.argv[1:])
