"""Limit of log lines a second by kind: kinds and times in, whether to write the line out.

Everybody who logs what a peer may cause asks a `LogRate`: `console.logging` for every line of every process,
`switch.links` before it makes a dump of bytes that are no message, `switch.events` for payments that are refused. Lines
that are left out are counted, and the next line of their kind says how many they were. Pure: every method takes the
time, on any clock that only goes forward.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

Kind = TypeVar("Kind", bound=Hashable)

MAX_KINDS = 1_000  # remembered; the one that was quiet for longest is forgotten


class Rate(NamedTuple):
    """Lines a second, and how many may come at once after a silence."""

    per_s: float
    burst: float


class _Bucket:
    __slots__ = ("filled_at", "left_out", "tokens")

    def __init__(self, tokens: float, now: float) -> None:
        self.tokens = tokens
        self.filled_at = now
        self.left_out = 0

    def take(self, rate: Rate, now: float) -> bool:
        self.tokens = min(rate.burst, self.tokens + max(0.0, now - self.filled_at) * rate.per_s)
        self.filled_at = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class LogRate(Generic[Kind]):
    """Token buckets, one a kind, and one for all kinds together.

    Args:
        rate: of each kind, where `admit` gets none.
        total: of all kinds together; None for no such limit.
        max_kinds: kinds remembered at once.
    """

    def __init__(self, rate: Rate, total: Rate | None = None, max_kinds: int = MAX_KINDS) -> None:
        self._rate = rate
        self._total_rate = total
        self._total = _Bucket(total.burst, 0.0) if total is not None else None
        self._max_kinds = max_kinds
        self._buckets: OrderedDict[Kind, _Bucket] = OrderedDict()
        self.forgotten = 0  # lines left out of kinds that are no longer remembered, until `left_out` is asked

    def admit(self, kind: Kind, now: float, rate: Rate | None = None) -> int | None:
        """Ask for one line.

        Args:
            kind: the key of similar lines, such as event and link.
            now: seconds.
            rate: of this kind, where it is another than that of all.

        Returns:
            None where the line is left out; else how many lines of its kind were left out since the last one.
        """
        rate = rate or self._rate
        bucket = self._buckets.get(kind)
        if bucket is None:
            bucket = self._added(kind, rate, now)
        else:
            self._buckets.move_to_end(kind)
        if not bucket.take(rate, now) or not self._room(now):
            bucket.left_out += 1
            return None
        left_out, bucket.left_out = bucket.left_out, 0
        return left_out

    def left_out(self) -> dict[Kind, int]:
        """Number of lines of each kind that were left out since its last line; each is reported once."""
        counts = {kind: bucket.left_out for kind, bucket in self._buckets.items() if bucket.left_out}
        for kind in counts:
            self._buckets[kind].left_out = 0
        return counts

    def _room(self, now: float) -> bool:
        return self._total is None or self._total_rate is None or self._total.take(self._total_rate, now)

    def _added(self, kind: Kind, rate: Rate, now: float) -> _Bucket:
        if len(self._buckets) >= self._max_kinds:
            self.forgotten += self._buckets.popitem(last=False)[1].left_out
        bucket = self._buckets[kind] = _Bucket(rate.burst, now)
        return bucket
