"""The bytes of what a case holds as JSON: capture records, marks, `case.json` and `guest.json`; no file is touched.

Canonical JSON is sorted, without spaces, UTF-8: one content has one text, and so one digest. Refuses what JSON cannot
say exactly (NaN, infinities, keys that are not text, numbers of numpy) instead of turning it into something near.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from typing import Any

from blake3 import blake3

from workbench.errors import DamagedError, FormatError, UsageError
from workbench.model import (
    CaptureId,
    CaptureMode,
    CaptureRecord,
    CaptureRef,
    GuestId,
    GuestRecord,
    Mark,
    RegionKind,
    RegionRecord,
    RegionSpec,
)
from workbench.store.format import FRAME_BYTES, check_magic

__all__ = [
    "canonical",
    "check_json",
    "check_region",
    "decode_case",
    "decode_guest",
    "decode_mark",
    "decode_record",
    "encode_case",
    "encode_guest",
    "encode_mark",
    "encode_record",
    "guest_id",
    "is_hex",
    "is_mark_name",
    "mark_name",
]

CAPTURE_MAGIC = b"RWcapt\0\1"
FORMAT = 1
MAX_TIME_NS = 2**63 - 1
_MAX_BLOCKS = 2**32 - 1
_MAX_NESTING = 32
_JSON_CURE = "Give text, int, finite float, bool, None, lists of these, or mappings with keys of text."


def canonical(value: object) -> bytes:
    """Return the canonical JSON text of `value`."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def check_json(value: object, where: str = "facts", nesting: int = 0) -> None:
    """See that `value` survives JSON unchanged (tuples count as lists).

    Raises
    ------
    UsageError
        Naming the place of what does not.
    """
    if nesting > _MAX_NESTING:
        raise UsageError("facts are nested too deep", where=where, limit=_MAX_NESTING, cure=_JSON_CURE)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise UsageError("key is not text", where=where, found=key, cure=_JSON_CURE)
            _check_scalar(key, where)
            check_json(inner, f"{where}.{key}", nesting + 1)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            check_json(inner, f"{where}[{number}]", nesting + 1)
    else:
        _check_scalar(value, where)


