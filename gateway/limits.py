"""Limits of requests a second of an account, or of a visitor of its pages: a token bucket each, in this process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.errors import too_many

_MAX_BUCKETS = 10_000


class RateLimit:
    """`rate` requests a second and account, twice that in a burst; those idle longest are forgotten first."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = max(rate * 2, 1.0)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, account: str) -> None:
        """Count one request. Raises ApiError 429 where there is none left."""
        now = self._clock()
        tokens, filled_at = self._buckets.pop(account, (self._burst, now))
        tokens = min(self._burst, tokens + (now - filled_at) * self._rate)
        allowed = tokens >= 1
        self._buckets[account] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise too_many("Too many requests hit the API too quickly. Slow down.")
