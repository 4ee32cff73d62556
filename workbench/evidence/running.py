"""Run a template on a case, in a kernel of its own: the same notebook comes out each time.

The kernel is this very Python, talks over sockets in a private directory (nothing listens on the network), reads no
settings of the user and finds the case in `WORKBENCH_CASE`: no path of the host gets into the notebook. Refuses to hand
over a notebook that broke off.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import AnalysisError, UsageError
from workbench.progress import Progress, ProgressEvent

__all__ = ["Template", "find_template", "run"]

_TEMPLATES = Path(__file__).parent / "templates"
_CELL_S = 1800
_OUTPUT_S, _START_S = 120, 600
"""Seconds for the last output of a cell to arrive, and for the kernel to start."""
_PARAMETERS = "injected-parameters"


class Template:
    """A notebook that makes a report.

    Parameters
    ----------
    path : Path
        An .ipynb with a cell tagged `parameters`.
    name : str
        What a report calls it.

    Raises
    ------
    UsageError
        If it cannot be read, or is none.
    """

    def __init__(self, path: Path, name: str) -> None:
        import nbformat

        self.name = name
        try:
            self.content = path.read_bytes()
            self.notebook: Any = nbformat.reads(self.content.decode(), as_version=4)  # type: ignore[no-untyped-call]
        except OSError as error:
            raise UsageError(f"the template cannot be read: {error.strerror}", path=str(path)) from error
        except Exception as error:  # nbformat raises what its parts raise
            raise UsageError("this is no notebook", path=str(path), cure="Name an .ipynb file.") from error
        tags = [tag for cell in self.notebook.cells for tag in cell.metadata.get("tags", ())]
        if "parameters" not in tags:
            raise UsageError("the template takes no parameters", path=str(path), cure="Tag one cell `parameters`.")

    @property
    def digest(self) -> str:
        """BLAKE3-256 of the file."""
        from blake3 import blake3

        return blake3(self.content).hexdigest()


def find_template(name: str | Path) -> Template:
    """Return one of our templates by its name, or any by its path (`.ipynb`).

    Raises
    ------
    UsageError
        If there is none.
    """
    if str(name).endswith(".ipynb"):
        return Template(Path(name), Path(name).name)
    known = sorted(path.stem for path in _TEMPLATES.glob("*.ipynb"))
    if str(name) not in known:
        raise UsageError(f"no template {str(name)!r}", known=known, cure="Name one of these, or an .ipynb file.")
    return Template(_TEMPLATES / f"{name}.ipynb", str(name))


def run(
    template: Template,
    parameters: Mapping[str, str],
    case: Path,
    progress: Progress,
    *,
    widgets: bool = False,
    cache: Path | None = None,
) -> Any:
    """Return the template's notebook, run.

    Parameters
    ----------
    parameters : mapping
        since, until, guest.
    widgets : bool
        Keep the state of widgets, for a page that shows them; else everything shows its picture.
    cache : Path, optional
        Where answers are kept instead of where the case's are: an empty place has everything asked anew.

    Raises
    ------
    AnalysisError
        If a cell failed.
    """
    from papermill.parameterize import parameterize_notebook

    notebook = copy.deepcopy(template.notebook)
    notebook.metadata["papermill"] = {}
    for cell in notebook.cells:
        cell.metadata.setdefault("tags", [])
    notebook = parameterize_notebook(notebook, dict(parameters), kernel_name="python3", language="python")
    for cell in notebook.cells:
        if _PARAMETERS in cell.metadata.get("tags", ()):
            cell.id = _PARAMETERS
    with tempfile.TemporaryDirectory(prefix="rewind-report-") as scratch:
        _execute(notebook, Path(scratch), _environment(Path(scratch), case, cache, widgets), widgets, progress)
    return _plain(notebook, widgets)


def _environment(scratch: Path, case: Path, cache: Path | None, widgets: bool) -> dict[str, str]:
    """Return what the kernel sees: nothing of the user's that could show in a report."""
    theirs = ("WORKBENCH_", "IPYTHON", "JUPYTER")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    ours = {
        "WORKBENCH_CASE": str(case.absolute()),
        "IPYTHONDIR": str(scratch / "ipython"),
        "PYTHONHASHSEED": "0",
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
    }
    if cache is not None:
        ours["WORKBENCH_CACHE"] = str(cache)
    return {**kept, **ours} | ({} if widgets else {"WORKBENCH_STATIC": "1"})


def _execute(notebook: Any, scratch: Path, environment: dict[str, str], widgets: bool, progress: Progress) -> None:
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal, DeadKernelError

    def told(cell: Any, cell_index: int) -> None:  # noqa: ARG001  (as nbclient calls it)
        progress(ProgressEvent("running the report", cell_index, len(notebook.cells), "cells"))

    client = NotebookClient(
        notebook,
        km=_kernel(scratch),
        timeout=_CELL_S,
        record_timing=False,
        store_widget_state=widgets,
        resources={"metadata": {"path": str(scratch)}},
        on_cell_execute=told,
        iopub_timeout=_OUTPUT_S,
        raise_on_iopub_timeout=True,  # output that is lost would be another report
        startup_timeout=_START_S,
    )
    client.owns_km = True
    try:
        client.execute(env=environment)
    except (CellControlSignal, DeadKernelError) as error:
        why = f"{getattr(error, 'ename', 'the kernel died')}: {getattr(error, 'evalue', error)}"
        cure = "Ask for another span, or mend the template."
        raise AnalysisError(f"the report broke off: {why}", cure=cure) from error


def _kernel(scratch: Path) -> Any:
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--HistoryManager.enabled=False"]

    class ThisPython(KernelSpecManager):
        """Knows one kernel: whatever kernels are installed, a report is run by the Python that was asked for it."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(argv=words, display_name=kernel_name, language="python")

    return AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=ThisPython(),
        transport="ipc",
        connection_file=str(scratch / "kernel.json"),
    )


def _plain(notebook: Any, widgets: bool) -> Any:
    """Take out of a notebook what is of this run alone."""
    kept = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    if widgets and "widgets" in notebook.metadata:
        kept["widgets"] = notebook.metadata["widgets"]
    notebook.metadata = type(notebook.metadata)(kept)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        cell.metadata.pop("papermill", None)
    return notebook
