"""A report as one file with widgets that work in it: for reading, not evidence.

What makes widgets work without a kernel (require.js, Jupyter's html-manager) is fetched by npm once, by name and
version, checked against digests that stand here, kept in the user's cache and put into the page. The page's policy lets
exactly those scripts run, and no request out. Refuses to load anything when it is opened.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from workbench.errors import UnsupportedError
from workbench.evidence.page import body_of, wrapped
from workbench.evidence.running import Template, run
from workbench.inquiry.keeping import user_cache
from workbench.progress import Progress, ProgressEvent, silent

__all__ = ["fetch", "interactive_page"]


@dataclass(frozen=True, slots=True)
class _Part:
    package: str
    path: str
    sha256: str


_PARTS = (
    _Part(
        "requirejs@2.3.8", "requirejs/require.js", "c1fc6b1d53af7522f78d664922abb32acac64ed0ecccb8f907f1e6fc7262563a"
    ),
    _Part(
        "@jupyter-widgets/html-manager@1.0.15",
        "@jupyter-widgets/html-manager/dist/embed-amd.js",
        "ca87dff57c70ffb2658794fde0eab0e27e5f5472a1f5df7ab2b08e1039fc4b72",
    ),
)
_VIEW, _STATE = (f"application/vnd.jupyter.widget-{each}+json" for each in ("view", "state"))
_FONT = re.compile(r'\b\w\.p\+"[0-9a-f]{20}\.(?:woff2?|ttf|eot|svg)"')
"""Icons' fonts beside the script: a page of one file has nothing beside it, and must not ask."""
_ANONYMOUS = 'define(["@jupyter-widgets/base"]'
_NAMED = 'define("anywidget",["@jupyter-widgets/base"]'
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; base-uri 'none'; "
    "form-action 'none'; script-src 'unsafe-eval' blob: {hashes}"
)
# 'unsafe-eval': html-manager compiles its schemas; blob: is where anywidget imports a widget's module from.
_LONGEST_S = 300
_CURE = "Install npm and be online once (`make interactive`), or make the report without --interactive."


def interactive_page(case: Path, template: Template, parameters: dict[str, str], *, progress: Progress = silent) -> str:
    """Run a template and return a page whose widgets work.

    Raises
    ------
    UnsupportedError
        If the scripts are not at hand and cannot be fetched.
    AnalysisError
        If a cell failed.
    """
    scripts = [*fetch(progress=progress), _anywidget()]
    notebook = run(template, parameters, case, progress, widgets=True)
    widgets = notebook.metadata.pop("widgets", {})  # nbconvert would write it a second time
    state = widgets.get(_STATE, {"state": {}, "version_major": 2, "version_minor": 0})
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            _shown(output)
    tail = [_data(_STATE, state), *(f"<script>{each}</script>" for each in scripts)]
    return wrapped(f"Report: {template.name}", _policy(scripts), body_of(notebook), "\n".join(tail))


def fetch(place: Path | None = None, progress: Progress = silent) -> list[str]:
    """Return the scripts, fetched by npm where the cache lacks them.

    Parameters
    ----------
    place : Path, optional
        Where they are kept; by default in the user's cache.

    Raises
    ------
    UnsupportedError
        If there is no npm, no network, or what came is not what was expected.
    """
    kept = place or user_cache() / "interactive"
    if not all((kept / each.sha256).is_file() for each in _PARTS):
        progress(ProgressEvent("fetching what interactive pages are made of", unit="packages"))
        with tempfile.TemporaryDirectory(prefix="rewind-npm-") as scratch:
            _install(Path(scratch))
            kept.mkdir(parents=True, exist_ok=True, mode=0o700)
            for part in _PARTS:
                _checked(part, (Path(scratch) / "node_modules" / part.path).read_bytes())
                shutil.copyfile(Path(scratch) / "node_modules" / part.path, kept / part.sha256)
    return [_inline(_checked(part, (kept / part.sha256).read_bytes())) for part in _PARTS]


def _install(scratch: Path) -> None:
    """Have npm fetch the packages by name; nothing of theirs is run."""
    if shutil.which("npm") is None:
        raise UnsupportedError("what interactive pages are made of is fetched by npm, and there is none", cure=_CURE)
    words = ["npm", "install", "--prefix", str(scratch), "--ignore-scripts", "--no-audit", "--no-fund", "--no-save"]
    try:
        done = subprocess.run(
            [*words, *(each.package for each in _PARTS)],
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnsupportedError(f"npm did not end within {_LONGEST_S} s", cure=_CURE) from error
    if done.returncode or not all((scratch / "node_modules" / each.path).is_file() for each in _PARTS):
        last = ([line for line in done.stderr.splitlines() if line.strip()] or ["nothing was said"])[0]
        raise UnsupportedError(f"npm could not fetch them: {last[:300]}", cure=_CURE)


def _checked(part: _Part, content: bytes) -> str:
    found = hashlib.sha256(content).hexdigest()
    if found != part.sha256:
        raise UnsupportedError(
            f"{part.package} is not what it was", expected=part.sha256, found=found, cure="Remove it from the cache."
        )
    return content.decode()


def _anywidget() -> str:
    """Return anywidget's own script for pages, under the name that a widget's state asks for."""
    script = (files("anywidget") / "nbextension" / "index.js").read_text(encoding="utf-8")
    if script.count(_ANONYMOUS) != 1:
        raise UnsupportedError(
            "this version of anywidget has another script for pages", cure="Use anywidget 0.9 to 0.11."
        )
    return _inline("(function(){" + script.replace(_ANONYMOUS, _NAMED) + "})();")


def _inline(script: str) -> str:
    script = _FONT.sub('"data:,"', script)
    return script.replace("\r\n", "\n").replace("</script", "<\\/script")  # the page's parser does the first as well


def _shown(output: Any) -> None:
    """Let an output show its widget: by a data block that html-manager looks for."""
    view = output.get("data", {}).get(_VIEW)
    if view is not None:
        output.data = type(output.data)({"text/html": f"<div>{_data(_VIEW, view)}</div>"})


def _data(kind: str, value: Any) -> str:
    text = json.dumps(value, sort_keys=True).replace("<", "\\u003c")
    return f'<script type="{kind}">{text}</script>'


def _policy(scripts: Sequence[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts)
    return _POLICY.format(hashes=" ".join(f"'sha256-{each}'" for each in digests))


if __name__ == "__main__":  # make interactive
    try:
        fetch()
    except UnsupportedError as error:
        raise SystemExit(str(error)) from error
