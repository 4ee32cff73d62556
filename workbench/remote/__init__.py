"""A case that a service has, from afar: the same `Case`, read over HTTP, and acted on by the service.

Refuses to touch a guest itself: what is done to one is asked of the service, which knows who may. Loads what speaks
HTTP only where an address is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workbench.case import Case
from workbench.store.address import is_address

if TYPE_CHECKING:
    from workbench.remote.case import RemoteCase

__all__ = ["connect", "open_case"]


def connect(address: str, *, token: str | None = None, ca: Path | str | None = None) -> RemoteCase:
    """Open the case of a service; use it as any `Case`.

    Parameters
    ----------
    address : str
        `unix:///run/workbench/api.sock`, `https://HOST:PORT`, or `http://` on loopback.
    token : str, optional
        By default `WORKBENCH_TOKEN`, or what stands in the file that `WORKBENCH_TOKEN_FILE` names. A socket's user
        needs none.
    ca : Path or str, optional
        Certificates (PEM) that vouch for the service; by default `WORKBENCH_CA`, then the system's own.

    Raises
    ------
    UsageError
        If the address is none, or the service does not know who asks.
    FormatError, StoreError
    """
    from workbench.remote.case import RemoteCase

    return RemoteCase.connect(address, token=token, ca=ca)


def open_case(location: Path | str, *, uri: str | None = None) -> Case:
    """Open the case at a path, or at a service's address with what the environment says of tokens.

    Parameters
    ----------
    uri : str, optional
        Where the guests of a case at a path run.

    Raises
    ------
    UsageError, FormatError, StoreError
    """
    if isinstance(location, str) and is_address(location):
        return connect(location)
    return Case(location) if uri is None else Case(location, uri=uri)
