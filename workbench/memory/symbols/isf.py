"""Make a symbol table for Volatility 3 (ISF, schema 6.2.0) of BTF and kallsyms.

The bytes are a function of what is given, so that a table from memory and one from the kernel's file are equal. Types
of global variables, which BTF mostly lacks, come from `globals.json`, in C's words: a name, then `*` and `[n]` from the
inside out.

The producer is written as "dwarf2json 0.9.0", for Volatility's `hidden_modules` runs on no other's tables; the names of
the sources beside it say who made this one, and of what.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

from workbench.memory.symbols.btf import Btf
from workbench.memory.symbols.isf_types import VOID, Descriptor, IsfTypes
from workbench.memory.symbols.kallsyms import Symbol

__all__ = ["ISF_VERSION", "build_isf", "global_types"]

ISF_VERSION = 1
"""Raised whenever the same kernel gives other bytes."""

_PRODUCER = {"name": "dwarf2json", "version": "0.9.0"}
_SOURCES = {
    "symbols": [{"kind": "symtab", "name": "kallsyms, read by rewind-workbench"}],
    "types": [{"kind": "symtab", "name": "BTF, read by rewind-workbench"}],
}
_SUFFIX = re.compile(r"\*|\[(\d+)\]")


@cache
def global_types() -> dict[str, Descriptor]:
    """Return the types of global variables from `globals.json`, by name."""
    text = resources.files(__package__).joinpath("globals.json").read_text("utf-8")
    return {name: _descriptor(words) for name, words in json.loads(text).items()}


def _descriptor(words: str) -> Descriptor:
    name = re.split(r"[*\[]", words, maxsplit=1)[0].strip()
    if name == "function":
        found: Descriptor = {"kind": "function"}
    elif name.startswith(("struct ", "union ")):
        kind, _, name = name.partition(" ")
        found = {"kind": kind, "name": name}
    else:
        found = {"kind": "base", "name": name}
    for suffix in _SUFFIX.finditer(words):
        count = suffix[1]
        found = {"kind": "pointer", "subtype": found} if count is None else {
            "kind": "array", "subtype": found, "count": int(count),
        }  # fmt: skip
    return found


def build_isf(btf: Btf, symbols: Iterable[Symbol], banner: bytes) -> bytes:
    r"""Make the table.

    Parameters
    ----------
    btf : Btf
    symbols : iterable of Symbol
        Addresses as linked; of two with a name, a global one wins, else the first.
    banner : bytes
        What is at `linux_banner`, with its `\n\0`.

    Returns
    -------
    bytes
        JSON.

    Raises
    ------
    SymbolsError
        If a chain of types is too long or a loop, or the table grows too large.
    """
    types = IsfTypes(btf)
    document = {
        "metadata": {"linux": _SOURCES, "producer": _PRODUCER, "format": "6.2.0"},
        "base_types": types.base,
        "user_types": types.user,
        "enums": types.enums,
        "symbols": _symbols(symbols, _variables(types), banner),
    }
    return json.dumps(document, separators=(",", ":"), check_circular=False).encode("ascii")


def _variables(types: IsfTypes) -> dict[str, Descriptor]:
    """Return the types of variables, without those whose struct this kernel does not have."""
    known = {name: found for name, found in global_types().items() if _known(types, found)}
    if (found := _timekeeping(types)) is not None:
        known["tk_core"] = found
    return {**known, **types.variables}


def _known(types: IsfTypes, found: Descriptor) -> bool:
    while "subtype" in found:
        found = found["subtype"]
    return found["kind"] not in ("struct", "union") or found["name"] in types.user


def _timekeeping(types: IsfTypes) -> Descriptor | None:
    """Find the type of `tk_core` by its shape: an anonymous struct until 6.13, of a sequence count and a timekeeper."""
    for name, found in types.user.items():
        field = found["fields"].get("timekeeper")
        shaped = field and field["type"] == {"kind": "struct", "name": "timekeeper"} and "seq" in found["fields"]
        if shaped and len(found["fields"]) <= 4:
            return {"kind": "struct", "name": name}
    return None


def _symbols(symbols: Iterable[Symbol], variables: dict[str, Descriptor], banner: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    settled: set[str] = set()
    for address, kind, name in symbols:
        if name in found and (name in settled or not kind.isupper()):
            continue
        if kind.isupper():
            settled.add(name)
        found[name] = {"address": address, "type": variables.get(name, VOID)}
    if "linux_banner" in found:
        text = {"kind": "array", "subtype": {"kind": "base", "name": "char"}, "count": len(banner)}
        found["linux_banner"].update(type=text, constant_data=base64.b64encode(banner).decode("ascii"))
    return found
