"""Numbers below which nothing is left to do, so that looking for what is left does not read the whole journal.

`ledger.writer` keeps one for undecided intents and one for each link's advices. They are stored now and then,
insert-only, so that a new process starts near the end; a lost or old one costs time, never a row.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

LOAD = "SELECT COALESCE(max(up_to), 0) FROM ledger.floors WHERE name = $1"
STORE = "INSERT INTO ledger.floors (name, up_to) VALUES ($1, $2) ON CONFLICT DO NOTHING"
STORE_EVERY = 10_000


class Floor:
    """One floor.

    Args:
        name: under which it is stored.
        settle_s: time that a transaction may take to show a number below the greatest one seen: a number counts after
            this time only. 0 where numbers become visible in their order.
    """

    def __init__(self, name: str, settle_s: float) -> None:
        self._name = name
        self._settle_s = settle_s
        self._seen: deque[tuple[float, int]] = deque(maxlen=10_000)
        self._value: int | None = None
        self._stored = 0

    async def value(self, connection: Any) -> int:
        """Nothing is left to do up to this number."""
        if self._value is None:
            self._value = self._stored = await connection.fetchval(LOAD, self._name)
        return self._value

    async def saw(self, connection: Any, number: int) -> None:
        """No visible row up to `number` has work left."""
        now = time.monotonic()
        self._seen.append((now, number))
        while self._seen and self._seen[0][0] <= now - self._settle_s:
            # Rows under way then are visible by now: the smaller of both counts.
            self._value = max(self._value or 0, min(self._seen.popleft()[1], number))
        if self._value is not None and self._value >= self._stored + STORE_EVERY:
            await connection.execute(STORE, self._name, self._value)
            self._stored = self._value
