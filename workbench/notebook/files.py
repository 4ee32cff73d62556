"""The files of a guest at a moment: the tree of its disks, what is known of an entry, its content, deleted entries.

Directories are listed when they are opened, files read by pages, both off the main thread. Refuses to write to the
host: a download is the browser's, and `Moment.extract` is for what is larger.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import ipywidgets
import pandas as pd
import traitlets

from workbench.notebook.branches import ROOT, Branches, ancestors, permissions
from workbench.notebook.preview import PAGE, Preview
from workbench.notebook.still import STATIC, Still
from workbench.notebook.table import Table
from workbench.notebook.text import inert, markup, when
from workbench.notebook.work import Work

if TYPE_CHECKING:
    from workbench.case import Moment

__all__ = ["FileBrowser"]

_PATIENCE = 120.0
"""Seconds that a static report waits for a listing."""


class FileBrowser(Still, ipywidgets.VBox):  # type: ignore[misc]
    """A moment's files.

    Parameters
    ----------
    moment : Moment
    path : str
        Where to begin.

    Attributes
    ----------
    moment : Moment
        What is looked at; another one may be set: what is open stays open as far as it is there.
    path : str
        The chosen entry; set by `go`.
    """

    moment = traitlets.Any()
    path = traitlets.Unicode(ROOT)

    def __init__(self, moment: Moment, path: str = ROOT) -> None:
        self._tree = Branches(moment.ls)
        self.work = Work(cancel=self._end)
        self.reading = Work(cancel=self._end)
        self._remembering = Work(cancel=self._end)
        self.table = Table(tree="depth", label="Files", hidden=("path",))
        self.deleted = Table(label="Deleted entries")
        self.preview = Preview()
        self._box = ipywidgets.Text(description="Path", value=ROOT, continuous_update=False, layout={"width": "34em"})
        self._deleted = ipywidgets.Checkbox(description="Deleted entries", indent=False, layout={"width": "auto"})
        bar = ipywidgets.HBox([self._box, self._deleted], layout={"flex_flow": "row wrap"})
        parts = [bar, self.work, self.table, self._remembering, self.deleted, self.reading, self.preview]
        super().__init__(parts, moment=moment)
        self.deleted.layout.display = "none"
        self._box.observe(self._typed, "value")
        self._deleted.observe(self._ask_deleted, "value")
        self.table.observe(self._chosen, "selected")
        self.table.on_open(lambda _row: self._toggle())
        self.go(path)

    def __repr__(self) -> str:
        return f"<FileBrowser of {self.moment!r} at {inert(self.path)}>"

    def still(self) -> str:
        """Return the tree and the chosen entry as HTML; a static report waits for them."""
        if os.environ.get(STATIC):
            self.wait(_PATIENCE)
        told = f"<p>{markup(repr(self), 400)} {markup(self.work.words, 600)}</p>"
        return told + self.table.still() + self.preview.still()

    def go(self, path: str) -> None:
        """Open what leads to a path, and choose it; a directory is opened itself."""
        moment, tree = self.moment, self._tree

        def deed(_progress: Any) -> str:
            found = moment.stat(path).iloc[0]
            real = str(found["path"])
            wanted = [*ancestors(real), real] if found["kind"] == "directory" else ancestors(real)
            for each in wanted:
                tree.open(each)
            return real

        self.work.run(f"Looking for {path}", deed, lambda real: self._drawn(tree, real))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until what was asked for is shown; tell whether that was in time (seconds)."""
        return all(each.wait(timeout) for each in (self.work, self.reading, self._remembering))

    # The tree.

    def _drawn(self, tree: Branches, path: str) -> None:
        frame = tree.frame()
        self._tree = tree
        self.table.label = f"Files at {when(self.moment.record.time_ns)}"
        self.table.frame = frame
        rows = frame.index[frame["path"] == path]
        if len(rows):
            self.table.selected = int(rows[0])
        else:
            self._look(path)

    def _toggle(self) -> None:
        """Open or close the chosen directory; of a link, go to what it leads to."""
        row = self.table.row
        if row is None:
            return
        path, tree = str(row["path"]), self._tree
        if row["kind"] == "link" or (row["kind"] == "directory" and path not in tree.opened):
            self.go(path)
        elif row["kind"] == "directory":
            tree.close(path)
            self._drawn(tree, path)

    def _typed(self, change: Any) -> None:
        if change["new"] and change["new"] != inert(self.path, 4096):
            self.go(change["new"])

    def _chosen(self, _change: Any) -> None:
        row = self.table.row
        if row is not None:
            self._look(str(row["path"]))

    @traitlets.observe("moment")
    def _moved(self, change: Any) -> None:
        if change["old"] in (None, traitlets.Undefined):
            return
        before, tree = self._tree, Branches(self.moment.ls)
        path = self.path
        self.work.run("Listing", lambda _progress: tree.like(before), lambda _none: self._drawn(tree, path))
        self._ask_deleted()

    # The chosen entry.

    def _look(self, path: str) -> None:
        moment = self.moment
        self.path = path
        self._box.value = inert(path, 4096)
        self.reading.run(
            f"Reading {path}", lambda _progress: _looked_at(moment, path), lambda found: self.preview.show(**found),
            self.preview.show,
        )  # fmt: skip

    def _ask_deleted(self, _change: Any = None) -> None:
        self.deleted.layout.display = "" if self._deleted.value else "none"
        if self._deleted.value:
            moment = self.moment

            def done(frame: pd.DataFrame) -> None:
                self.deleted.label = f"Deleted entries at {when(moment.record.time_ns)}"
                self.deleted.frame = frame

            self._remembering.run("Deleted entries", lambda _progress: moment.deleted(), done)

    def _end(self) -> None:
        """End the question that is being answered."""
        self.moment.case.analyst.close()


def _looked_at(moment: Moment, path: str) -> dict[str, Any]:
    """Return what `Preview.show` takes."""
    row = moment.stat(path, follow=False).iloc[0]
    told = {"title": path, "about": _about(row)}
    if row["kind"] != "file":
        return told
    file, lock = moment.open(path), threading.Lock()

    def read(offset: int, length: int) -> bytes:
        with lock:
            file.seek(offset)
            return file.read(length)

    return {**told, "size": int(row["size"]), "read": read, "first": read(0, PAGE)}


def _about(row: pd.Series) -> list[tuple[str, str]]:
    """Return what is known of an entry, in words."""
    told = [
        ("kind", row["kind"]),
        ("size", f"{int(row['size']):,} bytes"),
        ("mode", f"{permissions(str(row['kind']), int(row['mode']))} ({int(row['mode']):04o})"),
        ("owner", f"{row['uid']}:{row['gid']}"),
        ("links", row["links"]),
        ("inode", row["inode"]),
        *(
            (name, when(row[name].value))
            for name in ("modified", "changed", "accessed", "created")
            if pd.notna(row[name])
        ),
        ("leads to", row["target"]),
        *((name, row[name]) for name in ("source", "state") if name in row.index),
    ]
    return [(name, str(value)) for name, value in told if value is not None and not pd.isna(value)]
