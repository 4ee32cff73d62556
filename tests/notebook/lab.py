"""A JupyterLab of the tests' own, as the bench starts one too; tests import it from here."""

from workbench.bench.lab import KERNEL, TOKEN, Notebook, end_sessions, free_port, jupyterlab, wear

__all__ = ["KERNEL", "TOKEN", "Notebook", "end_sessions", "free_port", "jupyterlab", "wear"]
