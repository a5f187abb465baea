"""A circuit breaker: results of requests to a link go in, whether the next one may try it comes out.

`switch.routing.choice` keeps one for each issuer link of a worker. Pure: every method takes the time.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from switch.routing.settings import BreakerSettings

SLICES = 10  # of the window: old results leave it a slice at a time


class Circuit(StrEnum):
    CLOSED = "closed"  # requests pass
    OPEN = "open"  # none does
    HALF_OPEN = "half_open"  # a few do, to see whether the link is well again


class Happening(StrEnum):
    TOO_MANY_FAILURES = "too_many_failures"
    RESTED = "rested"  # it was open for `open_s`
    PROBES_PASSED = "probes_passed"
    PROBE_FAILED = "probe_failed"


TRANSITIONS: dict[tuple[Circuit, Happening], Circuit] = {
    (Circuit.CLOSED, Happening.TOO_MANY_FAILURES): Circuit.OPEN,
    (Circuit.OPEN, Happening.RESTED): Circuit.HALF_OPEN,
    (Circuit.HALF_OPEN, Happening.PROBES_PASSED): Circuit.CLOSED,
    (Circuit.HALF_OPEN, Happening.PROBE_FAILED): Circuit.OPEN,
}


class Breaker:
    """The breaker of one link; times are seconds on any clock that only goes forward.

    Args:
        before: the breaker in whose place this one comes; probes of its trials are not taken for those of ours.
    """

    def __init__(self, settings: BreakerSettings, before: Breaker | None = None) -> None:
        self.settings = settings
        self.state = Circuit.CLOSED
        self.changed_at: float | None = None
        self.in_a_row = 0
        self._passed = 0  # probes that went well
        self._probes: deque[float] = deque()  # until when each probe under way counts
        # Number of times that it has become half-open: a probe counts for its own time only.
        self._trial: int = 0 if before is None else before._trial
        self._slices: deque[list[float]] = deque()  # [start, ended, failed], at most SLICES + 1
        self._ended = self._failed = 0

    def admits(self, now: float) -> bool:
        """Whether a request may try the link. An open one becomes half-open by being asked once it has rested."""
        if self.state is Circuit.CLOSED:
            return True
        if self.state is Circuit.OPEN:
            if self.changed_at is not None and now < self.changed_at + self.settings.open_s:
                return False
            self._happened(Happening.RESTED, now)
        return self._free(now) > 0

    def begin(self, until: float) -> int:
        """Take the place of a probe where the link is half-open; its number, for when it ends; 0 where none was taken.

        Args:
            until: when the place is free again although nobody said how the request ended.
        """
        if self.state is not Circuit.HALF_OPEN:
            return 0
        self._probes.append(until)
        return self._trial

    def withdrawn(self, probe: int) -> None:
        """Nothing was sent after all."""
        if probe and probe == self._trial and self._probes:
            self._probes.popleft()

    def ended(self, now: float, *, well: bool, probe: int) -> Circuit | None:
        """Record the result of a sent request; returns the new state where that has changed it."""
        before = self.state
        self.withdrawn(probe)
        if self.state is Circuit.CLOSED:
            self._count(now, well)
            if not well and self._too_many():
                self._happened(Happening.TOO_MANY_FAILURES, now)
        elif self.state is Circuit.HALF_OPEN and probe == self._trial:
            self._passed += well
            if not well:
                self._happened(Happening.PROBE_FAILED, now)
            elif self._passed >= self.settings.probes:
                self._happened(Happening.PROBES_PASSED, now)
        return self.state if self.state is not before else None

    def failing(self, now: float) -> tuple[int, int]:
        """Requests that failed and requests that ended, within the window."""
        self._forget(now)
        return self._failed, self._ended

    def _free(self, now: float) -> int:
        while self._probes and self._probes[0] <= now:
            self._probes.popleft()
        return self.settings.probes - self._passed - len(self._probes)

    def _count(self, now: float, well: bool) -> None:
        self.in_a_row = 0 if well else self.in_a_row + 1
        slices = self._slices
        if not slices or now >= slices[-1][0] + self.settings.window_s / SLICES:
            self._forget(now)
            slices.append([now, 0, 0])
        slices[-1][1] += 1
        slices[-1][2] += not well
        self._ended += 1
        self._failed += not well

    def _forget(self, now: float) -> None:
        while self._slices and self._slices[0][0] <= now - self.settings.window_s:
            _, ended, failed = self._slices.popleft()
            self._ended -= int(ended)
            self._failed -= int(failed)

    def _too_many(self) -> bool:
        settings = self.settings
        if settings.failures and self.in_a_row >= settings.failures:
            return True
        return bool(settings.ratio) and self._ended >= settings.minimum and self._failed >= settings.ratio * self._ended

    def _happened(self, happening: Happening, now: float) -> None:
        self.state = TRANSITIONS[self.state, happening]
        self.changed_at = now
        self._trial += self.state is Circuit.HALF_OPEN
        self.in_a_row = self._passed = self._ended = self._failed = 0
        self._slices.clear()
        self._probes.clear()
