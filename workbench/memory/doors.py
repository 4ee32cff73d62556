"""What `Moment`, `Diff` and `Case` offer of memory; `case.py` gives them these as base classes.

Thin: each method is one question to the case's analyst. Refuses to know how it is answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import AnalysisError, MomentNotFoundError, UsageError, WorkbenchError
from workbench.inquiry.analysis import Analyst
from workbench.inquiry.answer import Answer
from workbench.inquiry.identity import compare
from workbench.inquiry.lifelines import lifelines, question_of
from workbench.memory import PLUGINS
from workbench.memory.rules import read_rules
from workbench.memory.view import MemoryView
from workbench.model import CaptureId, CaptureRef
from workbench.progress import Progress, silent

__all__ = ["MemoryOfCase", "MemoryOfDiff", "MemoryOfMoment"]

_LONG = 600.0


class MemoryOfMoment:
    """Questions to the memory of one moment. Most return a DataFrame; see `vol` for what all have in common."""

    _analyst: Analyst
    id: CaptureId

    def vol(
        self, plugin: str, *, timeout: float = _LONG, progress: Progress = silent, **arguments: Any
    ) -> pd.DataFrame:
        """Run a plugin of Volatility 3, or a question of ours (`workbench.*`), at this moment.

        Parameters
        ----------
        plugin : str
            "linux.pslist.PsList"; the class may be left out where the module has one.
        timeout : float
            Seconds after which it is given up.
        progress : callable, optional
        **arguments
            The plugin's own, as `workbench vol --list` shows them: `pid=[1]`.

        Returns
        -------
        DataFrame
            The plugin's columns under its own names: integers Int64 or UInt64 (addresses canonical), texts string,
            times UTC. `attrs` has what was asked, the versions, `absent` (row, column, reason of each empty cell; see
            `absences`), `artefacts` (files taken out of memory) and, where it broke off, `partial` and `error`.

        Raises
        ------
        UsageError
            If there is no such plugin or argument.
        SymbolsError, AnalysisError
            If the capture cannot be understood, or the plugin fails before its first row or in time.
        StoreError
        """
        return self._analyst.ask(self.id, plugin, arguments, timeout=timeout, progress=progress).told()

    def processes(self) -> pd.DataFrame:
        """Return every process: pid, ppid, name, uid, gid, started, start_ns, kernel_thread, state, executable ..."""
        return self.vol("workbench.processes")

    def process_tree(self) -> pd.DataFrame:
        """Return the processes as a tree: `linux.pstree.PsTree`, with `depth`."""
        return self.vol("linux.pstree.PsTree")

    def modules(self) -> pd.DataFrame:
        """Return the kernel's modules: `linux.lsmod.Lsmod`."""
        return self.vol("linux.lsmod.Lsmod")

    def sockets(self) -> pd.DataFrame:
        """Return the sockets that processes hold: `linux.sockstat.Sockstat`."""
        return self.vol("linux.sockstat.Sockstat")

    def open_files(self) -> pd.DataFrame:
        """Return the files that processes hold open: `linux.lsof.Lsof`."""
        return self.vol("linux.lsof.Lsof")

    def mounts(self) -> pd.DataFrame:
        """Return the mounts: `linux.mountinfo.MountInfo`."""
        return self.vol("linux.mountinfo.MountInfo")

    def bash_history(self) -> pd.DataFrame:
        """Return what was typed into shells that still run: `linux.bash.Bash`."""
        return self.vol("linux.bash.Bash")

    def kernel_log(self) -> pd.DataFrame:
        """Return the kernel's log: `linux.kmsg.Kmsg`."""
        return self.vol("linux.kmsg.Kmsg")

    def page_cache(self) -> pd.DataFrame:
        """Return the files that are in the page cache: `linux.pagecache.Files`."""
        return self.vol("linux.pagecache.Files")

    def malfind(self) -> pd.DataFrame:
        """Return executable mappings that look injected: `linux.malware.malfind.Malfind`."""
        return self.vol("linux.malware.malfind.Malfind")

    def environment(self, pid: int) -> pd.DataFrame:
        """Return the environment of a process: `linux.envars.Envars`."""
        return self.vol("linux.envars.Envars", pid=[pid])

    def maps(self, pid: int) -> pd.DataFrame:
        """Return the mappings of a process: `linux.proc.Maps`."""
        return self.vol("linux.proc.Maps", pid=[pid])

    def kernel(self) -> pd.DataFrame:
        """Return one row about the kernel: release, banner, build, shift, levels, symbols (path of its table) ..."""
        return self.vol("workbench.kernel")

    def detect(self) -> pd.DataFrame:
        """Return what the detectors find: hidden processes and modules, hooks, deleted binaries and more."""
        return self.vol("workbench.detect")

    @property
    def memory(self) -> MemoryView:
        """The memory itself: bytes, strings, processes' address spaces."""
        return MemoryView(self._analyst, self.id)

    def artefacts(self, answer: pd.DataFrame) -> pd.DataFrame:
        """Return the files that a plugin took out of memory: name, sha256, size (int64), path."""
        rows = [{**each, "path": str(self._analyst.files / each["sha256"])} for each in answer.attrs["artefacts"]]
        return pd.DataFrame(rows, columns=["name", "sha256", "size", "path"])


