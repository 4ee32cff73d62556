"""Alerts of others, read into events: plain JSON, Falco's and Wazuh's.

Which of them a body is, is told by the fields that each documents. Times are kept as facts: an alert's own clock is
another machine's. Refuses bodies that are none of them, saying what is missing; texts are cut by `Event`.

Sources: Falco, "Falco Outputs: JSON output" (time, rule, priority, output, output_fields, hostname, source, tags);
Wazuh, "Alert management" and "External APIs" (timestamp, id, agent.name, and of `rule`: level, description, id).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.capture.triggers.event import Event
from workbench.errors import UsageError

__all__ = ["SEVERITIES", "read_alert"]

SEVERITIES = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""From least to most; Falco's priorities are the same words (`informational` is `info`)."""
_LONGEST_FACT = 300
_WAZUH_LEVELS = ((15, "emergency"), (12, "critical"), (10, "error"), (7, "warning"), (4, "notice"), (0, "info"))


def read_alert(body: Mapping[str, Any], time_ns: int) -> tuple[Event, str]:
    """Return an alert as an event, and its severity (one of `SEVERITIES`).

    Parameters
    ----------
    body : mapping
        A decoded JSON object.
    time_ns : int
        When it arrived (UTC, ns since the epoch).

    Raises
    ------
    UsageError
        If it is no alert that is known.
    """
    rule = body.get("rule")
    if isinstance(rule, Mapping) and "level" in rule:
        return _wazuh(body, rule, time_ns)
    if isinstance(rule, str) and "priority" in body:
        return _falco(body, rule, time_ns)
    if isinstance(body.get("name"), str) and body["name"]:
        return _plain(body, time_ns)
    raise UsageError(
        "not an alert that is known",
        found=sorted(str(key)[:40] for key in body)[:20],
        cure='Send {"name": ..., "reason": ...}, or an alert as Falco or Wazuh writes it.',
    )


def _plain(body: Mapping[str, Any], time_ns: int) -> tuple[Event, str]:
    severity = str(body.get("severity", "warning")).lower()
    if severity not in SEVERITIES:
        known = ", ".join(SEVERITIES)
        raise UsageError("no such severity", found=severity[:40], known=known, cure="Send one of those that are known.")
    reason = _text(body.get("reason")) or body["name"]
    return Event("alert", body["name"], reason, time_ns, _facts(body, "id", "time", "host")), severity


def _falco(body: Mapping[str, Any], rule: str, time_ns: int) -> tuple[Event, str]:
    priority = str(body["priority"]).lower().replace("informational", "info")
    severity = priority if priority in SEVERITIES else "warning"
    facts = _facts(body, "time", "hostname", "source") | {"by": "falco"}
    return Event("alert", f"falco-{rule}", _text(body.get("output")) or rule, time_ns, facts), severity


def _wazuh(body: Mapping[str, Any], rule: Mapping[str, Any], time_ns: int) -> tuple[Event, str]:
    level = rule["level"]
    if not isinstance(level, int):
        raise UsageError("a Wazuh alert's rule.level must be a whole number", found=_text(level))
    severity = next((word for least, word in _WAZUH_LEVELS if level >= least), "info")
    agent = body.get("agent")
    facts = _facts(body, "timestamp", "id") | {"by": "wazuh", "level": level}
    if isinstance(agent, Mapping):
        facts["agent"] = _text(agent.get("name"))
    words = _text(rule.get("description")) or "an alert of Wazuh"
    return Event("alert", f"wazuh-{_text(rule.get('id')) or 'rule'}", words, time_ns, facts), severity


def _facts(body: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: _text(body[name]) for name in names if body.get(name) is not None}


def _text(value: object) -> str:
    return str(value)[:_LONGEST_FACT] if isinstance(value, (str, int, float)) else ""
