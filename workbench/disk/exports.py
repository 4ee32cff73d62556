"""Frames as files for other tools: Timesketch (CSV, JSONL), CSV, Parquet, JSON. A whole new file or none.

Text that a guest made is exact in Parquet and JSON. In CSV it is harmless: control and invisible characters are
escapes, and what a spreadsheet would take for a formula gets a "'" in front. Timesketch gets text that is UTF-8.
Refuses to overwrite, and to leave out rows that a format cannot hold.

Sources: Timesketch's guide "Import from JSON or CSV" (message, datetime in ISO 8601, timestamp_desc; timestamp in
microseconds); OWASP, "CSV Injection".
"""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.disk.publishing import new_file, target_errors
from workbench.errors import FormatError, UsageError

__all__ = ["FORMATS", "export", "read_parquet", "to_csv", "to_json", "to_parquet", "to_timesketch_csv",
           "to_timesketch_jsonl"]  # fmt: skip

_FIRST = ("message", "datetime", "timestamp_desc", "timestamp")
_DANGEROUS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
"""The last four are their fullwidth forms, which some spreadsheets take for the same."""
_OBJECTS = b"workbench.objects"
"""Of a Parquet file's metadata: the columns of Python objects, and whether each has one of bytes beside it."""
_STEP = 10_000


def to_csv(frame: pd.DataFrame, path: Path) -> Path:
    """Write a frame as CSV: UTF-8, a heading, times in ISO 8601, "" for nothing; text harmless.

    Raises
    ------
    UsageError
        If the file exists.
    StoreFullError, StoreError
    """
    return _write_text(path, _csv_lines(frame.columns, _records(frame)))


def to_json(frame: pd.DataFrame, path: Path) -> Path:
    """Write a frame as a JSON array of objects: times in ISO 8601, null for nothing, text exact.

    Bytes of a name that are not UTF-8 are escapes of lone surrogates, as Python reads them.

    Raises
    ------
    UsageError
        If the file exists.
    StoreFullError, StoreError
    """
    return _write_text(path, _json_array(_records(frame)))


def to_timesketch_csv(frame: pd.DataFrame, path: Path) -> Path:
    """Write a timeline as CSV for Timesketch: message, datetime, timestamp_desc, timestamp (µs), then the fields.

    Raises
    ------
    UsageError
        If the file exists, a column is missing, or a row has no time.
    StoreFullError, StoreError
    """
    frame = _for_timesketch(frame)
    return _write_text(path, _csv_lines(frame.columns, _records(frame)))


def to_timesketch_jsonl(frame: pd.DataFrame, path: Path) -> Path:
    """Write a timeline as JSONL for Timesketch: an object a line, without what a row does not have.

    Raises
    ------
    UsageError
        If the file exists, a column is missing, or a row has no time.
    StoreFullError, StoreError
    """
    return _write_text(path, _json_lines(_records(_for_timesketch(frame))))


def to_parquet(frame: pd.DataFrame, path: Path) -> Path:
    """Write a frame as Parquet, exact: dtypes, times, text.

    A name that is not UTF-8 is text with escapes in its column, and bytes in one called like it with "_raw" behind.

    Raises
    ------
    UsageError
        If the file exists, or a column is of no kind that Parquet has.
    StoreFullError, StoreError
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    raw = dict(_raw_names(frame))
    escaped = {name: pd.Series([_utf8_or_not(each) for each in frame[name]], frame.index, dtype=object) for name in raw}
    taken = frame.assign(**escaped, **{f"{name}_raw": pd.Series(raw[name], frame.index, dtype=object) for name in raw})
    taken.attrs = {}
    try:
        table = pa.Table.from_pandas(taken.reset_index(drop=True), preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UsageError(f"a column cannot be written as Parquet: {str(error)!a}") from error
    objects = {name: name in raw for name in frame.columns if frame[name].dtype == object}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _OBJECTS: json.dumps(objects)})
    with new_file(path) as handle, target_errors(path), os.fdopen(os.dup(handle), "wb") as file:
        pq.write_table(table, file)
    return Path(path)


def read_parquet(path: Path) -> pd.DataFrame:
    """Return the frame that `to_parquet` was given, without its index.

    Raises
    ------
    FormatError
        If it is not Parquet, or was not written by `to_parquet`.
    StoreError
        If it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with target_errors(path):
            table = pq.read_table(path)
        objects = json.loads((table.schema.metadata or {})[_OBJECTS])
        exact = {name: _objects(table, name, raw=raw) for name, raw in objects.items()}
        frame: pd.DataFrame = table.to_pandas()
    except (pa.ArrowException, KeyError, ValueError, TypeError, AttributeError) as error:
        raise FormatError("not a frame that was exported", path=str(path), cure="Export it again.") from error
    frame = frame.assign(**{name: pd.Series(values, frame.index, dtype=object) for name, values in exact.items()})
    return frame.drop(columns=[f"{name}_raw" for name, raw in objects.items() if raw])


