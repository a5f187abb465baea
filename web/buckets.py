"""Token buckets by name: so many requests a second and so many at once, in a table of bounded size.

`web.keyless` counts requests without a valid key by address; the gateway and the tokenizer count requests by account
and by key. Each process counts for itself.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MAX_BUCKETS = 50_000


class Buckets:
    """A bucket for each name; a new one is full. The names idle longest are forgotten first.

    A client that makes the table forget its own name begins with a full bucket. It needs 50,000 other addresses for
    that, each of which has a burst of its own anyway.

    Args:
        rate_per_s: filling speed of a bucket, greater than 0.
        burst: content of a full one, 1 at least.
        clock: seconds, monotonic.
        max_buckets: names remembered.
    """

    def __init__(
        self,
        rate_per_s: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
        max_buckets: int = MAX_BUCKETS,
    ) -> None:
        self._rate = rate_per_s
        self._burst = max(1.0, float(burst))
        self._clock = clock
        self._max_buckets = max_buckets
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str) -> float:
        """Take one if there is one. Returns 0.0 then, else the seconds until there is one; a refusal costs nothing."""
        level = self._level(name)
        wait_s = self._missing_s(level)
        self._store(name, level if wait_s else level - 1.0)
        return wait_s

    def wait_s(self, name: str) -> float:
        """Return the seconds until there is one, 0.0 where there is one now. Nothing is taken."""
        return self._missing_s(self._level(name))

    def charge(self, name: str) -> None:
        """Take one, even where there is none: the debt is one burst at most."""
        self._store(name, max(-self._burst, self._level(name) - 1.0))

    def _level(self, name: str) -> float:
        level, at = self._buckets.get(name, (self._burst, 0.0))
        return min(self._burst, level + (self._clock() - at) * self._rate)

    def _missing_s(self, level: float) -> float:
        return 0.0 if level >= 1.0 else (1.0 - level) / self._rate

    def _store(self, name: str, level: float) -> None:
        self._buckets[name] = (level, self._clock())
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._max_buckets:
            self._buckets.popitem(last=False)
