"""Results, peers, tables: what is told and what is derived."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from workbench.bench.result import Peer, Result, measured, medians, percentile, uncertainty
from workbench.bench.table import markdown, terminal_table
from workbench.errors import GuestError

QUICK = Peer("quick", (3.0, 1.0, 2.0), "by hand")
RESULT = Result("a pause", "ms", 12, (1.0, 2.0, 30.0), "by the clock", (QUICK,), "all is well", reach_p95=40)


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 50), (95, 95), (99, 99), (100, 100)])
def test_a_percentile_is_a_sample_that_so_many_do_not_exceed(percent: int, expected: int) -> None:
    assert percentile(range(100, 0, -1), percent) == expected


def test_a_percentile_of_one_sample_is_that_sample() -> None:
    assert percentile([7.5], 95) == 7.5


@pytest.mark.parametrize(
    ("samples", "reach_p95", "met"),
    [((11, 12, 13), None, True), ((12, 13, 14), None, False), ((1, 2, 41), 40, False), ((1, 2, 40), 40, True)],
)
def test_a_reach_is_met_by_median_and_percentile(samples: tuple[int, ...], reach_p95: int | None, met: bool) -> None:
    assert Result("x", "ms", 12, samples, "", reach_p95=reach_p95).met is met


def test_json_carries_samples_and_what_was_derived() -> None:
    told = json.loads(json.dumps(RESULT.to_json()))
    assert told["samples"] == [1.0, 2.0, 30.0]
    assert (told["median"], told["p95"], told["met"]) == (2.0, 30.0, True)
    assert told["peers"][0]["median"] == 2.0
    assert told["peers"][0]["samples"] == [3.0, 1.0, 2.0]


def test_a_peer_that_cannot_run_keeps_its_place_with_the_reason() -> None:
    def fail() -> list[float]:
        raise GuestError("no such thing here")

    peer = measured("odd tool", "by hand", fail)
    assert peer.samples == ()
    assert peer.to_json()["median"] is None
    assert "no such thing here" in peer.how
    assert "no such thing here" in markdown([Result("x", "s", 1, (1.0,), "", (peer,))])


def test_medians_of_parts_leave_out_what_took_no_time() -> None:
    assert medians([{"stop": 2_000_000, "scan": 100}, {"stop": 4_000_000, "cont": 1_000_000}]) == "stop 3.0, cont 0.5"


def test_both_tables_name_figure_reach_peers_and_note() -> None:
    shown = io.StringIO()
    Console(width=200, file=shown).print(terminal_table([RESULT]))
    for text in (shown.getvalue(), markdown([RESULT])):
        for word in ("a pause", "12 ms, p95 40", "2.0 ms", "30.0 ms", "yes", "quick: 2.0 ms", "all is well"):
            assert word in text


def test_what_the_spread_drowns_is_not_settled() -> None:
    assert uncertainty([5.0] * 9) == 0
    assert uncertainty([1.0, 2.0, 3.0, 4.0]) == pytest.approx(1.0)
    text = markdown([Result("slower", "%", 3, (-20.0, 1.0, 30.0), "", settled=False)])
    assert "not settled" in text
    assert "yes" not in text
