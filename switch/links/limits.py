"""Limits of a link's traffic, at once and a second: places, a queue for them, a token bucket.

One `Gate` a link and worker. Acquirer ports ask it for each request that comes, and their sessions read nothing while
it is full, so that what is too much waits with the peer. Sessions of issuer lines ask it for each request that goes,
and refuse what is too much: another link or stand-in may do better. Our own network management and advices pass by: a
link that is full still echoes.
"""

from __future__ import annotations

from collections import deque

import trio

from switch.errors import LinkUnavailable
from switch.wake import Future

SOON_S = 0.001  # less may be lost in the rounding of the clock
RATE_SEEN_S = 1.0  # after so long at most, a reader that waits for its turn sees another rate
IN_FLIGHT, RATE, WAITED = "in_flight", "rate", "queue"  # why a request was not let through


Place = Future[None]  # in a queue


class OverLimit(LinkUnavailable):
    """The request was not let through; `limit` is a constant, for the metric."""

    def __init__(self, limit: str, reason: str) -> None:
        super().__init__(reason)
        self.limit = limit


class Gate:
    """The limits of one link in one worker.

    Args:
        max_in_flight: requests let through that have not left again.
        queue: requests that may wait for a place.
        queue_s: for so long.
        rate: requests a second, as many at once after a second of silence; 0 for no limit.
    """

    def __init__(self, max_in_flight: int, queue: int = 0, queue_s: float = 0.5, rate: float = 0.0) -> None:
        self.in_flight = 0
        self._max_in_flight = max_in_flight
        self._max_waiting = queue
        self._queue_s = queue_s
        self._rate = rate
        self._burst = max(1.0, rate)
        self._tokens = self._burst
        self._filled_at: float | None = None
        self._waiting: deque[Place] = deque()
        self._readers: deque[Place] = deque()

    def limit(self, queue: int, queue_s: float, rate: float) -> None:
        """Replace the limits that hold while requests come and go; requests that were let in or that wait stay.

        Args:
            queue, queue_s, rate: as at the start. The tokens of a lower rate are its own; one that was without a rate
                begins with a whole burst.
        """
        self._max_waiting, self._queue_s = queue, queue_s
        if rate != self._rate:
            self._burst = max(1.0, rate)
            self._tokens = min(self._tokens, self._burst) if self._rate else self._burst
            self._filled_at = self._filled_at if self._rate else None
            self._rate = rate
        self._call_reader()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether the next request would be refused: no place, and no place to wait for one, or the rate is used up."""
        if self.in_flight < self._max_in_flight and not self._rate:  # nearly always
            return False
        return not (self._has_place() and self._has_token())

    def ask(self) -> Place | None:
        """Take a place; None where there is one at once, else what `wait` and `give_up` take.

        Raises:
            OverLimit: the request is not let through.
        """
        if self._rate and not self._has_token():
            raise OverLimit(RATE, f"more than {self._rate:g} requests a second")
        free = self.in_flight < self._max_in_flight and not self._waiting
        if not free and len(self._waiting) >= self._max_waiting:
            raise OverLimit(IN_FLIGHT, f"{self._max_in_flight} requests are in flight")
        if self._rate:
            self._tokens -= 1.0
        if free:
            self.in_flight += 1
            return None
        place: Place = Future()
        self._waiting.append(place)
        return place

    async def enter(self, expires_at: float) -> None:
        """Take a place, and wait for one where that is allowed.

        Args:
            expires_at: on trio's clock; a place that comes later is of no use.

        Raises:
            OverLimit: the request is not let through.
        """
        place = self.ask()
        if place is not None:
            await self.wait(place, expires_at)

    async def wait(self, place: Place, expires_at: float) -> None:
        """The rest of `enter`, where `ask` gave a place in the queue."""
        taken = False
        try:
            with trio.move_on_at(min(expires_at, trio.current_time() + self._queue_s)):
                await place.wait()
                taken = True
                return
        finally:
            if not place.done:
                self.give_up(place)
            elif not taken:
                self.leave()  # it was given in the moment in which the waiting was cancelled
        raise OverLimit(WAITED, "no place became free in time")

    def give_up(self, place: Place) -> None:
        """Nobody waits in the queue there any more."""
        self._waiting.remove(place)
        self._call_reader()

    def leave(self) -> None:
        """Give a place back, to the request that waits longest."""
        if self._waiting:
            self._waiting.popleft().resolve(None)
        else:
            self.in_flight -= 1
        if self._readers:
            self._call_reader()

    async def room(self) -> None:
        """Return once the next request would not be refused; the one that waits longest is first."""
        while self.full:
            if not self._has_token():
                await trio.sleep(min(RATE_SEEN_S, max(SOON_S, (1.0 - self._tokens) / self._rate)))
                continue
            turn: Place = Future()
            self._readers.append(turn)
            called = False
            try:
                await turn.wait()
                called = True
            finally:
                if not turn.done:
                    self._readers.remove(turn)
                elif not called:
                    self._call_reader()  # its turn came in the moment in which it was cancelled
        self._call_reader()  # the next frame may be no request, and take no place

    def _call_reader(self) -> None:
        if self._readers and self._has_place():
            self._readers.popleft().resolve(None)

    def _has_place(self) -> bool:
        return self.in_flight < self._max_in_flight or len(self._waiting) < self._max_waiting

    def _has_token(self) -> bool:
        if not self._rate:
            return True
        now = trio.current_time()
        if self._filled_at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return self._tokens >= 1.0
