"""Counters of a worker: plain numbers on the hot path, Prometheus families on request.

Stages, links and senders add to `Meters`; `/metrics` renders it. The client library's own counters take a lock for
each step, which is too dear for a dozen steps a payment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from messages.dictionary.iso1987 import RESPONSE_CODES

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MAX_SERIES = 2000  # label sets a counter may have; further ones are counted as "other"

COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "received": ("Messages received.", ("link", "mti")),
    "answers": ("Answers given to acquirers.", ("link", "kind", "response_code")),
    "declines": ("Requests declined by the switch itself.", ("reason",)),
    "stand_ins": ("Requests that stand-in decided.", ("link", "reason")),
    "circuit_changes": ("Changes of circuit breakers.", ("link", "state")),
    "repeats": ("Repeats of earlier requests.", ("link",)),
    "out_of_balance": ("Totals that differ from ours.", ("link",)),
    "undecodable": ("Frames that are no message.", ("link",)),
    "mac_failures": ("Messages whose MAC was missing, wrong or could not be verified.", ("link", "reason")),
    "key_exchanges": ("Key exchanges that ended.", ("link", "kind", "outcome")),
    "answers_refused": ("Answers without the elements that they must echo.", ("link",)),
    "answers_contradicting": ("Answers that contradict their request.", ("link", "element")),
    "originals_contradicted": ("Messages that contradict the payment which they name.", ("link", "kind", "reason")),
    "approvals_after_decline": ("Approvals of requests that the issuer had declined before; reversed.", ("link",)),
    "approvals_not_undone": ("Late approvals that could not be looked up or reversed; each is in the log.", ("link",)),
    "late_answers": ("Answers nobody waited for.", ("link", "response_code")),
    "unexpected": ("Messages that the switch does not serve.", ("link",)),
    "sessions_closed": ("Connections that ended.", ("link",)),
    "dials_failed": ("Connections that could not be made.", ("link",)),
    "handshakes_failed": ("TLS handshakes that failed.", ("link", "reason")),
    "connections_refused": ("Connections that were not taken.", ("link", "reason")),
    "framing_lost": ("Connections whose bytes were no frames.", ("link",)),
    "misbehaved": ("Connections closed for too many bad frames in a row.", ("link",)),
    "own_timeouts": ("Requests without an answer in time because this worker was too slow.", ("link",)),
    "echoes_missed": ("Echoes of ours without an answer.", ("link",)),
    "over_limit": ("Requests that a link's limits did not let through.", ("link", "limit")),
    "advices_sent": ("Stored advices sent, repeats included.", ("link", "mti")),
    "advices_acknowledged": ("Stored advices answered.", ("link", "response_code")),
    "advices_parked": ("Stored advices put aside after too many repeats.", ("link",)),
    "advices_not_demanded": ("Stored advices put aside unsent: no outcome calls for them.", ("link",)),
    "reloads": ("Configurations read again.", ("outcome",)),
    "saf_alarms": ("Alarms about stored advices: too many, too old.", ("link", "reason")),
    "recovered": ("Intents whose outcome recovery decided.", ("kind",)),
    "outcomes_lost": ("Outcomes that another process had decided first.", ("kind",)),
    "unanswered": ("Requests that could not be answered truthfully and were left to their repeat.", ("reason",)),
    "failures": ("Errors of the switch itself.", ("place",)),
    "unwritten": ("Events that could not be written.", ()),
}

Labels = tuple[str, ...]


class Histogram:
    """Seconds in buckets."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds


class Meters(Collector):
    """All numbers of one worker.

    Gauges are functions that are asked when somebody scrapes.
    """

    def __init__(self) -> None:
        self._counters: dict[str, dict[Labels, int]] = {name: {} for name in COUNTERS}
        self._stages: dict[str, Histogram] = {}
        self._gauges: list[tuple[str, str, Callable[[], dict[str, float]]]] = []

    def count(self, name: str, *labels: str) -> None:
        """Add one to a counter of `COUNTERS`."""
        series = self._counters[name]
        if labels in series:
            series[labels] += 1
        elif len(series) < MAX_SERIES:
            series[labels] = 1
        else:
            other = ("other",) * len(labels)
            series[other] = series.get(other, 0) + 1

    def value(self, name: str, *labels: str) -> int:
        """A counter's value; without labels the sum over all."""
        series = self._counters[name]
        return series.get(labels, 0) if labels else sum(series.values())

    def stage(self, name: str) -> Histogram:
        """The histogram of a pipeline stage; ask once, keep it."""
        return self._stages.setdefault(name, Histogram())

    def gauge(self, name: str, text: str, values: Callable[[], dict[str, float]]) -> None:
        """Register a gauge with one label `link`; `values` maps its label to its value."""
        self._gauges.append((name, text, values))

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        for name, (text, labels) in COUNTERS.items():
            counter = CounterMetricFamily(f"cardswitch_{name}", text, labels=labels)
            for values, count in self._counters[name].items():
                counter.add_metric(values, count)
            yield counter
        stages = HistogramMetricFamily("cardswitch_stage_seconds", "Time spent in a stage.", labels=["stage"])
        for stage, histogram in self._stages.items():
            bounds = [*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"]
            stages.add_metric([stage], list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.total_s)
        yield stages
        for name, text, source in self._gauges:
            gauge = GaugeMetricFamily(f"cardswitch_{name}", text, labels=["link"])
            for label, value in source().items():
                gauge.add_metric([label], value)
            yield gauge

    def exposition(self) -> bytes:
        """The text format that Prometheus scrapes."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)


def known_code(response_code: str) -> str:
    """DE 39 as a label: a peer must not invent label values."""
    return response_code if response_code in RESPONSE_CODES else "other"