class MemoryOfDiff:
    """What came, went and changed between two moments."""

    a: Any
    b: Any

    def vol(self, plugin: str, *, timeout: float = _LONG, **arguments: Any) -> pd.DataFrame:
        """Compare the answers of a plugin: `change` ("came", "went", "changed"), `changed` (columns), and its columns.

        Raises
        ------
        As `Moment.vol`.
        """
        before, after = (each.vol(plugin, timeout=timeout, **arguments) for each in (self.a, self.b))
        found = compare(after.attrs["plugin"], before, after)
        found.attrs["partial"] = before.attrs["partial"] or after.attrs["partial"]
        return found

    def processes(self) -> pd.DataFrame:
        """Return the processes that came, went or changed."""
        return self.vol("workbench.processes")

    def pages(self) -> pd.DataFrame:
        """Return every page of memory that changed, with whose it is at the later moment."""
        answer: pd.DataFrame = self.b.vol("workbench.pages", against=self.a.id)
        return answer


class MemoryOfCase:
    """Questions to a span of captures."""

    _spare_analyst: Analyst | None = None
    path: Path

    @property
    def analyst(self) -> Analyst:
        """Who asks the captures; made at first use."""
        if self._spare_analyst is None:
            self._spare_analyst = self._new_analyst()
        return self._spare_analyst

    def _new_analyst(self) -> Analyst:
        return Analyst(self.path)

    def use_symbols(self, path: Path | str | None) -> None:
        """Use a symbol table (ISF), or a folder of them, instead of those made from memory; None goes back to those.

        With a folder (`windows/`, `linux/` below it) Volatility finds the kernel by its own automagic: the way for
        Windows guests. Questions of ours (`workbench.*`) need a kernel that is known by its memory.
        """
        self.analyst.use_symbols(None if path is None else Path(path))

    def plugins(self, prefix: str = "linux.") -> pd.DataFrame:
        """Return Volatility's plugins whose names begin with `prefix`; with "workbench.", our own questions.

        Returns
        -------
        DataFrame
            plugin; arguments ("pid: what it is; ..."); kinds ("pid: list of int; dump: bool; ...": bool, int, text,
            "list of ...", "one of a, b", each with ", needed" where it cannot be left out). All string.
        """
        return self.analyst.ask_anyone(PLUGINS, {"prefix": prefix})

    def _span(self, since: str | None, until: str | None, guest: str | None) -> Sequence[CaptureRef]:
        """Return the captures between two moments, oldest first."""
        raise NotImplementedError

    def lifelines(
        self,
        kind: str,
        since: str | None = None,
        until: str | None = None,
        guest: str | None = None,
        *,
        timeout: float = _LONG,
        progress: Progress = silent,
        **arguments: Any,
    ) -> pd.DataFrame:
        """Return when each process (module, socket, mount ...) was first and last seen.

        Parameters
        ----------
        kind : str
            "processes", "modules", "sockets", "mounts", "files", "threads", "addresses", "cached files", "bpf", or a
            plugin's name.
        since, until : str, optional
            Moments; by default the whole history.

        Returns
        -------
        DataFrame
            As `workbench.inquiry.lifelines.lifelines`; `attrs["failed"]` has the error of each capture that could not
            be asked.

        Raises
        ------
        AnalysisError
            If no capture could be asked.
        """
        span, question = self._span(since, until, guest), question_of(kind)
        answers: dict[str, pd.DataFrame] = {}
        failed: dict[str, str] = {}
        asked = [(ref.id, arguments) for ref in span]
        for capture, outcome in self.analyst.ask_many(asked, question, timeout=timeout, progress=progress):
            if isinstance(outcome, Answer) and not outcome.partial:
                answers[capture] = outcome.frame
            else:
                failed[capture] = outcome.error if isinstance(outcome, Answer) else str(outcome)
        if not answers:
            raise _none_answered(question, failed)
        found = lifelines(question, span, answers)
        found.attrs["failed"] = failed
        return found

    def yara(
        self,
        rules: str | Path | Sequence[Path],
        since: str | None = None,
        until: str | None = None,
        guest: str | None = None,
        *,
        mark: bool = True,
        timeout: float = _LONG,
        progress: Progress = silent,
    ) -> pd.DataFrame:
        """Scan each capture's changed pages with YARA-X rules; the first of the span is scanned whole.

        A hit is in the capture that brought its page, so the first row of a rule says when it came. Conditions on the
        whole file (`filesize`, counts) see only the pages that changed.

        Parameters
        ----------
        rules : str, Path or sequence of Path
            Rules as text, a file, a directory, or several files.
        mark : bool
            Mark the first capture in which each rule hit, as `yara-RULE`.

        Returns
        -------
        DataFrame
            time (datetime64[us, UTC]), capture, rule, namespace, pattern, address (UInt64, physical), region, offset,
            length, data (bytes, 64 at most), tags, and whose the page is: owner, pid, process, path ... By time.
            `attrs["failed"]` has the error of each capture that could not be scanned to its end.

        Raises
        ------
        UsageError
            If the rules do not compile: says where.
        """
        text, span = read_rules(rules), self._span(since, until, guest)
        earlier = self._parents(span)
        asked = [(ref.id, {"rules": text, "against": earlier.get(ref.id)}) for ref in span]
        hits: list[pd.DataFrame] = []
        failed: dict[str, str] = {}
        times: dict[str, pd.Timestamp] = {
            ref.id: pd.Timestamp(ref.time_ns // 1000, unit="us", tz="UTC") for ref in span
        }
        for capture, outcome in self.analyst.ask_many(asked, "workbench.yara", timeout=timeout, progress=progress):
            if isinstance(outcome, UsageError):
                raise outcome
            if isinstance(outcome, WorkbenchError) or outcome.error:
                failed[capture] = outcome.error if isinstance(outcome, Answer) else str(outcome)
            if isinstance(outcome, Answer):
                hits.append(outcome.frame.assign(time=times[capture]))
        if not hits:
            raise _none_answered("workbench.yara", failed)
        found = pd.concat([each for each in hits if len(each)] or hits[:1], ignore_index=True)
        found = found[["time", *(name for name in found.columns if name != "time")]]
        found = found.sort_values(["time", "rule", "address"], ignore_index=True)
        found.attrs["failed"] = failed
        if mark:
            self._mark_hits(found, guest)
        return found

    def _parents(self, span: Sequence[CaptureRef]) -> dict[str, str]:
        """Return, for each capture of a span, the one in it that it is a change of."""
        raise NotImplementedError

    def _mark_hits(self, hits: pd.DataFrame, guest: str | None) -> None:
        """Mark the first capture of each rule's hits, unless it is marked so."""
        raise NotImplementedError


def _none_answered(question: str, failed: dict[str, str]) -> WorkbenchError:
    if not failed:
        return MomentNotFoundError("no capture lies in this span", cure="See `workbench timeline`.")
    return AnalysisError(f"no capture could be asked for {question}: {next(iter(failed.values()))}")
