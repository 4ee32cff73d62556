"""An experiment as it is kept: what was asked, and each run. Written as canonical JSON under the digest of its bytes.

`experiments/DIGEST.json` in the case, put there whole or not at all. Refuses a file that is larger than `LARGEST`,
whose bytes are not what its name says, and whose values are not of the kind and within the bounds that are written down
here: a stranger may have made it.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field
from typing import Literal

from blake3 import blake3

from workbench.errors import DamagedError, FormatError, UsageError
from workbench.store.backend import Backend
from workbench.store.documents import canonical, is_hex

__all__ = ["LARGEST", "MOST_ROWS", "SEEDS", "Asked", "Document", "Outcome", "Run", "listed", "read", "write"]

FORMAT = 1
LARGEST = 64 << 20
"""Bytes of a document."""
_FOLDER = "experiments"
SEEDS = 1 << 64
"""Seeds are below."""
MOST_ROWS = 10_000
"""Variants times values that were measured."""
_MOST_RUNS = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}")

Outcome = Literal["ok", "failed", "hung"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A part of the experiment, by what it was; see `parts.Part`."""

    kind: str
    text: str
    digest: str


@dataclass(frozen=True, slots=True)
class Run:
    """One clone from its start to its end.

    Attributes
    ----------
    variant : str
    repeat, position : int
        Both from 1; `position` in the order of all runs.
    outcome : {"ok", "failed", "hung"}
    step : str
        Where it ended if not ok: "start", "variant", "workload", "until", "measure NAME".
    error : str
        What happened then; also what could not be measured or captured of a run that is ok.
    seconds : float or None
        From the beginning of the work to the end of `until`, by the host's clock.
    values : dict
        Numbers and texts by measure.
    guest : str
        The clone's UUID, "" where it was not captured.
    after : str
        The capture of it as it ended; "" where there is none. It began as the moment.
    console : str
        The end of what its console showed.
    memory : str
        As `CloneRecord.memory`.
    identity : dict of str to str
        As `CloneRecord.identity`: what was new in it.
    """

    variant: str
    repeat: int
    position: int
    outcome: Outcome
    step: str = ""
    error: str = ""
    seconds: float | None = None
    values: dict[str, float | str] = field(default_factory=dict)
    guest: str = ""
    after: str = ""
    console: str = ""
    memory: str = ""
    identity: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """A whole experiment.

    Attributes
    ----------
    case, guest, moment : str
        UUID of the case and of the guest, and the capture that all clones began at.
    made_ns : int
        When it began (Unix time).
    seed : int
        Of the order.
    control : str
        The variant that the others are compared with.
    variants, measures : dict of str to Asked
    workload, until : Asked
    repeats, at_once : int
    timeout : float
        Seconds of a run.
    keep : {"captures", "none"}
    versions : dict of str to str
    runs : tuple of Run
        By position.
    network : str
        As `CloneRecord.network`, of all clones.
    segment : str
        The segment of the case that they were on, where they shared one.
    packets : str
        BLAKE3-256 of that segment's file when the last clone was gone.
    """

    format: int
    case: str
    guest: str
    moment: str
    made_ns: int
    seed: int
    control: str
    variants: dict[str, Asked]
    workload: Asked
    until: Asked
    measures: dict[str, Asked]
    repeats: int
    at_once: int
    timeout: float
    keep: Literal["captures", "none"]
    versions: dict[str, str]
    runs: tuple[Run, ...]
    network: str = "none"
    segment: str = ""
    packets: str = ""

    def runs_of(self, variant: str) -> list[Run]:
        """Return the runs of a variant.

        Raises
        ------
        UsageError
            If there is no such variant.
        """
        if variant not in self.variants:
            raise UsageError(f"no variant {variant!r} in this experiment", variants=list(self.variants))
        return [run for run in self.runs if run.variant == variant]


def checked_name(name: object, what: str) -> str:
    """Return a name of a variant or measure.

    Raises
    ------
    UsageError
        If it is not letters, digits, spaces, dots, dashes; 60 at most.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"a {what} has a plain name", found=name, cure="Use letters, digits, spaces, '.', '-' and '_'."
        )
    return name


def write(backend: Backend, document: Document) -> str:
    """Keep an experiment; return its id.

    Raises
    ------
    UsageError
        If it is too large to be kept.
    StoreError
    """
    data = canonical(asdict(document))
    if len(data) > LARGEST:
        raise UsageError("the experiment is too large to be kept", bytes=len(data), limit=LARGEST)
    identity = blake3(data).hexdigest()
    backend.put(_path(identity), data)
    return identity


def listed(backend: Backend) -> list[str]:
    """Return the ids of the experiments of a case."""
    names = [name.removesuffix(".json") for name in backend.list(_FOLDER) if name.endswith(".json")]
    return sorted(name for name in names if len(name) == 64 and is_hex(name))


def read(backend: Backend, identity: str) -> Document:
    """Return an experiment.

    Raises
    ------
    MissingError
        If there is none.
    DamagedError
        If its bytes are not those that were written.
    FormatError
        If it makes no sense.
    """
    path = _path(identity)
    size = backend.size(path)
    if size > LARGEST:
        raise FormatError("the experiment is too large", path=path, bytes=size, limit=LARGEST)
    data = backend.get(path, 0, size)
    found = blake3(data).hexdigest()
    if found != identity:
        raise DamagedError("the experiment is damaged", path=path, expected=identity, found=found)
    return _decoded(data, path)


def _decoded(data: bytes, path: str) -> Document:
    from pydantic import TypeAdapter, ValidationError

    try:
        document = TypeAdapter(Document).validate_json(data, strict=True)
    except (ValidationError, RecursionError) as error:
        words = str(error).splitlines()[:3] if isinstance(error, ValidationError) else ["nested too deep"]
        raise FormatError(f"the experiment makes no sense: {' '.join(words)}", path=path) from error
    wrong = _wrong(document)
    if wrong:
        raise FormatError(f"the experiment makes no sense: {wrong}", path=path)
    return document


def _wrong(document: Document) -> str:
    """Return what does not fit in a document whose types do; "" where all does."""
    runs = document.runs
    names = [*document.variants, *document.measures]
    digests = [document.moment, *(each for each in (document.packets, *(run.after for run in runs)) if each)]
    measured = {name for run in runs for name in run.values}
    rules = {
        "format": document.format == FORMAT,
        "moment": all(len(each) == 64 and is_hex(each) for each in digests),
        "names": all(_NAME.fullmatch(name) for name in names),
        "control": document.control in document.variants,
        "variants": len(document.variants) * max(1, len(measured)) <= MOST_ROWS,
        "runs": len(runs) <= _MOST_RUNS and all(run.variant in document.variants for run in runs),
        "repeats": all(0 < run.repeat <= document.repeats and run.position > 0 for run in runs),
        "positions": len({run.position for run in runs})
        == len({(run.variant, run.repeat) for run in runs})
        == len(runs),
        "values": all(map(_finite, runs)),
        "seed": 0 <= document.seed < SEEDS,
        "time": 0 <= document.made_ns < 2**63,
    }
    return next((name for name, holds in rules.items() if not holds), "")


def _finite(run: Run) -> bool:
    told = [each for each in run.values.values() if not isinstance(each, str)]
    return all(map(math.isfinite, told)) and (run.seconds is None or 0 <= run.seconds < math.inf)


def _path(identity: str) -> str:
    if len(identity) != 64 or not is_hex(identity):
        raise UsageError("this is no id of an experiment", found=identity, cure="See `case.experiments()`.")
    return f"{_FOLDER}/{identity}.json"
