"""What the service keeps: configuration with its versions, tokens, the audit log, settings."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from workbench.errors import DamagedError, StoreError, UsageError
from workbench.service.configuration import Configuration, ConfigurationBook, GuestConfiguration
from workbench.service.identity import Role, Tokens
from workbench.service.pace import Pace
from workbench.service.settings import read_settings
from workbench.store.auditlog import AuditLog
from workbench.timeline.retention import Retention


def test_every_version_of_a_configuration_stays(tmp_path: Path):
    book = ConfigurationBook(tmp_path / "config")
    assert (book.version, book.current()) == (0, Configuration())
    first = Configuration(guests=(GuestConfiguration(guest="web1", interval_s=2),))
    second = first.with_guest(GuestConfiguration(guest="web1", interval_s=7))
    assert [book.put(first, "me", 1), book.put(second, "me", 2)] == [1, 2]
    assert ConfigurationBook(tmp_path / "config").current() == second
    assert book.at(1) == first
    with pytest.raises(UsageError, match="no such version"):
        book.at(9)


def test_a_configuration_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, monkeypatch):
    book = ConfigurationBook(tmp_path / "config")
    book.put(Configuration(guests=(GuestConfiguration(guest="a"),)), "me", 1)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space"):
        book.put(Configuration(), "me", 2)
    monkeypatch.undo()
    assert [each.guest for each in book.current().guests] == ["a"]
    assert sorted(path.name for path in book.directory.iterdir()) == ["000001.json", "current"]


def test_a_damaged_configuration_is_named(tmp_path: Path):
    book = ConfigurationBook(tmp_path / "config")
    book.put(Configuration(), "me", 1)
    (book.directory / "000001.json").write_text("{")
    with pytest.raises(DamagedError, match=r"000001\.json"):
        book.current()


@pytest.mark.parametrize(
    "wrong",
    [
        {"guest": ""},
        {"guest": "a", "interval_s": 0.01},
        {"guest": "a", "interval": 2},
        {"guest": "a", "retention": {"tiers": [{"every": "1x", "for": "1d"}]}},
        {"guest": "a", "retention": {"tiers": [{"for": "1d"}, {"every": "1m", "for": "1h"}]}},
        {"guest": "a", "retention": {"max_bytes": 1 << 30}},
        {"guest": "a", "triggers": {"console": {"bad": "("}}},
        {"guest": "a", "triggers": {"thresholds": [{"measure": "cpu", "above": 1, "rearm_below": 2}]}},
        {"guest": "a", "triggers": {"thresholds": [{"measure": "heat", "above": 1}]}},
    ],
)
def test_a_configuration_is_validated_whole(wrong):
    with pytest.raises(ValidationError):
        GuestConfiguration.model_validate(wrong)
    with pytest.raises(ValidationError):
        Configuration.model_validate({"guests": [{"guest": "ok"}, wrong]})


def test_one_guest_cannot_be_configured_twice():
    with pytest.raises(ValidationError, match="named twice: a"):
        Configuration.model_validate({"guests": [{"guest": "a"}, {"guest": "a"}]})


def test_tiers_are_read_in_words():
    told = {"guest": "a", "retention": {"tiers": [{"for": "10m"}, {"every": "1m", "for": "1d"}]}}
    read = GuestConfiguration.model_validate(told)
    assert str(Retention.of(**read.retention.plain())) == "all for 10m, 1m for 1d"


def test_a_token_is_shown_once_and_only_its_digest_is_kept(tmp_path: Path):
    tokens = Tokens(tmp_path / "tokens.json")
    secret = tokens.make("siem", "operator", ["web1"])
    kept = (tmp_path / "tokens.json").read_text()
    assert secret not in kept
    assert stat.S_IMODE((tmp_path / "tokens.json").stat().st_mode) == 0o600
    caller = Tokens(tmp_path / "tokens.json").recognise(secret)
    assert caller is not None
    assert (caller.name, caller.role, caller.guests) == ("token:siem", Role.OPERATOR, {"web1"})
    assert caller.sees("web1", "some-uuid")
    assert not caller.sees("db1")
    assert tokens.recognise(secret[:-1]) is None
    assert tokens.recognise("\ud800") is None


def test_a_removed_token_is_worthless_at_once_also_elsewhere(tmp_path: Path):
    tokens, other = (Tokens(tmp_path / "tokens.json") for _ in range(2))
    secret = tokens.make("a", "viewer")
    assert other.recognise(secret)
    tokens.remove("a")
    assert other.recognise(secret) is None
    with pytest.raises(UsageError, match="no token"):
        tokens.remove("a")


@pytest.mark.parametrize(("name", "role"), [("", "viewer"), ("a\n", "viewer"), ("b", "king")])
def test_a_token_that_cannot_be_is_refused(tmp_path: Path, name, role):
    with pytest.raises(UsageError):
        Tokens(tmp_path / "tokens.json").make(name, role)


def test_two_tokens_cannot_have_one_name_and_a_damaged_file_is_said(tmp_path: Path):
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.make("a", "viewer")
    with pytest.raises(UsageError, match="exists"):
        tokens.make("a", "admin")
    (tmp_path / "tokens.json").write_text('[{"name": "a", "role": "king"}]')
    with pytest.raises(DamagedError):
        tokens.all()


def test_the_audit_log_goes_on_and_tells_what_was_changed(tmp_path: Path):
    path = tmp_path / "audit.jsonl"
    for number in range(3):
        AuditLog(path).add("token:a", "capture", "done", guest="web1", number=number, token="wb_x", password="p")
    log = AuditLog(path)
    assert log.verify() == []
    assert [line["facts"] for line in log.lines()] == [{"guest": "web1", "number": str(n)} for n in range(3)]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1].replace("web1", "web2") + lines[2])
    assert [each.partition(":")[0] for each in AuditLog(path).verify()] == ["line 3"]
    path.write_text(lines[0] + lines[2])
    assert [each.partition(":")[0] for each in AuditLog(path).verify()] == ["line 2"]


def test_several_processes_add_to_one_audit_log(tmp_path: Path):
    path = tmp_path / "audit.jsonl"
    one, other = AuditLog(path), AuditLog(path)
    for number in range(3):
        one.add("a", "one", "done", number=number)
        other.add("b", "other", "done", number=number)
        assert one.last == other.last
    assert AuditLog(path).verify() == []
    assert [each["who"] for each in one.lines()] == ["a", "b"] * 3


def test_a_line_that_a_crash_cut_short_does_not_swallow_the_next(tmp_path: Path):
    path = tmp_path / "audit.jsonl"
    AuditLog(path).add("a", "b", "c")
    with path.open("ab") as file:
        file.write(b'{"who": "torn')
    AuditLog(path).add("a", "d", "e")
    told = list(AuditLog(path).lines())
    assert [each.get("what", "torn") for each in told] == ["b", "torn", "d"]
    assert [each.partition(":")[0] for each in AuditLog(path).verify()] == ["line 2"]


def test_what_cannot_be_noted_is_an_error(tmp_path: Path):
    log = AuditLog(tmp_path / "audit.jsonl")
    (tmp_path / "audit.jsonl").mkdir()
    with pytest.raises(StoreError, match="audit log"):
        log.add("a", "b", "c")


SETTINGS = 'case = "/var/lib/cases/a"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("case = 3\n", "case"),
        ("", "case"),
        (SETTINGS + "colour = 1\n", "colour"),
        (SETTINGS + '[listen]\nport = 80\naddress = "0.0.0.0"\n', "certificate"),
        (SETTINGS + '[listen]\nport = 80\naddress = "web1"\n', "IP address"),
        (SETTINGS + '[listen]\ncertificate = "/a"\n', "belong together"),
        ("case =", "TOML"),
    ],
)
def test_wrong_settings_say_which(tmp_path: Path, text, said):
    (tmp_path / "workbench.toml").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_settings(tmp_path / "workbench.toml")


def test_settings_that_are_not_there_are_said(tmp_path: Path):
    with pytest.raises(UsageError, match="No such file"):
        read_settings(tmp_path / "none.toml")


def test_settings_have_safe_defaults(tmp_path: Path):
    (tmp_path / "workbench.toml").write_text(SETTINGS)
    settings = read_settings(tmp_path / "workbench.toml")
    assert settings.listen.port == 0
    assert settings.listen.socket == Path("/run/workbench/api.sock")


def test_the_interval_is_stretched_openly_and_taken_back():
    pace = Pace(2.0)
    for _ in range(3):
        pace = pace.after(skipped=1, free=10, least=1)
    assert (pace.seconds, pace.why) == (4.0, "captures take longer than the interval")
    for _ in range(30):
        pace = pace.after(skipped=0, free=10, least=1)
    assert (pace.seconds, pace.why) == (2.0, "")
    tight = pace.after(skipped=0, free=0, least=1 << 20)
    assert tight.seconds == 32.0
    assert "0 MiB" in tight.why
