"""Shares of the webhooks on their way at once, so that slow receivers of one merchant delay no other merchant's.

Pure: waiting deliveries in, those to send next out. `gateway.delivery` asks before it claims, and says when one ends.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Deliveries on their way at once, in one process: all, of an account, to an endpoint, to a host."""

    total: int
    account: int
    endpoint: int
    host: int


class Waiting(msgspec.Struct, frozen=True):
    """A delivery that is due. `host` is the name in the endpoint's URL, in lower case."""

    id: int
    account: str
    endpoint: str
    host: str


class Shares:
    """Webhooks on their way, counted."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._total = 0
        self._accounts: Counter[str] = Counter()
        self._endpoints: Counter[str] = Counter()
        self._hosts: Counter[str] = Counter()

    @property
    def room(self) -> int:
        return self._limits.total - self._total

    def full_endpoints(self) -> list[str]:
        return [name for name, count in self._endpoints.items() if count >= self._limits.endpoint]

    def full_accounts(self) -> list[str]:
        return [name for name, count in self._accounts.items() if count >= self._limits.account]

    def pick(self, due: Sequence[Waiting]) -> list[Waiting]:
        """Take as many as there is room for: in turn an account each, the one with the fewest on their way first.

        Args:
            due: oldest first. Each that is picked counts until `release`.
        """
        queues: dict[str, deque[Waiting]] = {}
        for waiting in due:
            queues.setdefault(waiting.account, deque()).append(waiting)
        picked: list[Waiting] = []
        while queues and self.room > 0:
            account = min(queues, key=lambda name: self._accounts[name])
            queue = queues[account]
            found = None
            while queue and found is None and self._accounts[account] < self._limits.account:
                waiting = queue.popleft()
                if self._has_room(waiting):
                    found = waiting
            if found is None:
                del queues[account]
                continue
            self._count(found, 1)
            picked.append(found)
        return picked

    def release(self, waiting: Waiting) -> None:
        """It is over."""
        self._count(waiting, -1)

    def _has_room(self, waiting: Waiting) -> bool:
        return (
            self._endpoints[waiting.endpoint] < self._limits.endpoint and self._hosts[waiting.host] < self._limits.host
        )

    def _count(self, waiting: Waiting, change: int) -> None:
        self._total += change
        for counter, name in (
            (self._accounts, waiting.account),
            (self._endpoints, waiting.endpoint),
            (self._hosts, waiting.host),
        ):
            counter[name] += change
            if not counter[name]:
                del counter[name]
