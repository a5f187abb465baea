"""Requests of ours that wait for the peer's answer, by pairing key.

A session opens a slot when it sends a request and the slot ends by the answer, by its deadline or with the
connection. One sweeping task a session watches all deadlines: a timer for each request would cost more than the
request.
"""

from __future__ import annotations

import heapq
from typing import Any

import trio

from messages.message import Message
from switch.errors import ExchangeLost, LinkUnavailable
from switch.wake import Future, Signal

Key = tuple[Any, ...]


class Pending:
    """The table of one session.

    Args:
        limit: the most requests that may wait at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._slots: dict[Key, tuple[Future[Message], Message | None]] = {}
        self._deadlines: list[tuple[float, int, Key, Future[Message]]] = []
        self._serial = 0
        self._earlier = Signal()

    def __len__(self) -> int:
        return len(self._slots)

    def open(self, key: Key, expires_at: float, request: Message | None = None) -> Future[Message]:
        """A slot for a request that is about to leave.

        Args:
            key: `messages.exchange.pairing_key` of the request.
            expires_at: on trio's clock; the slot fails with ExchangeLost then.
            request: the values of `request`.

        Raises:
            LinkUnavailable: the table is full, or a request with the same key waits already.
        """
        if len(self._slots) >= self._limit:
            raise LinkUnavailable("too many requests wait for this link")
        if key in self._slots:
            raise LinkUnavailable("a request with the same key waits already")
        future: Future[Message] = Future()
        self._slots[key] = (future, request)
        self._serial += 1
        heapq.heappush(self._deadlines, (expires_at, self._serial, key, future))
        if self._deadlines[0][3] is future:
            self._earlier.set()
        if len(self._deadlines) > 4 * self._limit:
            self._deadlines = [entry for entry in self._deadlines if not entry[3].done]
            heapq.heapify(self._deadlines)
        return future

    def answer(self, key: Key, message: Message) -> bool:
        """Hand an answer to whom it belongs; False where nobody waits (any more)."""
        slot = self._slots.pop(key, None)
        if slot is None:
            return False
        slot[0].resolve(message)
        return True

    def request(self, key: Key) -> Message | None:
        """The request that waits under a key; None where there is none."""
        slot = self._slots.get(key)
        return slot[1] if slot is not None else None

    def forget(self, key: Key) -> None:
        """Nobody waits for this answer any more."""
        slot = self._slots.pop(key, None)
        if slot is not None:
            slot[0].fail(ExchangeLost("given up"))

    def fail_all(self, reason: str) -> None:
        """End all slots: the connection is gone."""
        slots, self._slots = self._slots, {}
        self._deadlines.clear()
        for future, _ in slots.values():
            future.fail(ExchangeLost(reason))

    async def sweep(self) -> None:
        """Fail slots at their deadlines, until cancelled."""
        while True:
            if not self._deadlines:
                await self._earlier.wait()
                continue
            with trio.move_on_at(self._deadlines[0][0]):
                await self._earlier.wait()
                continue
            now = trio.current_time()
            while self._deadlines and self._deadlines[0][0] <= now:
                expires_at, _, key, future = heapq.heappop(self._deadlines)
                if not future.done:
                    del self._slots[key]
                    future.fail(ExchangeLost("no answer in time", now - expires_at))
