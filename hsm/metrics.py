"""Metrics of the HSM process: commands by outcome, their duration, cache hits, and the state of its parts.

The service reports here; the text comes out through the `status` command. Plain numbers on the way, Prometheus families
when somebody asks: the client library's own counters take a lock for each step, and this process serves several
commands a payment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class _Timing:
    """Seconds in buckets."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS_S) + 1)
        self.total_s = 0.0


class Metrics(Collector):
    """The counters of one HSM process; names and outcomes of commands are a fixed, small set."""

    def __init__(self) -> None:
        self._commands: dict[tuple[str, str], int] = {}
        self._timings: dict[str, _Timing] = {}
        self._lookups = {"cache": 0, "vault": 0}
        self._up = {"token": False, "vault": False, "audit": False}
        self._queued = 0
        self._records = 0
        self.key_expiries: dict[str, int] = {}
        """When the cryptoperiod of each key in force ends, in seconds since 1970, by name."""

    def command(self, name: str, outcome: str, seconds: float) -> None:
        """Count one command."""
        key = (name, outcome)
        self._commands[key] = self._commands.get(key, 0) + 1
        timing = self._timings.get(name)
        if timing is None:
            timing = self._timings[name] = _Timing()
        timing.counts[bisect_left(_BUCKETS_S, seconds)] += 1
        timing.total_s += seconds

    def cache_hit(self) -> None:
        self._lookups["cache"] += 1

    def cache_miss(self) -> None:
        self._lookups["vault"] += 1

    def state(self, *, token: bool, vault: bool, audit: bool, queued: int, records: int) -> None:
        """Say what works, how many commands wait and the number of the last audit record."""
        self._up = {"token": token, "vault": vault, "audit": audit}
        self._queued, self._records = queued, records

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        commands = CounterMetricFamily(
            "cardswitch_hsm_commands", "Commands by name and outcome", labels=["command", "outcome"]
        )
        for labels, count in self._commands.items():
            commands.add_metric(labels, count)
        yield commands
        seconds = HistogramMetricFamily("cardswitch_hsm_command_seconds", "From arrival to answer", labels=["command"])
        bounds = [*(f"{bound:g}" for bound in _BUCKETS_S), "+Inf"]
        for name, timing in self._timings.items():
            seconds.add_metric([name], list(zip(bounds, accumulate(timing.counts), strict=True)), timing.total_s)
        yield seconds
        lookups = CounterMetricFamily("cardswitch_hsm_card_lookups", "Cards looked up", labels=["found"])
        for found, count in self._lookups.items():
            lookups.add_metric([found], count)
        yield lookups
        up = GaugeMetricFamily("cardswitch_hsm_up", "1 while it works", labels=["part"])
        for part, value in self._up.items():
            up.add_metric([part], value)
        yield up
        expiries = GaugeMetricFamily(
            "cardswitch_hsm_key_expiry_timestamp_seconds",
            "When the cryptoperiod of a key in force ends, in seconds since 1970",
            labels=["key"],
        )
        for key, expires_at in sorted(self.key_expiries.items()):
            expiries.add_metric([key], expires_at)
        yield expiries
        yield GaugeMetricFamily("cardswitch_hsm_queued", "Commands that wait", value=self._queued)
        yield CounterMetricFamily("cardswitch_hsm_audit_records", "Records of the audit trail", value=self._records)

    def text(self) -> str:
        """Return the Prometheus text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry).decode()
