"""What the HSM process counts: commands by outcome, how long they took, cache hits, and what is up.

The service reports here; the text comes out through the `status` command. Each process has a registry of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Metrics:
    """The counters of one HSM process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._commands = Counter(
            "cardswitch_hsm_commands", "Commands by name and outcome", ["command", "outcome"], registry=self._registry
        )
        self._seconds = Histogram(
            "cardswitch_hsm_command_seconds",
            "From arrival to answer",
            ["command"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        lookups = Counter("cardswitch_hsm_card_lookups", "Cards looked up", ["found"], registry=self._registry)
        self.cache_hit: Callable[[], None] = lookups.labels("cache").inc
        self.cache_miss: Callable[[], None] = lookups.labels("vault").inc
        up = Gauge("cardswitch_hsm_up", "1 while it works", ["part"], registry=self._registry)
        self.token_up: Callable[[float], None] = up.labels("token").set
        self.vault_up: Callable[[float], None] = up.labels("vault").set
        # labels() costs more than inc(): the children are kept, and outcomes are a fixed, small set.
        self._children: dict[tuple[str, str], tuple[Callable[[], None], Callable[[float], None]]] = {}

    def command(self, name: str, outcome: str, seconds: float) -> None:
        """Count one command."""
        children = self._children.get((name, outcome))
        if children is None:
            children = (self._commands.labels(name, outcome).inc, self._seconds.labels(name).observe)
            self._children[(name, outcome)] = children
        children[0]()
        children[1](seconds)

    def text(self) -> str:
        """Return the Prometheus text format."""
        return generate_latest(self._registry).decode()
