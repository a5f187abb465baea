"""The time of day, as an argument.

Stages and senders ask a `Clock` for aware UTC; `run_worker` is handed one. Deadlines inside a process run on
trio's clock; a simulation makes both move together.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

import trio


class Clock(Protocol):
    def now(self) -> datetime:
        """The present, aware UTC, whole milliseconds (that is what the journal keeps)."""


def whole_milliseconds(at: datetime) -> datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return whole_milliseconds(datetime.now(UTC))


class TrioClock:
    """A date that moves with trio's clock, for simulation under an autojump clock.

    Args:
        start: aware UTC; the time of day at trio's time 0.
    """

    def __init__(self, start: datetime) -> None:
        self._start = start

    def now(self) -> datetime:
        return whole_milliseconds(self._start + timedelta(seconds=trio.current_time()))