FORMATS: dict[str, Callable[[pd.DataFrame, Path], Path]] = {
    "csv": to_csv,
    "json": to_json,
    "parquet": to_parquet,
    "timesketch-csv": to_timesketch_csv,
    "timesketch-jsonl": to_timesketch_jsonl,
}


def export(frame: pd.DataFrame, path: Path, form: str) -> Path:
    """Write a frame in one of `FORMATS`.

    Raises
    ------
    UsageError
        If there is no such format, the file exists, or the format cannot hold the frame.
    StoreFullError, StoreError
    """
    if form not in FORMATS:
        raise UsageError("no such format", format=form, cure=f"Formats are {', '.join(FORMATS)}.")
    return FORMATS[form](frame, path)


def harmless(text: str) -> str:
    """Return text that does nothing to a terminal or a spreadsheet."""
    safe = text if text.isprintable() else "".join(map(_shown, text))
    return f"'{safe}" if safe.lstrip()[:1] in _FORMULA else safe


def _shown(char: str) -> str:
    if unicodedata.category(char) not in _DANGEROUS:
        return char
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


# Rows.


def _for_timesketch(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a timeline with the columns that Timesketch wants, in its order."""
    missing = [name for name in ("message", "datetime", "timestamp_desc") if name not in frame.columns]
    if missing or frame["datetime"].isna().any():
        raise UsageError("not a timeline: a column or a time is missing", missing=missing, cure="Use super_timeline.")
    micros = frame["datetime"].dt.as_unit("us").astype("int64")
    rest = [name for name in frame.columns if name not in _FIRST]
    return frame.assign(timestamp=micros)[[*_FIRST, *rest]]


def _records(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield rows as plain Python values, a part of the frame at a time."""
    for start in range(0, len(frame), _STEP):
        part = frame.iloc[start : start + _STEP]
        columns = [_values(part[name]) for name in frame.columns]
        for values in zip(*columns, strict=True):
            yield dict(zip(frame.columns, values, strict=True))


def _values(column: pd.Series) -> list[Any]:
    """Return a column's values as JSON has them."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        texts = np.datetime_as_string(column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy())
        return [f"{each}+00:00" if known else None for each, known in zip(texts, column.notna(), strict=True)]
    if isinstance(column.dtype, (pd.StringDtype, pd.Int64Dtype)):
        return column.astype(object).where(column.notna(), None).tolist()
    return [_plain(value) for value in column]


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: None for nothing, times in ISO 8601, bytes in hexadecimal."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, (list, tuple, dict)):
        return value
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


# Files.


def _csv_lines(columns: Iterable[str], records: Iterable[dict[str, Any]]) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    writer.writerow([harmless(str(name)) for name in columns])
    yield line.getvalue()
    for record in records:
        line.seek(0)
        line.truncate()
        writer.writerow([_cell(value) for value in record.values()])
        yield line.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple, dict)):
        return harmless(json.dumps(value, default=str))
    return harmless(value) if isinstance(value, str) else value


def _json_lines(records: Iterable[dict[str, Any]]) -> Iterator[str]:
    for record in records:
        held = {name: _utf8(value) if isinstance(value, str) else value for name, value in record.items()}
        yield json.dumps({name: value for name, value in held.items() if value is not None}, default=str) + "\n"


def _json_array(records: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield "["
    for number, record in enumerate(records):
        yield ("," if number else "") + "\n" + json.dumps(record, default=str)
    yield "\n]\n"


def _write_text(path: Path, lines: Iterable[str]) -> Path:
    with (
        new_file(path) as handle,
        target_errors(path),
        os.fdopen(os.dup(handle), "w", encoding="utf-8", newline="") as file,
    ):
        file.writelines(lines)
    return Path(path)


# Names that are not UTF-8.


def _raw_names(frame: pd.DataFrame) -> Iterator[tuple[str, list[bytes | None]]]:
    """Yield the columns with names that are not UTF-8, and the bytes of those names."""
    for name in frame.columns:
        if frame[name].dtype == object:
            raw = [_raw_bytes(value) for value in frame[name]]
            if any(each is not None for each in raw):
                yield name, raw


def _raw_bytes(value: object) -> bytes | None:
    return os.fsencode(value) if isinstance(value, str) and _utf8(value) != value else None


def _utf8_or_not(value: Any) -> Any:
    return _utf8(value) if isinstance(value, str) else value


def _objects(table: Any, name: str, *, raw: bool) -> list[Any]:
    """Return the values of a column of objects, as they were written."""
    values: list[Any] = table.column(name).to_pylist()
    if not raw:
        return values
    pairs = zip(values, table.column(f"{name}_raw").to_pylist(), strict=True)
    return [value if exact is None else os.fsdecode(exact) for value, exact in pairs]
