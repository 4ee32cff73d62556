"""YARA rules: read from text, files or a directory, compiled once, and known by the digest of their text.

Several sources travel as one text: a line `//== rules NAME ==` begins the source NAME, and its rules get NAME as their
namespace, so that two files may use one name for a rule. Refuses `include`: what a rule says must be in the text that
the digest covers. Rules come from the analyst; they are bounded in size, and nothing here runs them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from workbench.errors import StoreError, UsageError, WorkbenchError

__all__ = ["RuleSet", "compile_rules", "read_rules"]

_MOST_BYTES = 16 << 20
"""Bytes of the text of all rules: the largest public collections have about half of it."""
_MOST_FILES = 20_000
_ENDINGS = (".yar", ".yara", ".rule")
_DEFAULT = "default"
_BEGIN = re.compile(r"^//== rules ([A-Za-z0-9_.-]{1,100}) ==$", re.MULTILINE)
_KEPT = 4
"""Compiled sets that a process keeps: a span of captures asks for one of them again and again."""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Compiled rules.

    Attributes
    ----------
    digest : str
        BLAKE3-256 of the text, hexadecimal: part of what an answer is kept under.
    rules : tuple of str
        Names, with the namespace before a colon unless it is the default.
    compiled : yara_x.Rules
    """

    digest: str
    rules: tuple[str, ...]
    compiled: Any

    def scanner(self, seconds: int, most: int) -> Any:
        """Return a scanner that gives up after `seconds` per buffer and `most` matches per pattern."""
        import yara_x

        scanner = yara_x.Scanner(self.compiled)
        scanner.set_timeout(seconds)
        scanner.max_matches_per_pattern(most)
        return scanner


def read_rules(source: str | Path | Sequence[Path]) -> str:
    """Return the text of rules, from wherever they are.

    Parameters
    ----------
    source : str, Path or sequence of Path
        Text if it is a string with a brace, as every rule has one; else a file, a directory (all its .yar, .yara and
        .rule files, by name), or several of them.

    Raises
    ------
    UsageError
        If nothing is there, it is no text, or too much.
    StoreError
        If a file cannot be read.
    """
    if isinstance(source, str) and "{" in source:
        return _bounded(source)
    places = [Path(source)] if isinstance(source, (str, Path)) else [Path(each) for each in source]
    files = [file for place in places for file in _files(place)]
    if not files:
        raise UsageError("no rules are there", path=", ".join(map(str, places)), cure="Name files that end in .yar.")
    if len(files) == 1:
        return _read(files[0], _MOST_BYTES)
    return _bounded("".join(_labelled(files)))


def _files(place: Path) -> list[Path]:
    if not place.exists():
        raise UsageError("no such file or directory of rules", path=str(place))
    if not place.is_dir():
        return [place]
    found = sorted(path for path in place.rglob("*") if path.suffix in _ENDINGS and path.is_file())
    if len(found) > _MOST_FILES:
        raise UsageError("too many files of rules", found=len(found), most=_MOST_FILES)
    return found


def _labelled(files: Iterable[Path]) -> Iterator[str]:
    seen: dict[str, int] = {}
    left = _MOST_BYTES
    for path in files:
        text = _read(path, left)
        left -= len(text)
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem)[:80] or "rules"
        seen[name] = seen.get(name, 0) + 1
        yield f"//== rules {name if seen[name] == 1 else f'{name}.{seen[name]}'} ==\n{text}\n"


def _read(path: Path, most: int) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise StoreError(f"rules cannot be read: {error.strerror}", path=str(path)) from error
    if len(data) > most:
        raise _too_much(path=str(path))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError("rules are no UTF-8 text", path=str(path), offset=error.start) from error


def _bounded(text: str) -> str:
    if len(text) > _MOST_BYTES:
        raise _too_much()
    return text


def _too_much(**facts: object) -> UsageError:
    return UsageError("more text of rules than a scan takes", most=_MOST_BYTES, cure="Scan in several parts.", **facts)


@functools.lru_cache(_KEPT)
def compile_rules(text: str) -> RuleSet:
    """Compile rules; the same text again costs nothing.

    Parameters
    ----------
    text : str
        As `read_rules` gives it.

    Raises
    ------
    UsageError
        If they do not compile: the source, line and column where; or if there is no rule at all.
    WorkbenchError
        If yara-x is not installed.
    """
    try:
        import yara_x
    except ImportError as error:
        raise WorkbenchError("yara-x is not installed", cure="Install the package yara-x.") from error
    compiler = yara_x.Compiler(includes_enabled=False)
    for name, source in _sources(_bounded(text)):
        compiler.new_namespace(name)
        try:
            compiler.add_source(source, origin=name)
        except (yara_x.CompileError, UnicodeEncodeError) as error:
            raise _refusal(name, compiler.errors(), error) from error
    compiled = compiler.build()
    names = tuple(_name(rule) for rule in compiled)
    if not names:
        raise UsageError("no rule is in this text", cure="Give at least one rule.")
    return RuleSet(blake3(text.encode()).hexdigest(), names, compiled)


def _name(rule: Any) -> str:
    return str(rule.identifier) if rule.namespace == _DEFAULT else f"{rule.namespace}:{rule.identifier}"


def _sources(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of each source; what comes before the first label is the default's."""
    begins = list(_BEGIN.finditer(text))
    first = begins[0].start() if begins else len(text)
    if text[:first].strip():
        yield _DEFAULT, text[:first]
    ends = [*(begin.start() for begin in begins[1:]), len(text)]
    for begin, end in zip(begins, ends, strict=False):
        yield begin[1], text[begin.end() + 1 : end]


def _refusal(name: str, errors: Sequence[dict[str, Any]], error: Exception) -> UsageError:
    told: dict[str, Any] = errors[0] if errors else {"title": str(error)}
    labels: list[dict[str, Any]] = told.get("labels") or [{}]
    what = ": ".join(str(each) for each in (told.get("title"), labels[0].get("text")) if each)
    return UsageError(
        f"rules do not compile: {what}",
        source=name,
        line=told.get("line"),
        column=told.get("column"),
        cure="Correct the rule there.",
    )
