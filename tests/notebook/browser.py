"""Headless Chromium over a page that shows a widget with a model that stands in for JupyterLab's.

The page holds the widget's own module and style; nothing else is served, and no name but 127.0.0.1 resolves. What the
page asks for is read from the browser's own log.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from workbench.bench.browser import chromium, forget, requests_of, until

__all__ = ["PAGE", "chromium", "forget", "opened", "page_of", "requests_of", "served", "until"]

PAGE = (Path(__file__).parent / "page.html").read_text()
BINARY = ("columns", "fresh")
JUPYTER = {
    "light": "--jp-layout-color1:#fff;--jp-layout-color2:#eee;--jp-layout-color3:#bdbdbd;--jp-ui-font-color1:#212121;"
    "--jp-ui-font-color2:#616161;--jp-border-color2:#e0e0e0;--jp-brand-color1:#1976d2;background:#fff",
    "dark": "--jp-layout-color1:#111;--jp-layout-color2:#212121;--jp-layout-color3:#424242;--jp-ui-font-color1:#fff;"
    "--jp-ui-font-color2:#bdbdbd;--jp-border-color2:#616161;--jp-brand-color1:#2196f3;background:#111",
}


def page_of(widget: Any, theme: str = "light") -> dict[str, tuple[str, str]]:
    """The files of a page that shows a widget: path -> type and text."""
    binary = [name for name in BINARY if isinstance(getattr(widget, name, None), bytes)]
    state = {
        name: base64.b64encode(getattr(widget, name)).decode() if name in binary else getattr(widget, name)
        for name in widget.trait_names(sync=True)
        if not name.startswith("_") and name not in ("layout", "tabbable", "tooltip")
    }
    told = json.dumps(state).replace("<", "\\u003c")
    body = f'data-jp-theme-light="{str(theme == "light").lower()}" style="{JUPYTER[theme]}"'
    html = PAGE % {"css": widget._css, "state": told, "binary": json.dumps(binary), "body": body}
    return {"/": ("text/html; charset=utf-8", html), "/widget.js": ("text/javascript; charset=utf-8", widget._esm)}


@contextmanager
def served(files: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Serve files on 127.0.0.1; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, text = files.get(self.path, ("text/plain", ""))
            self.send_response(200 if self.path in files else 404)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def opened(browser: Any, widget: Any, theme: str = "light") -> Iterator[None]:
    """Have the browser show a widget; it asked nobody else, and complained of nothing, when the body is done."""
    forget(browser)
    with served(page_of(widget, theme)) as address:
        browser.get(address)
        until(browser, lambda: browser.execute_script("return window.took ?? null"))
        yield
        assert all(
            each.startswith((address, "data:", "blob:")) for each in requests_of(browser) if each != "about:blank"
        )
        assert [each for each in browser.get_log("browser") if each["level"] == "SEVERE"] == []
