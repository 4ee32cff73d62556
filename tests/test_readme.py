"""The README is true: its command lines parse, and its Python runs on a real guest."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from workbench.cli.parser import parse
from workbench.demo import DemoGuest

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_command_line_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CASE", "somewhere")
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("workbench ")]
    assert len(lines) >= 8
    for line in lines:
        assert callable(parse(shlex.split(line, comments=True)[1:]).run)


def test_the_make_targets_exist() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_python_runs(guest: DemoGuest, public_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    code = code.replace("/var/lib/cases/web1", str(public_directory / "case")).replace("web1", guest.name)
    code = code.replace("# ... something happens ...", "happen()")
    exec(compile(code, "README.md", "exec"), {"happen": lambda: guest.run("echo planted >/root/planted; sync")})
    printed = capsys.readouterr().out
    assert "disk:vda" in printed
    assert f"Rewind of {guest.name} (production" in printed
    guest.run("rm /root/planted; sync")
