"""Status as Prometheus reads it (text exposition format 0.0.4, by prometheus_client).

Refuses labels that a guest chooses freely: a guest's name is its configuration's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from workbench.service.budget import BudgetState
from workbench.service.status import GuestStatus

__all__ = ["KIND", "exposition"]

KIND = "text/plain; version=0.0.4; charset=utf-8"
_HEALTHS = ("well", "behind", "degraded", "trouble", "waiting", "off")
_GAUGES = (
    ("interval_asked_seconds", "Interval that was asked for", "interval_asked_s"),
    ("interval_held_seconds", "Interval that is held", "interval_held_s"),
    ("rpo_achieved_seconds", "Longest time between two of the last captures", "rpo_achieved_s"),
    ("last_capture_age_seconds", "Age of the newest capture", "age_s"),
    ("pause_median_milliseconds", "Median pause of the last captures", "pause_p50_ms"),
    ("pause_p95_milliseconds", "95th percentile of the pause of the last captures", "pause_p95_ms"),
    ("lag_seconds", "How much later than its tick the last capture began", "lag_s"),
    ("free_bytes", "Free space of the case's volume", "free_bytes"),
    ("clock_ahead_seconds", "How far times of captures are ahead of the host's clock, set back", "clock_ahead_s"),
    ("frozen_milliseconds", "How long file systems were frozen for the last capture", "frozen_ms"),
    ("capture_cores", "Processor time that captures took of late, per second", "cpu_cores"),
    ("capture_write_bytes_per_second", "Bytes stored by captures of late, per second", "write_bytes_s"),
)
_COUNTERS = (
    ("captures", "Captures taken", "captures"),
    ("consistent_captures", "Captures taken with frozen file systems", "consistent_captures"),
    ("failures", "Captures and recorders that failed", "failures"),
    ("missed_ticks", "Ticks without a capture", "missed_ticks"),
    ("stored_bytes", "Bytes stored", "bytes_stored"),
)
_INCREMENT_COUNTERS = (
    ("increments_examined", "Increments that rules and detectors looked at", "examined"),
    ("increments_skipped", "Increments that they left out for want of time", "skipped"),
    ("increments_failed", "Increments that they could not look at", "failed"),
    ("increments_hits", "Rules that hit and kinds of findings that were new", "hits"),
    ("increments_restarts", "Examiners that were lost", "restarts"),
)
_BUDGET = (
    ("cores", "Cores that captures of all guests may take", "cpu"),
    ("cores_used", "Cores that they took over the last minute", "cpu_used"),
    ("bytes_per_second", "Bytes per second that they may write", "bandwidth"),
    ("bytes_per_second_used", "Bytes per second that they wrote over the last minute", "bandwidth_used"),
    ("stretched_guests", "Guests whose interval the budget stretches", "stretched"),
)


class _Statuses(Collector):
    def __init__(self, statuses: Iterable[GuestStatus], budget: BudgetState | None) -> None:
        self._statuses, self._budget = list(statuses), budget

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        for name, words, attribute in _GAUGES:
            gauge = GaugeMetricFamily(f"workbench_{name}", words, labels=["guest"])
            for each in self._statuses:
                value = getattr(each, attribute)
                if value is not None:
                    gauge.add_metric([each.guest], float(value))
            yield gauge
        yield from _counters(_COUNTERS, {each.guest: each for each in self._statuses})
        yield self._health()
        yield from self._increments()
        yield from self._budgets()

    def _increments(self) -> Iterator[Metric]:
        """Yield how looking at increments goes, of guests of which they are looked at."""
        looked = [each for each in self._statuses if each.increments.state != "off"]
        yield from _counters(_INCREMENT_COUNTERS, {each.guest: each.increments for each in looked})
        waiting = GaugeMetricFamily("workbench_increments_backlog", "Captures to be looked at", labels=["guest"])
        trouble = GaugeMetricFamily("workbench_increments_trouble", "1 where that is in trouble", labels=["guest"])
        for each in looked:
            waiting.add_metric([each.guest], float(each.increments.backlog))
            trouble.add_metric([each.guest], float(each.increments.state == "trouble"))
        yield waiting
        yield trouble

    def _budgets(self) -> Iterator[Metric]:
        """Yield what all guests take together; a limit that there is none of is left out."""
        for name, words, attribute in _BUDGET:
            value = getattr(self._budget, attribute, None)
            if value is not None:
                yield GaugeMetricFamily(f"workbench_budget_{name}", words, value=float(value))

    def _health(self) -> Metric:
        health = GaugeMetricFamily("workbench_health", "1 for the word that holds", labels=["guest", "health"])
        for each in self._statuses:
            for word in _HEALTHS:
                health.add_metric([each.guest, word], float(each.health == word))
        return health


def _counters(rows: Iterable[tuple[str, str, str]], guests: Mapping[str, object]) -> Iterator[Metric]:
    """Yield counters, for every guest from the attributes of what is told of it."""
    for name, words, attribute in rows:
        counter = CounterMetricFamily(f"workbench_{name}", words, labels=["guest"])
        for guest, told in guests.items():
            counter.add_metric([guest], float(getattr(told, attribute)))
        yield counter


def exposition(statuses: Iterable[GuestStatus], budget: BudgetState | None) -> bytes:
    """Return the metrics of guests, and of all together, as text."""
    registry = CollectorRegistry()
    registry.register(_Statuses(statuses, budget))
    return bytes(generate_latest(registry))
