"""Findings on changed pages: code that appeared in memory, kernel code that changed, pages that are not their file's.

Compared are two captures of one boot. The kernel patches its own text (static keys, static calls, the function tracer):
a change that its own tables account for, byte by byte, is told with low weight; every other change of kernel or module
text or constants has high weight. Alternatives are applied at boot and are not allowed for; breakpoints of kprobes have
no table and are told as changes.

Not done here: the page cache is not held against the disk (`workbench.instant.code` does). A mapped page is held
against the page cache, and the page cache against itself in the earlier capture. Not seen are processes and modules
that took themselves off the kernel's lists, pages in swap, and code that appeared and went between the captures.

Refuses to judge intent: a compiler at run time (Java, JavaScript) makes executable memory too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.memory.owners import OWNER_COLUMNS, Table
from workbench.memory.owning.frames import I64
from workbench.memory.owning.kernelcode import TEXT, Alteration, alterations, text_spans
from workbench.memory.owning.owned import Image, Maps, Owned, own, read_image, read_maps
from workbench.memory.owning.patching import read_sites
from workbench.memory.owning.structpages import StructPages, read_struct_pages
from workbench.memory.owning.structures import Moment
from workbench.memory.owning.usercode import Suspect, suspects, writable_executable
from workbench.memory.pages import changed_pages
from workbench.memory.physical import PhysicalMemory
from workbench.memory.symbols.kernel import still_there
from workbench.model import CaptureId

if TYPE_CHECKING:
    from workbench.memory.questions import Scene

__all__ = ["REASONS", "findings"]

REASONS = {
    "executable_anonymous": "a process can execute a private page that no file is behind",
    "executable_kernel_page": "a process can execute a page that the kernel made for it, as for probes",
    "executable_beyond_mapping": "the page table lets a process execute what its mapping does not",
    "executable_copy_differs": "a process executes a private copy of a file's page, and it is not what the file has",
    "executable_copy_unverified": "a process executes a private copy of a file's page that is not in the page cache",
    "file_page_replaced": "a process executes a page in place of its file's",
    "file_page_changed": "a page of a file that processes execute changed in memory",
    "writable_executable_mapping": "a mapping appeared that a process can both write and execute",
    "kernel_text_changed": "the kernel's code changed, and not where it patches itself",
    "kernel_text_patched": "the kernel's code changed where it patches itself",
    "kernel_rodata_changed": "the kernel's constants changed",
    "module_text_changed": "a module's code changed, and not where the kernel patches it",
    "module_text_patched": "a module's code changed where the kernel patches it",
    "module_rodata_changed": "a module's constants changed",
}
"""What each finding says."""
_MOST = 10_000
"""Rows of one kind at most."""
_SHOWN = 32
"""Bytes of a page that are shown."""
_MOST_SITES = 4


@dataclass(frozen=True, slots=True)
class _Before:
    """The earlier moment, as far as the same kernel ran in it."""

    moment: Moment
    maps: Maps
    image: Image
    struct: StructPages


def findings(scene: Scene, against: str) -> pd.DataFrame:
    """Return what in the pages that changed since an earlier capture needs an explanation.

    Parameters
    ----------
    against : str
        Id of the earlier capture.

    Returns
    -------
    DataFrame
        High weight first, then by finding and address:

        finding : string
            One of `REASONS`.
        weight : string
            "high" or "low".
        pfn : Int64
            Page frame number; absent for a mapping.
        address : UInt64
            Physical, bytes.
        owner ... detail
            As `workbench.owners` has them; path and offset are those of the page, as it is.
        reason : string
        evidence : string
            First bytes and SHA-256 of the page; for a change, how many bytes differ, the first of them before and
            after, or the sites that were patched.

        `attrs["error"]` says what could not be compared.

    Raises
    ------
    UsageError
        If the case has no such capture, or it is of another guest.
    SymbolsError, StoreError
    """
    from workbench.memory.volatility.ownership import moment_of

    changed = changed_pages(scene, against).frame
    changed = np.unique(changed[changed >= 0])
    now = moment_of(scene.sight, scene.view)
    scene.progress(10.0, "Reading page tables")
    owned = own(now)
    scene.progress(40.0, "Reading the earlier capture")
    before = _before(scene, against, changed)
    scene.progress(70.0, "Comparing code")
    table = Table(now, owned)
    parts = [
        _rows(table.of_areas(np.zeros(0, np.int64)), "writable_executable_mapping", "high", []),  # the columns' types
        *_of_processes(now, table, owned, before, changed),
        *(_of_kernel(now, table, owned, before, changed) if before is not None else []),
    ]
    found = _sorted(parts)
    found.attrs["error"] = _not_compared(before, table, parts)
    return found


def _not_compared(before: _Before | None, table: Table, parts: list[pd.DataFrame]) -> str:
    """Say what could not be compared, each once; nothing where all was."""
    if before is None:
        boots = "the captures are of different boots: all code counts as new, kernel text is not compared"
        told = (boots, table.error, _cut(parts))
    else:
        told = (table.error, f"{before.maps.error}; {before.image.error}".strip("; "), _cut(parts))
    return "; ".join(dict.fromkeys(each for each in told if each))


def _before(scene: Scene, against: str, changed: I64) -> _Before | None:
    """Open the earlier moment; None where another kernel ran, or none."""
    from workbench.memory.volatility.ownership import moment_of

    view = scene.store.view(CaptureId(against))
    memory = PhysicalMemory.of_capture(view)
    if not still_there(memory, scene.sight.kernel):
        return None
    moment = moment_of(scene.sight, view, memory)
    return _Before(moment, read_maps(moment), read_image(moment), read_struct_pages(moment, changed))


def _of_processes(now: Moment, table: Table, owned: Owned, before: _Before | None, changed: I64) -> list[pd.DataFrame]:
    maps, struct = (None, None) if before is None else (before.maps, before.struct)
    parts = [_of_suspect(now, table, owned, each) for each in suspects(now, owned, maps, struct, changed)]
    areas = writable_executable(owned.maps, maps)
    if len(areas):
        parts.append(_of_areas(table, areas[:_MOST]))
    return parts


def _of_suspect(now: Moment, table: Table, owned: Owned, suspect: Suspect) -> pd.DataFrame:
    leaves, beside = suspect.leaves[:_MOST], suspect.beside[:_MOST]
    frames = owned.maps.pages.frame[leaves]
    evidence = []
    for begin in range(0, len(frames), 1024):
        content, _ = now.frames.take(frames[begin : begin + 1024])
        evidence += [_shown(row) for row in content]
    for at in np.flatnonzero(beside >= 0).tolist():
        content, _ = now.frames.take(np.array([frames[at], beside[at]]))
        evidence[at] = f"{_difference(content[1], content[0])}; file's page in frame {int(beside[at])}; {evidence[at]}"
    if suspect.finding == "file_page_replaced":
        evidence = [
            f"its mapping is of {path}; {told}"
            for path, told in zip(_files(table, owned, leaves), evidence, strict=True)
        ]
    return _rows(table.of_leaves(leaves), suspect.finding, suspect.weight, evidence)


def _files(table: Table, owned: Owned, leaves: I64) -> list[str]:
    """Return the files that the mappings of pages are of."""
    entries = owned.maps.areas.entry[owned.maps.area[leaves]]
    return [each.path or "a file without a name" for each in table.paths.of_entries(entries)]


def _shown(page: Any) -> str:
    content = page.tobytes()
    return f"begins {content[:_SHOWN].hex()}; sha256 {hashlib.sha256(content).hexdigest()}"


def _difference(before: Any, after: Any, offsets: I64 | None = None) -> str:
    offsets = np.flatnonzero(before != after) if offsets is None else offsets
    first = int(offsets[0])
    old, new = (each[first : first + _SHOWN // 2].tobytes().hex() for each in (before, after))
    return f"{len(offsets)} bytes differ, from offset {first:#x} on: {old} became {new}"


def _rows(owners: pd.DataFrame, finding: str, weight: str | list[str], evidence: list[str]) -> pd.DataFrame:
    return owners.astype({"pfn": "Int64", "address": "UInt64"}).assign(
        finding=finding, weight=weight, reason=REASONS[finding], evidence=evidence
    )


def _of_areas(table: Table, areas: I64) -> pd.DataFrame:
    owners = table.of_areas(areas)
    pages = ((owners["mapping_end"] - owners["mapping_start"]) // 4096).tolist()
    return _rows(owners, "writable_executable_mapping", "high", [f"{each} pages" for each in pages])


def _of_kernel(now: Moment, table: Table, owned: Owned, before: _Before, changed: I64) -> list[pd.DataFrame]:
    found = alterations(now, before.moment, owned.image, before.image, changed)[:_MOST]
    if not found:
        return []
    sites = read_sites(now, owned.image.modules)
    text = text_spans(owned.image)
    rows = table.of_frames(np.array([each.frame for each in found], np.int64))
    parts = []
    for at, each in enumerate(found):
        sound, words = False, [""]
        if each.span.owner in TEXT:
            where = np.uint64(each.virtual) + each.offsets.astype(np.uint64)
            sound, words = sites.judge(now, where, text)
        slug = f"{each.span.owner.replace(' ', '_')}_{'patched' if sound else 'changed'}"
        weight = "low" if sound else "high"
        parts.append(_rows(rows.iloc[[at]], slug, weight, [_evidence(each, words)]))
    return parts


def _evidence(each: Alteration, words: list[str]) -> str:
    told = "; ".join(words[:_MOST_SITES]) + (f"; {len(words) - _MOST_SITES} more" if len(words) > _MOST_SITES else "")
    return "; ".join(part for part in (told, _difference(each.before, each.after, each.offsets)) if part)


def _cut(parts: list[pd.DataFrame]) -> str:
    return f"more than {_MOST:,} of a kind: the rest is missing" if any(len(part) >= _MOST for part in parts) else ""


def _sorted(parts: list[pd.DataFrame]) -> pd.DataFrame:
    columns = ["finding", "weight", "pfn", "address", *OWNER_COLUMNS, "reason", "evidence"]
    texts = dict.fromkeys(("finding", "weight", "reason", "evidence"), "string")
    every = pd.concat(parts, ignore_index=True)[columns]
    return every.astype(texts).sort_values(["weight", "finding", "address"], ignore_index=True)
