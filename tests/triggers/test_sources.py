"""What sources make of what they see: alerts of others, lines of a guest, words on a console, measurements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.capture.triggers.alerts import read_alert
from workbench.capture.triggers.channel import LONGEST_LINE, ChannelLines
from workbench.capture.triggers.console import ConsoleWatch
from workbench.capture.triggers.thresholds import Threshold, Watched
from workbench.errors import UsageError

SECOND = 10**9


def test_plain_falco_and_wazuh_alerts_are_told_apart():
    plain, severity = read_alert({"name": "alert-7", "reason": "odd login", "severity": "critical"}, 5)
    assert (plain.name, plain.reason, severity, plain.time_ns) == ("alert-7", "odd login", "critical", 5)
    falco, severity = read_alert(
        {"time": "2026-11-24T14:03:00Z", "rule": "Terminal shell in container", "priority": "Notice",
         "output": "a shell", "output_fields": {"proc.name": "sh"},
         "hostname": "web1", "source": "syscall", "tags": ["shell"]}, 5,
    )  # fmt: skip
    assert (falco.name, falco.reason, severity) == ("falco-Terminal-shell-in-container", "a shell", "notice")
    assert falco.facts["hostname"] == "web1"
    wazuh, severity = read_alert(
        {"timestamp": "2026-11-24T14:03:00.000+0000", "id": "1.2", "agent": {"id": "001", "name": "web1"},
         "rule": {"level": 10, "description": "sshd: brute force", "id": "5712"}}, 5,
    )  # fmt: skip
    assert (wazuh.name, wazuh.reason, severity) == ("wazuh-5712", "sshd: brute force", "error")
    assert wazuh.facts == {
        "timestamp": "2026-11-24T14:03:00.000+0000", "id": "1.2", "by": "wazuh", "level": 10, "agent": "web1",
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [{}, {"name": ""}, {"name": 3}, {"rule": "x"}, {"rule": {"level": "high"}}, {"name": "a", "severity": "bad"}],
)
def test_what_is_no_alert_is_refused(body):
    with pytest.raises(UsageError):
        read_alert(body, 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["rule", "name", "priority", "output", "agent", "reason", "severity"]), JSON))
def test_any_object_is_an_alert_or_refused(body):
    try:
        event, _ = read_alert(body, 0)
    except UsageError:
        return
    assert 1 <= len(event.name) <= 64
    assert len(event.reason) <= 500


def test_a_guest_s_lines_come_in_any_pieces():
    text = b"mark deploy version 4.2\nnoise\nmark\nmark done\n"
    whole = list(ChannelLines().feed(text, 7))
    lines = ChannelLines()
    pieces = [event for byte in text for event in lines.feed(bytes([byte]), 7)]
    assert whole == pieces
    assert [(each.name, each.reason) for each in whole] == [("deploy", "version 4.2"), ("done", "done")]


def test_a_line_that_never_ends_costs_nothing_and_the_next_one_counts():
    lines = ChannelLines()
    for _ in range(1_000):
        assert list(lines.feed(b"mark x " * 200, 0)) == []
        assert len(lines._rest) <= LONGEST_LINE
    assert [each.name for each in lines.feed(b"end\nmark next\n", 0)] == ["next"]


def test_the_kernel_s_words_of_trouble_are_found_whatever_stands_around_them():
    watch = ConsoleWatch()
    said = [
        b"[    1.0] \x1b[31mKernel panic - not syncing: Attempted to kill init!\r\n",
        b"web[12]: segfault at 0 ip 00007f sp 00007f error 4\n",
        b"Out of memory: Killed process 12 (java)\n",
        b"all is well\n",
    ]
    found = [event.name for line in said for event in watch.feed(line, 0)]
    assert found == ["kernel-panic", "segfault", "out-of-memory"]


def test_a_console_line_in_two_pieces_is_one():
    watch = ConsoleWatch()
    assert list(watch.feed(b"Kernel pa", 0)) == []
    assert [each.name for each in watch.feed(b"nic - not syncing: x\n", 0)] == ["kernel-panic"]


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(UsageError, match="regular expression"):
        ConsoleWatch({"bad": "("})


def test_a_threshold_speaks_once_per_rise_and_only_of_whole_windows():
    watched = Watched(Threshold("cpu", above=0.9, over_s=10, rearm_below=0.5))
    told = []
    for second, level in enumerate([1.0] * 30 + [0.7] * 30 + [1.0] * 30 + [0.1] * 30 + [1.0] * 30):
        if watched.take(second * SECOND, level):
            told.append(second)
    assert len(told) == 2  # 0.7 is below the threshold and does not rearm it
    assert told[0] == 10
    assert 120 < told[1] <= 131


def test_a_spike_is_no_event_and_a_gap_begins_anew():
    watched = Watched(Threshold("network", above=100, over_s=5))
    assert not any(watched.take(n * SECOND, 500 if n == 3 else 0) for n in range(6))
    assert watched.take(100 * SECOND, 500) is None
    assert watched.take(101 * SECOND, float("nan")) is None


@pytest.mark.parametrize(
    "wrong",
    [("heat", 1, 10, 0), ("cpu", 0, 10, 0), ("cpu", 1, 0.1, 0), ("cpu", 1, 10, 2), ("cpu", float("inf"), 10, 1)],
)
def test_a_threshold_that_cannot_be_meant_is_refused(wrong):
    with pytest.raises(UsageError):
        Threshold(*wrong)
