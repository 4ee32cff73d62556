"""A notebook that was run, as a page: HTML by nbconvert, styles of ours, no script that could run.

The same notebook gives the same bytes. The page's own policy forbids scripts and every request, so that what a guest
named is text even where escaping had failed. Refuses to hold the state of widgets: `interactive` does.
"""

from __future__ import annotations

import html
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from blake3 import blake3

from workbench.evidence.running import Template
from workbench.evidence.statement import Output, Statement

__all__ = ["POLICY", "body_of", "page_of", "statement_of", "wrapped"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_PARTS = ("rewind-workbench", "volatility3", "yara-x", "nbconvert", "pandas")
_STYLE = Path(__file__).parent / "report.css"
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
{block}
</body>
</html>
"""


def statement_of(notebook: Any, case: str, template: Template, parameters: dict[str, str]) -> Statement:
    """Return what a report of this notebook says of itself."""
    outputs = tuple(_output(cell) for cell in notebook.cells if cell.cell_type == "code" and cell.outputs)
    return Statement(
        case, template.name, template.digest, parameters, {each: version(each) for each in _PARTS}, outputs
    )


def _output(cell: Any) -> Output:
    shown = json.dumps(cell.outputs, sort_keys=True, separators=(",", ":")).encode("utf-8")
    told = [each.metadata["workbench"] for each in cell.outputs if "workbench" in each.get("metadata", {})]
    captures = tuple(dict.fromkeys(capture for each in told for capture in each["captures"]))
    number, title = (told[0]["exhibit"], told[0]["title"]) if told else (0, "")
    return Output(cell.id, blake3(shown).hexdigest(), number, title, captures)


def body_of(notebook: Any) -> str:
    """Return texts and outputs as HTML, without a page around them; the code is the template's."""
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    config = Config()
    config.HTMLExporter.preprocessors = []
    config.HTMLExporter.exclude_input = config.HTMLExporter.exclude_output_prompt = True
    config.HTMLExporter.exclude_anchor_links = True
    exporter = HTMLExporter(config=config, template_name="basic")  # type: ignore[no-untyped-call]
    body: str = exporter.from_notebook_node(notebook)[0]
    return body


def page_of(notebook: Any, statement: Statement) -> str:
    """Return the whole page of a report."""
    return wrapped(f"Report: {statement.template}", POLICY, body_of(notebook), statement.element())


def wrapped(title: str, policy: str, body: str, tail: str) -> str:
    """Return a page around a body; `tail` follows what is read."""
    style = _STYLE.read_text(encoding="utf-8")
    return _PAGE.format(policy=policy, title=html.escape(title), style=style, body=body, block=tail)
