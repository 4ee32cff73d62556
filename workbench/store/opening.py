"""Open a case where it is: a directory of this machine, or a service's address.

The one way for all who are told only a location, workers among them.

A worker is granted access over its own channel, so that no token stands in its arguments, in a question, or in what is
kept of an answer. Refuses to keep a grant past its process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from workbench.errors import FormatError, MissingError
from workbench.store.address import Access, checked_address, is_address
from workbench.store.blockcache import BlockCache
from workbench.store.case import CaseStore
from workbench.store.documents import decode_case

if TYPE_CHECKING:
    from workbench.store.link import Link

__all__ = ["grant", "open_remote", "open_store", "user_cache"]

_granted: dict[str, Access] = {}
_links: dict[str, Link] = {}


def user_cache() -> Path:
    """Return this user's cache directory of the workbench; it may not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rewind-workbench"


def grant(location: str, access: Access) -> None:
    """Let this process open a service's case so from here on."""
    address = checked_address(location)
    if _granted.get(address) != access:
        _granted[address] = access
        _links.pop(address, None)


def open_store(location: str) -> CaseStore:
    """Open the case at a path or an address.

    Raises
    ------
    UsageError, FormatError, DamagedError, StoreError
    """
    if not is_address(location):
        return CaseStore.open(Path(location))
    from workbench.store.link import Link  # the library for HTTP takes a while to load

    address = checked_address(location)
    if address not in _links:
        access = _granted.get(address)
        _links[address] = Link(address, Access.of_environment() if access is None else access)
    return open_remote(_links[address])


def open_remote(link: Link) -> CaseStore:
    """Open the case that a service offers. Its `path` is this machine's place for what is made of it.

    Raises
    ------
    FormatError
        If the service offers none.
    DamagedError, StoreError, UsageError
    """
    from workbench.store.remote import RemoteBackend

    backend = RemoteBackend(link)
    try:
        identity = decode_case(backend.get("case.json"), "case.json")
    except MissingError as error:
        raise FormatError(
            "the service offers no case", service=link.address, cure="See that it is a workbench of this version."
        ) from error
    place = user_cache() / "services" / blake3(f"{link.address}\0{identity}".encode()).hexdigest(16)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    backend.cache = BlockCache(place / "blocks")
    return CaseStore(backend, place, identity)