def _check_scalar(value: object, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError("JSON has no such number", where=where, found=value, cure=_JSON_CURE)
    if isinstance(value, str) and value.encode("utf-8", "replace").decode() != value:
        raise UsageError("text has no UTF-8", where=where, found=ascii(value), cure=_JSON_CURE)
    if value is not None and not isinstance(value, bool | int | float | str):
        raise UsageError("value is not JSON", where=where, found=type(value).__name__, cure=_JSON_CURE)


def check_region(spec: RegionSpec) -> None:
    """See that a region can be stored.

    Raises
    ------
    UsageError
        If its name, length or block size are out of bounds.
    """
    cure = "Lengths are 0 or more, block sizes multiples of 512 up to 256 KiB, blocks fewer than 2**32."
    sound = 0 <= spec.length < 2**63 and 512 <= spec.block_size <= FRAME_BYTES and spec.block_size % 512 == 0
    if not sound or spec.blocks > _MAX_BLOCKS:
        raise UsageError(
            "region cannot have this shape", region=spec.name, length=spec.length, block_size=spec.block_size, cure=cure
        )
    check_json(spec.name, "region")
    if not 1 <= len(spec.name.encode()) <= 255:
        raise UsageError("name of a region must have 1 to 255 bytes", region=spec.name, cure="Shorten it.")


# Names of files.


def guest_id(text: str) -> GuestId:
    """Return `text` as a guest's identity: it becomes a directory, so nothing but a canonical UUID will do.

    Raises
    ------
    UsageError
        If it is no canonical UUID.
    """
    try:
        if str(uuid.UUID(text)) == text:
            return GuestId(text)
    except ValueError:
        pass
    raise UsageError("a guest is named by a UUID", found=text, cure="Use the domain's UUID, in lower case with dashes.")


def is_hex(text: str) -> bool:
    """Return whether `text` is of hexadecimal digits in lower case."""
    return all(digit in "0123456789abcdef" for digit in text)


# Capture records.


def _region_document(region: RegionRecord) -> dict[str, object]:
    spec = region.spec
    return {
        "name": spec.name,
        "kind": spec.kind.value,
        "length": spec.length,
        "block_size": spec.block_size,
        "digest": region.digest,
    }


def encode_record(
    *,
    guest: GuestId,
    parent: CaptureId | None,
    depth: int,
    branch: int,
    time_ns: int,
    mode: CaptureMode,
    reason: str,
    regions: tuple[RegionRecord, ...],
    facts: Mapping[str, Any],
) -> tuple[CaptureRecord, bytes]:
    """Return a capture's record, with its id, and the bytes of its file.

    Raises
    ------
    UsageError
        If facts or reason are not JSON, or the time is before 1970 or past 2262.
    """
    check_json(facts)
    check_json(reason, "reason")
    if not 0 <= time_ns <= MAX_TIME_NS:
        raise UsageError(
            "a capture's time must lie between 1970 and 2262", time_ns=time_ns, cure="Look after the clock."
        )
    document = {
        "guest": guest,
        "parent": parent,
        "depth": depth,
        "branch": branch,
        "time_ns": int(time_ns),
        "mode": CaptureMode(mode).value,
        "reason": reason,
        "regions": [_region_document(region) for region in regions],
        "facts": facts,
    }
    text = canonical(document)
    capture = CaptureId(blake3(text).hexdigest())
    return _record(capture, json.loads(text)), CAPTURE_MAGIC + text


def decode_record(data: bytes, ref: CaptureRef, guest: GuestId, name: str) -> CaptureRecord:
    """Return the record of `ref` stored as `data`.

    Raises
    ------
    DamagedError
        If the bytes are not those of this capture.
    FormatError
        If the format is newer.
    """
    check_magic(data, CAPTURE_MAGIC, name)
    text = data[len(CAPTURE_MAGIC) :]
    found = blake3(text).hexdigest()
    if found != ref.id:
        raise DamagedError("capture's record is damaged", path=name, offset=8, expected=ref.id, found=found)
    try:
        record = _record(ref.id, json.loads(text))
        for region in record.regions:
            check_region(region.spec)
    except (ValueError, KeyError, TypeError, RecursionError, UsageError) as error:
        raise DamagedError(f"capture's record makes no sense: {error!r}", path=name) from error
    if record.time_ns != ref.time_ns or record.guest != guest:
        raise DamagedError(
            "capture's record is filed under another time or guest",
            path=name,
            expected=(ref.time_ns, guest),
            found=(record.time_ns, record.guest),
        )
    return record


def _record(capture: CaptureId, document: dict[str, Any]) -> CaptureRecord:
    regions = tuple(
        RegionRecord(
            RegionSpec(str(row["name"]), RegionKind(row["kind"]), int(row["length"]), int(row["block_size"])),
            str(row["digest"]),
        )
        for row in document["regions"]
    )
    parent = document["parent"]
    if parent is not None and not (isinstance(parent, str) and len(parent) == 64 and is_hex(parent)):
        raise ValueError("parent is no capture")
    return CaptureRecord(
        id=capture,
        guest=GuestId(document["guest"]),
        parent=None if parent is None else CaptureId(parent),
        depth=int(document["depth"]),
        branch=int(document["branch"]),
        time_ns=int(document["time_ns"]),
        mode=CaptureMode(document["mode"]),
        reason=str(document["reason"]),
        regions=regions,
        facts=dict(document["facts"]),
    )


# Marks: JSON filed under its own digest.


def encode_mark(mark: Mark) -> bytes:
    """Return the bytes of a mark's file.

    Raises
    ------
    UsageError
        If the mark has no name, or a time or text that cannot be stored.
    """
    document = {
        "name": mark.name,
        "guest": mark.guest,
        "time_ns": mark.time_ns,
        "capture": mark.capture,
        "kind": mark.kind,
        "note": mark.note,
    }
    check_json(document, "mark")
    if not mark.name.strip() or not 0 <= mark.time_ns <= MAX_TIME_NS:
        raise UsageError(
            "a mark needs a name and a time after 1970", name=mark.name, time_ns=mark.time_ns, cure="Give both."
        )
    return canonical(document)


def mark_name(time_ns: int, data: bytes) -> str:
    """Return the file name of a mark whose file holds `data`."""
    return f"{time_ns:020d}-{blake3(data).hexdigest()}.mark"


def is_mark_name(name: str) -> bool:
    """Return whether a file name is one that `mark_name` makes."""
    time, dash, rest = name.partition("-")
    return (
        len(name) == 90
        and bool(dash)
        and name.isascii()
        and time.isdecimal()
        and rest.endswith(".mark")
        and is_hex(rest[:64])
    )


def decode_mark(data: bytes, name: str) -> Mark:
    """Return the mark stored as `data` in the file `name`.

    Raises
    ------
    DamagedError
        If the bytes are not those that the name tells of.
    """
    expected, found = name.rpartition("/")[2], blake3(data).hexdigest()
    if expected.partition("-")[2] != f"{found}.mark":
        raise DamagedError(
            "mark is damaged", path=name, offset=0, expected=expected.partition("-")[2][:64], found=found
        )
    try:
        row = json.loads(data)
        capture = None if row["capture"] is None else CaptureId(str(row["capture"]))
        mark = Mark(
            str(row["name"]), GuestId(row["guest"]), int(row["time_ns"]), capture, str(row["kind"]), str(row["note"])
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"mark makes no sense: {error!r}", path=name) from error
    if mark_name(mark.time_ns, data) != expected:
        raise DamagedError("mark is filed under another time", path=name, expected=expected[:20], found=mark.time_ns)
    return mark


# case.json and guest.json: JSON with its own digest inside.


def _seal(document: dict[str, object]) -> bytes:
    return canonical({**document, "digest": blake3(canonical(document)).hexdigest()}) + b"\n"


def _unseal(data: bytes, name: str) -> dict[str, Any]:
    """Return the document of a sealed JSON file.

    Raises
    ------
    FormatError
        Not one of ours, or of a newer format.
    DamagedError
        The digest does not fit.
    """
    try:
        document = json.loads(data)
        version = document["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(
            "file is not of a case of the workbench", path=name, cure="Name the directory of a case."
        ) from error
    if version != FORMAT:
        raise FormatError(
            "case is of a format that this version does not know", path=name, expected=FORMAT, found=version
        )
    stored = document.pop("digest", None)
    found = blake3(canonical(document)).hexdigest()
    if stored != found or _seal(document) != data:
        raise DamagedError("file is damaged", path=name, offset=0, expected=stored, found=found)
    return dict(document)


def encode_case(identity: str) -> bytes:
    """Return the bytes of `case.json`."""
    return _seal({"format": FORMAT, "case": identity})


def decode_case(data: bytes, name: str) -> str:
    """Return the identity of the case whose `case.json` is `data`.

    Raises
    ------
    FormatError, DamagedError
    """
    return str(_unseal(data, name).get("case"))


def encode_guest(guest: GuestRecord) -> bytes:
    """Return the bytes of `guest.json`."""
    check_json(guest.name, "name")
    return _seal({"format": FORMAT, "guest": guest.id, "name": guest.name})


def decode_guest(data: bytes, guest: GuestId, name: str) -> GuestRecord:
    """Return the guest whose `guest.json` is `data`.

    Raises
    ------
    FormatError, DamagedError
    """
    document = _unseal(data, name)
    if document.get("guest") != guest:
        raise DamagedError(
            "guest is filed under another identity", path=name, expected=guest, found=document.get("guest")
        )
    return GuestRecord(guest, str(document.get("name")))
