"""What is shipped for operators is what the service reads."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from workbench.service.settings import read_settings

SHIPPED = Path(__file__).parents[2] / "docs" / "service"


def test_the_sample_settings_are_read_and_are_the_defaults_that_they_say() -> None:
    settings = read_settings(SHIPPED / "workbench.toml")
    assert settings.listen.socket == Path("/run/workbench/api.sock")
    assert settings.listen.users == {"monitoring": "viewer"}
    assert settings.limits.requests_per_minute == 1_200


def test_the_unit_starts_what_there_is() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(SHIPPED / "workbench.service")
    assert unit["Service"]["ExecStart"].split()[1:] == ["serve", "--settings", "/etc/workbench.toml"]
    assert unit["Service"]["RuntimeDirectory"] == "workbench"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    text = (SHIPPED / "workbench.service").read_text().replace("/usr/local/bin/workbench", "/bin/true")
    unit = tmp_path / "workbench.service"
    unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], check=False, capture_output=True, text=True)
    assert "Unknown" not in done.stderr
