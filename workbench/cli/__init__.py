"""The `workbench` command: one module per verb, each a thin layer over `workbench.case`.

Refuses to hold any knowledge of guests or stores. Results go to standard output, progress and errors to standard error;
`--json` makes both machine-readable. Exit codes: 0 done, 1 unknown fault of ours, 2 wrong request, 3 not offered here,
4 guest, 5 case (also: `check` found damage), 6 capture, 7 rewind, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

from workbench.cli.output import Output
from workbench.cli.parser import parse
from workbench.errors import WorkbenchError

__all__ = ["main"]


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """Take SIGTERM for Ctrl-C: the guest is detached from on the way out."""
    raise KeyboardInterrupt


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
    arguments = parse(sys.argv[1:] if words is None else words)
    output = Output(as_json=arguments.json)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return int(arguments.run(arguments, output))
    except WorkbenchError as error:
        output.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        output.note("Interrupted; the guest was let go.")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except Exception:  # noqa: BLE001  (a fault of ours, said as one)
        traceback.print_exc()
        output.note("This is a fault in the workbench. Please report it with the lines above.")
        return 1
