"""A small server of a case's files on loopback, as a service gives them; and one that lies, in any way a test wants."""

from __future__ import annotations

import json
import re
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

Odd = Callable[["Handler"], bool]


class Handler(BaseHTTPRequestHandler):
    """Answers from a directory, unless the test's own `odd` has answered."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FilesServer

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        if self.server.odd is not None and self.server.odd(self):
            return
        parts = urlsplit(self.path)
        if parts.path == "/content":
            self._list(parse_qs(parts.query))
        elif parts.path == "/contents":
            self._many(parse_qs(parts.query))
        else:
            self._file(self.server.root / parts.path.removeprefix("/content/"))

    def do_POST(self) -> None:
        self.do_GET()

    def _list(self, asked: dict[str, list[str]]) -> None:
        place = self.server.root / asked["prefix"][0]
        if not place.is_dir():
            self.say(404, b'{"error": {"kind": "HTTPError", "message": "no such thing"}}')
            return
        names = sorted(path.name for path in place.iterdir() if path.name > asked.get("after", [""])[0])
        limit = self.server.page
        self.say(200, json.dumps({"names": names[:limit], "more": len(names) > limit}).encode())

    def _many(self, asked: dict[str, list[str]]) -> None:
        paths = sorted((self.server.root / asked["prefix"][0]).iterdir())
        found = [path for path in paths if path.name >= asked["begin"][0]][: int(asked["limit"][0])]
        self.say(200, b"".join(packed(path.name, path.read_bytes()) for path in found))

    def _file(self, path: Path) -> None:
        if not path.is_file():
            self.say(404, b'{"error": {"kind": "HTTPError", "message": "no such thing"}}')
            return
        data = path.read_bytes()
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if found is None:
            self.say(200, data)
            return
        first, last = int(found[1]), min(int(found[2]), len(data) - 1)
        if first > last:
            self.say(416, b'{"error": {"kind": "HTTPError", "message": "no such range"}}')
            return
        self.say(206, data[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def packed(name: str, data: bytes) -> bytes:
    """A file among many: the lengths of its name and content (u16, u32), and both."""
    return struct.pack("<HI", len(name), len(data)) + name.encode() + data


class FilesServer(ThreadingHTTPServer):
    """Runs in a thread until `close`.

    Attributes
    ----------
    asked : list of (path, range, authorization)
    odd : callable or None
        Answers instead where it returns True.
    """

    daemon_threads = True

    def __init__(self, root: Path, certificate: tuple[Path, Path] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.page = root, 1_000
        self.asked: list[tuple[str, str, str]] = []
        self.odd: Odd | None = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.address = f"{'http' if certificate is None else 'https'}://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that a test breaks off."""

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


def certificate(place: Path, names: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """Make a self-signed certificate and its key."""
    found = place / "service.crt", place / "service.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=service", "-addext", f"subjectAltName={names}", "-keyout", str(found[1]), "-out", str(found[0])],
        check=True, capture_output=True,
    )  # fmt: skip
    return found
