"""Counters of an HTTP server, and one log line a second at most about what it refused.

`web.places`, `web.protocol` and `web.server` count here; the registry is the front's, so `/metrics` shows them.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Counts

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from web.refusals import REFUSALS

_SUMMARY_S = 1.0
log = structlog.get_logger(__name__)


class HttpMetrics:
    """Metrics of one server.

    Args:
        prefix: of their names, such as "gateway".
        registry: where they are registered.
    """

    def __init__(self, prefix: str, registry: CollectorRegistry) -> None:
        self._open = Gauge(
            f"{prefix}_http_connections", "Open HTTP connections, by whether a key is known", ["key"], registry=registry
        )
        self._accepted = Counter(f"{prefix}_http_accepted_total", "HTTP connections accepted", registry=registry)
        self._closed = Counter(
            f"{prefix}_http_connections_closed_total",
            "HTTP connections that the server ended without an answer, by reason",
            ["reason"],
            registry=registry,
        )
        self._refused = Counter(
            f"{prefix}_http_refused_total",
            "HTTP requests and connections refused by the limits of the server, by reason",
            ["reason"],
            registry=registry,
        )
        self._summary: Counts[str] = Counts()
        self._address = ""
        for reason in REFUSALS:
            self._refused.labels(reason)

    def accepted(self) -> None:
        self._accepted.inc()

    def open_connections(self, total: int, known: int) -> None:
        self._open.labels("known").set(known)
        self._open.labels("none").set(total - known)

    def refused(self, reason: str, address: str = "") -> None:
        """Count an answer of `web.refusals`; the log line has the latest `address`."""
        self._refused.labels(reason).inc()
        self._address = address or self._address
        self._note(reason)

    def closed(self, reason: str) -> None:
        """Count an end without an answer: made_room, idle, unread, tls_failed, no_files."""
        self._closed.labels(reason).inc()
        if reason != "idle":
            self._note(reason)

    def _note(self, reason: str) -> None:
        if not self._summary:
            try:
                asyncio.get_running_loop().call_later(_SUMMARY_S, self._log_summary)
            except RuntimeError:  # no loop: a unit test
                return
        self._summary[reason] += 1

    def _log_summary(self) -> None:
        counts, self._summary = dict(self._summary), Counts()
        latest = {"address": self._address} if self._address else {}
        self._address = ""
        log.warning("http_refused", **counts, **latest)
