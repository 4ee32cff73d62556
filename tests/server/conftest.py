"""A service over a recorded case, listening on a unix socket, in a thread of the test."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from workbench.server.app import create_app
from workbench.server.callers import PeerProtocol
from workbench.service.hub import Service
from workbench.service.settings import Limits, Listen, Settings

RECORDED = Path(__file__).parents[2] / "datasets" / "intrusion" / "case"


class Serving:
    """An ASGI application, served from a socket that listens."""

    def __init__(self, app: Any, end: socket.socket, **options: Any) -> None:
        config = uvicorn.Config(
            app, http=PeerProtocol, ws="none", lifespan="off", proxy_headers=False, log_level="critical", **options
        )
        self._server = uvicorn.Server(config)
        self._end = end
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        self._thread.start()

    async def _serve(self) -> None:
        await self._server.serve([self._end])

    def end(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(30)
        self._end.close()


def service_at(place: Path, case: Path, limits: Limits) -> Service:
    """A service that reaches no guest; its state and its socket are at a place."""
    return Service(
        Settings(
            case=case,
            connect=f"qemu:///session?socket={place}/none",
            state=place / "state",
            listen=Listen(socket=place / "api.sock"),
            limits=limits,
        )
    )


class Offered:
    """A service and where it is."""

    def __init__(self, case: Path, place: Path, limits: Limits) -> None:
        self.case = case
        self.path = place / "api.sock"
        self.address = f"unix://{self.path}"
        self.service = service_at(place, case, limits)
        self._serving: list[Serving] = []
        self.begin()

    def begin(self) -> None:
        self.path.unlink(missing_ok=True)
        end = socket.socket(socket.AF_UNIX)
        end.bind(str(self.path))
        end.listen(64)
        self._serving.append(Serving(create_app(self.service), end))

    def over_tls(self, certificate: Path, key: Path) -> str:
        """Listen on loopback as well, and return the address."""
        end = socket.create_server(("127.0.0.1", 0))
        options = {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
        self._serving.append(Serving(create_app(self.service), end, **options))
        return f"https://127.0.0.1:{end.getsockname()[1]}"

    def end(self) -> None:
        while self._serving:
            self._serving.pop().end()

    def close(self) -> None:
        self.end()
        self.service.close()

    def token(self, role: str, *guests: str) -> str:
        return self.service.tokens.make(f"{role}-{len(self.service.tokens.all())}", role, guests)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("WORKBENCH_CACHE", raising=False)
    for name in ("WORKBENCH_TOKEN", "WORKBENCH_TOKEN_FILE", "WORKBENCH_CA"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "rewind-workbench"


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A copy of a recorded case, to be written to, without what was analysed of it."""
    return Path(shutil.copytree(RECORDED, tmp_path / "case", ignore=lambda _where, names: {"cache"} & set(names)))


@pytest.fixture
def service_of(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Make a service over a case that listens nowhere, with other limits; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def make(case: Path, **limits: int) -> Service:
            limited = Limits(**{"requests_per_minute": 60_000, **limits})
            return stack.enter_context(contextlib.closing(service_at(tmp_path, case, limited)))

        yield make


@pytest.fixture
def offer(tmp_path: Path, cached: Path) -> Iterator[Callable[..., Offered]]:
    """Make services; they end with the test."""
    with contextlib.ExitStack() as stack:

        def make(case: Path = RECORDED, per_minute: int = 60_000) -> Offered:
            place = tmp_path / f"service-{len(list(tmp_path.iterdir()))}"
            place.mkdir()
            made = Offered(case, place, Limits(requests_per_minute=per_minute, free_bytes=0))
            stack.callback(made.close)
            return made

        yield make
