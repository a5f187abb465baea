"""Counters of one gateway process, in a registry of their own; rendered by `/metrics`."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from web.metrics import HttpMetrics


class Metrics:
    """All metrics; labels have few values: routes and not paths, kinds and codes and never ids."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.http = HttpMetrics("gateway", self.registry)
        self.requests = Counter(
            "gateway_requests_total", "API requests", ["route", "method", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "gateway_request_seconds",
            "API requests, seconds",
            ["route"],
            registry=self.registry,
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self.in_flight = Gauge("gateway_requests_in_flight", "API requests being answered", registry=self.registry)
        self.messages = Counter(
            "gateway_messages_total",
            "Messages decided by the switch",
            ["kind", "response_code"],
            registry=self.registry,
        )
        self.repeats = Counter("gateway_repeats_total", "Messages sent again", ["kind"], registry=self.registry)
        self.reversed = Counter(
            "gateway_reversed_total",
            "Requests given up without an answer and reversed",
            ["kind"],
            registry=self.registry,
        )
        self.pending = Gauge("gateway_pending_messages", "Messages without an answer", registry=self.registry)
        self.link_connections = Gauge(
            "gateway_link_connections", "Connections to the switch that are signed on", registry=self.registry
        )
        self.dials_failed = Counter(
            "gateway_dials_failed_total", "Connections to the switch not made", ["reason"], registry=self.registry
        )
        self.mac_failures = Counter(
            "gateway_mac_failures_total", "Messages of the switch not believed", ["reason"], registry=self.registry
        )
        self.disputes = Counter("gateway_chargebacks_total", "Chargeback advices", ["result"], registry=self.registry)
        self.deliveries = Counter(
            "gateway_webhook_deliveries_total", "Webhook deliveries", ["result"], registry=self.registry
        )

    def watch_certificate(self, seconds_left: Callable[[], float]) -> None:
        """Show how long our certificate lasts, where there is one."""
        Gauge(
            "gateway_certificate_ends_seconds",
            "Until our certificate on the link to the switch ends",
            registry=self.registry,
        ).set_function(seconds_left)

    def render(self) -> bytes:
        return generate_latest(self.registry)
