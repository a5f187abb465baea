"""Number of cards that one client may get wrong: a bounded table, in memory. Requests are counted by `web.buckets`.

`hsm.tokenizer.endpoint` asks before it works; an ApiError 429 comes out. Each process counts for itself.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from hsm.tokenizer.errors import too_many

_MAX_SUSPECTS = 10_000
WINDOW_S = 600.0


class RefusedCards:
    """Card testing: a client that sends one wrong number after the other is stopped for the rest of ten minutes.

    A number is remembered as a keyed digest, under a key that dies with the process. A number that is sent
    twice counts once: people correct and repeat, machines go on to the next.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._seen: OrderedDict[str, tuple[float, set[bytes]]] = OrderedDict()

    def check(self, address: str) -> None:
        """Raise ApiError 429 where that address has had its share of wrong numbers."""
        since, digests = self._seen.get(address, (0.0, set()))
        left_s = since + WINDOW_S - self._clock()
        if left_s <= 0:
            self._seen.pop(address, None)
        elif len(digests) >= self._limit:
            raise too_many("Too many different cards were refused. Try again later.", left_s)

    def count(self, address: str, number: str) -> None:
        """Remember a number that was refused."""
        since, digests = self._seen.pop(address, (self._clock(), set()))
        digests.add(hashlib.blake2b(number.encode(), key=self._key, digest_size=16).digest())
        self._seen[address] = (since, digests)
        if len(self._seen) > _MAX_SUSPECTS:
            self._seen.popitem(last=False)
