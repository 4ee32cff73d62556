"""YARA over the memory that changed between two captures: a rule costs milliseconds per interval, and a hit has a time.

What a rule sees is a buffer of changed pages with 512 bytes of their unchanged neighbours, not a file:

- A hit counts if at least one of its bytes is in a changed page. One that crosses into an unchanged neighbour by more
  than 512 bytes, or between pages that are neighbours only in a process's virtual memory, is not found.
- Conditions over the whole (`filesize`, `#a > 3`, `all of them`, `$a at 0`, `uint16(0)`, modules such as `elf`) speak
  of the changed pages of a buffer (at most 64 MiB of them, by physical address), in which no file begins at 0.
- Pages that became all zero are not looked at.

Refuses to run longer than its limit per buffer, and to hide it: what was cut short is told in `attrs["error"]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.errors import AnalysisError
from workbench.memory.physical import PhysicalMemory
from workbench.memory.rules import RuleSet, compile_rules
from workbench.memory.stretches import Buffer, Stretches
from workbench.model import PAGE, CaptureId, RegionKind
from workbench.store import CaptureView, CaseStore

if TYPE_CHECKING:
    from workbench.memory.questions import Scene

__all__ = ["changed_pages", "scan_changed", "yara"]

_BUFFER = 64 << 20
"""Bytes of pages in one buffer."""
_SECONDS = 60
"""For one buffer."""
_MOST_PER_PATTERN = 10_000
"""What a condition such as `#a > 3` can count to."""
_MOST_PER_RULE = 1000
"""Hits that are told, over all buffers."""
_MOST_ALONE = 256
"""Stretches of one buffer that are scanned again by themselves."""
_DATA = 64
"""Bytes of a hit that are kept."""
_COLUMNS = {
    "capture": "str", "rule": "str", "namespace": "str", "pattern": "str", "address": "UInt64", "region": "str",
    "offset": "Int64", "length": "Int64", "data": "object", "tags": "str",
}  # fmt: skip
_OWNERS = {
    "owner": "string", "pid": "Int64", "process": "string", "mapping_start": "UInt64", "mapping_end": "UInt64",
    "virtual": "UInt64", "protection": "string", "shared": "boolean", "path": "string", "file_offset": "Int64",
    "mappings": "Int64", "detail": "string",
}  # fmt: skip
_PLACE = ["rule", "namespace", "pattern", "region", "offset", "length"]


def changed_pages(store: CaseStore, before: CaptureId | None, after: CaptureId) -> dict[str, NDArray[np.int64]]:
    """Return the pages of each memory region of `after` that differ from `before`; all that are not zero for None.

    Raises
    ------
    UsageError
        If there is no such capture, or they are of two guests.
    StoreError
    """
    view = store.view(after)
    regions = [region for region in view.record.regions if region.spec.kind is RegionKind.MEMORY]
    if before is None:
        return {region.spec.name: view.region(region.spec.name).nonzero() for region in regions}
    changed = store.diff(before, after)
    blocks = {region.spec.name: region.spec.blocks for region in regions}
    return {name: changed[name][changed[name] < most] for name, most in blocks.items() if name in changed}


def scan_changed(store: CaseStore, before: CaptureId | None, after: CaptureId, rules: RuleSet) -> pd.DataFrame:
    """Scan the memory pages that changed between two captures.

    Parameters
    ----------
    store : CaseStore
    before : CaptureId or None
        None scans all of `after` that is not zero.
    after : CaptureId
    rules : RuleSet

    Returns
    -------
    DataFrame
        One row per hit, by rule and place: capture (str, `after`), rule, namespace, pattern (str), address (UInt64,
        guest-physical; absent where the guest does not see the page), region (str), offset (Int64, bytes in the
        region), length (Int64, bytes), data (object, bytes, the first 64), tags (str, by commas). A rule that matches
        by its condition alone has a row without pattern and place. `attrs["error"]` says what was cut short.

    Raises
    ------
    UsageError
        If there is no such capture, or they are of two guests.
    AnalysisError
        If the scan fails.
    StoreError
    """
    view = store.view(after)
    return _scan(view, PhysicalMemory.of_capture(view), changed_pages(store, before, after), rules)


def _scan(
    view: CaptureView, memory: PhysicalMemory, pages: dict[str, NDArray[np.int64]], rules: RuleSet
) -> pd.DataFrame:
    hits = _Hits(rules, Stretches(view, memory, pages, _BUFFER))
    hits.take_all()
    rows = [(view.record.id, *row) for row in hits.rows]
    frame = pd.DataFrame({name: [row[at] for row in rows] for at, name in enumerate(_COLUMNS)}).astype(_COLUMNS)
    if rows:  # Where two buffers meet, both see what crosses; a stretch that is scanned again gives its hits twice.
        frame = frame.drop_duplicates(_PLACE).sort_values(_PLACE, ignore_index=True)
    if hits.notes:
        frame.attrs["error"] = "; ".join(hits.notes)
    return frame


@dataclass(slots=True)
class _Hits:
    """What was found so far, and what was cut short (as keys, in order)."""

    rules: RuleSet
    stretches: Stretches
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def take_all(self) -> None:
        """Scan all buffers, or until one takes too long."""
        import yara_x

        scanner = self.rules.scanner(_SECONDS, _MOST_PER_PATTERN)
        try:
            for buffer in self.stretches.buffers():
                self._take(scanner, buffer)
        except yara_x.TimeoutError:
            self.notes[f"the rules took more than {_SECONDS} s for one buffer, and the scan ended there"] = None
        except yara_x.ScanError as error:
            raise AnalysisError(f"the scan failed: {error}", cure="Scan with fewer rules.") from error

    def _take(self, scanner: Any, buffer: Buffer) -> None:
        leaving: dict[int, set[tuple[str, str, str]]] = {}
        for rule in scanner.scan(buffer.data).matching_rules:
            found = False
            for key, index, offset, length in self._matches(rule):
                found = True
                where = buffer.stretch(offset)
                if offset + length > int(buffer.end[where]):
                    leaving.setdefault(where, set()).add(key)
                else:
                    self._keep(rule, index, buffer, where, offset, length)
            if not found:
                self._append(rule, (None, None, None, None, None, None))
        self._take_alone(scanner, buffer, leaving)

    def _take_alone(self, scanner: Any, buffer: Buffer, leaving: dict[int, set[tuple[str, str, str]]]) -> None:
        """Look again for what ran past the end of its stretch: there, it may end inside."""
        if len(leaving) > _MOST_ALONE:
            self.notes["hits that run on past the changed pages were too many, and some were left out"] = None
        for where in sorted(leaving)[:_MOST_ALONE]:
            alone = buffer.alone(where)
            for rule in scanner.scan(alone.data).matching_rules:
                for key, index, offset, length in self._matches(rule):
                    if key in leaving[where]:
                        self._keep(rule, index, alone, 0, offset, length)

    def _matches(self, rule: Any) -> Iterator[tuple[tuple[str, str, str], str, int, int]]:
        """Yield what a rule matched: its key, pattern, offset and length in bytes."""
        for pattern in rule.patterns:
            matches = pattern.matches
            if len(matches) >= _MOST_PER_PATTERN:
                self.notes[f"{rule.identifier} {pattern.identifier} has more than {_MOST_PER_PATTERN} matches"] = None
            key = (rule.namespace, rule.identifier, pattern.identifier)
            for match in matches:
                yield key, pattern.identifier, match.offset, match.length

    def _keep(self, rule: Any, pattern: str, buffer: Buffer, where: int, offset: int, length: int) -> None:
        """Keep a match in a stretch if one of its bytes is in a changed page."""
        if offset + length <= int(buffer.first[where]) or offset >= int(buffer.last[where]):
            return
        if self.counts.get((rule.namespace, rule.identifier), 0) >= _MOST_PER_RULE:
            self.notes[f"{rule.identifier} has more than {_MOST_PER_RULE} hits"] = None
            return
        spot = self.stretches.spot(buffer, where, offset)
        data = buffer.data[offset : offset + min(length, _DATA)]
        self._append(rule, (pattern, spot.address, spot.region, spot.offset, length, data))

    def _append(self, rule: Any, place: tuple[Any, ...]) -> None:
        name = (rule.namespace, rule.identifier)
        self.counts[name] = self.counts.get(name, 0) + 1
        self.rows.append((rule.identifier, rule.namespace, *place, ",".join(rule.tags)))


def yara(scene: Scene, rules: str, against: str | None = None) -> pd.DataFrame:
    """Answer `workbench.yara`: hits in what changed since another capture, with whose memory each is in.

    Parameters
    ----------
    scene : Scene
    rules : str
        Text, as `workbench.memory.rules.read_rules` gives it.
    against : str, optional
        Id of an earlier capture; without, everything that is not zero is scanned.

    Returns
    -------
    DataFrame
        The columns of `scan_changed`, and those of `workbench.owners` (owner, pid, process, path ...), by the page that
        a hit begins in. Where owners cannot be told, these are absent and `attrs["error"]` says why.

    Raises
    ------
    UsageError
        If the rules do not compile, or there is no such capture.
    AnalysisError, StoreError
    """
    compiled = compile_rules(rules)
    before = None if against is None else CaptureId(against)
    after = scene.view.record.id
    hits = _scan(scene.view, scene.sight.memory, changed_pages(scene.store, before, after), compiled)
    return _with_owners(scene, hits)


def _with_owners(scene: Scene, hits: pd.DataFrame) -> pd.DataFrame:
    # Owners are by frame, each once; a hit without an address has none.
    pages = (hits["address"] // PAGE).astype("Int64").fillna(-1).to_numpy(np.int64)
    owners, told = _owners(scene, np.unique(pages[pages >= 0]).tolist())
    own = owners.set_index("pfn").reindex(columns=list(_OWNERS)).reindex(pages).reset_index(drop=True)
    found = pd.concat([hits, own.astype(_OWNERS)], axis=1)
    error = "; ".join(filter(None, [hits.attrs.get("error", ""), told]))
    found.attrs = {"error": error} if error else {}
    return found


def _owners(scene: Scene, pages: list[int]) -> tuple[pd.DataFrame, str]:
    """Return the owners of page frames, and what they lack; none where they cannot be told: the hits stay."""
    from workbench.memory.questions import OWN, ask

    none = pd.DataFrame({"pfn": pd.Series(dtype="int64")})
    if not pages:
        return none, ""
    if "workbench.owners" not in OWN:
        return none, "owners of pages cannot be told here"
    try:
        answer = ask(scene, "workbench.owners", {"pages": pages})
    except AnalysisError as error:
        return none, f"owners of pages cannot be told: {error}"
    return answer.frame, answer.error
