"""What is known of a kernel once it was found, as a record that goes through JSON.

Refuses a record with anything in it that a kernel cannot have: whoever reads one back may read memory by it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Literal

from workbench.errors import SymbolsError
from workbench.memory.symbols.btf import LONGEST_BTF
from workbench.memory.symbols.kallsyms import AFTER, BEFORE
from workbench.memory.symbols.sources import LONGEST_BANNER

__all__ = ["Kernel"]

_VIRTUAL = 1 << 64
_PHYSICAL = 1 << 52
_LIMITS = {
    "shift": (-_VIRTUAL, _VIRTUAL), "delta": (-_VIRTUAL, _VIRTUAL), "levels": (4, 5),
    "kallsyms_length": (1, BEFORE + AFTER), "btf_length": (1, LONGEST_BTF),
}  # fmt: skip
"""Least and most of the numbers in a record that are no physical addresses."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """What one capture says of its Linux kernel.

    Attributes
    ----------
    banner : bytes
        With its line feed and NUL.
    release : str
        The banner's third word ("6.1.0-1-cloud-amd64"); the guest's, not to be printed raw.
    shift : int
        Bytes by which KASLR moved the kernel's virtual addresses: `_text` less 0xffffffff81000000.
    delta : int
        Physical address = virtual address + delta, for addresses of the kernel's image; negative.
    page_table_root : int
        Physical address of `init_top_pgt`.
    levels : {4, 5}
        Of the page tables.
    build : str
        Key of the symbol table: equal for every boot of one build, and for its file.
    vmcoreinfo : {"agrees", "differs", "absent"}
        What the kernel's own note says of shift, delta, root and levels.
    banner_at, digits_at : int
        Where the banner and the digits of kallsyms' token table lie.
    kallsyms_at, kallsyms_length, btf_at, btf_length : int
        Where kallsyms and BTF lie, and their bytes.
    """

    banner: bytes
    release: str
    shift: int
    delta: int
    page_table_root: int
    levels: int
    build: str
    vmcoreinfo: Literal["agrees", "differs", "absent"]
    banner_at: int
    digits_at: int
    kallsyms_at: int
    kallsyms_length: int
    btf_at: int
    btf_length: int

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps({**asdict(self), "banner": self.banner.decode("latin-1")}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Kernel:
        """Read what `to_json` gave.

        Raises
        ------
        SymbolsError
            If it is not that.
        """
        try:
            record = json.loads(text)
            found = cls(**{**record, "banner": record["banner"].encode("latin-1")})
            _validate(found)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise SymbolsError(f"not a kernel's record: {error}", cure="Find the kernel anew.") from error
        return found


def _validate(found: Kernel) -> None:
    """Hold each field of a record, which anyone may have written, against what it may be.

    Raises
    ------
    ValueError
    """
    for field in fields(found):
        value = getattr(found, field.name)
        if not isinstance(value, {"int": int, "bytes": bytes}.get(str(field.type), str)) or isinstance(value, bool):
            raise ValueError(f"{field.name} is {type(value).__name__}")
        least, most = _LIMITS.get(field.name, (0, _PHYSICAL))
        if isinstance(value, int) and not least <= value <= most:
            raise ValueError(f"{field.name} is {value}")
    if not re.fullmatch("[0-9a-f]{32}", found.build) or not 0 < len(found.banner) <= LONGEST_BANNER:
        raise ValueError("build or banner cannot be")
    if found.vmcoreinfo not in ("agrees", "differs", "absent"):
        raise ValueError("vmcoreinfo cannot be")
