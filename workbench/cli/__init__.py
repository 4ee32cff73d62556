"""The `workbench` command: one module per verb, each a thin layer over `workbench.case`.

Refuses to hold any knowledge of guests or stores. Results go to standard output, progress and errors to standard error;
`--json` makes both machine-readable. Exit codes: 0 done, 1 a fault of ours, 2 wrong request, 3 not offered here,
4 guest, 5 case (also: `check` found damage), 6 capture, 7 rewind, 130 interrupted, 141 nobody reads the output.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from workbench.cli.interrupts import Interrupts
from workbench.cli.output import Output
from workbench.cli.parser import parse
from workbench.errors import WorkbenchError

__all__ = ["main"]

_INTERRUPTED, _NO_READER = 130, 141


def main(words: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    words : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        The exit code.
    """
    given = sys.argv[1:] if words is None else words
    output = Output(as_json="--json" in given)
    interrupts = Interrupts(output.note)
    try:
        arguments = parse(given)
        arguments.interrupts = interrupts
        interrupts.install()
        code = int(arguments.run(arguments, output))
        if code == _INTERRUPTED:  # ended gently, at once perhaps: whoever presses on must not change how we end
            interrupts.ignore()
        return code
    except WorkbenchError as error:
        output.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        interrupts.ignore()
        output.note("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        # What is still buffered has nowhere to go; without this Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NO_READER
    except Exception as error:  # noqa: BLE001  (a fault of ours, said as one)
        output.fault(error)
        return 1
