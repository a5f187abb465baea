"""Names of things: time-ordered ids in Stripe's form (`pi_…`), made here, sorted by the database as bytes.

Code that inserts a row calls `new_id`; ids of one process never run backwards, so lists need no other order.
"""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # in ASCII order
_TIME_CHARS = 8  # 62^8 ms: until the year 8888
_COUNT_CHARS = 2
_RANDOM_CHARS = 14


class _Ticks:
    """Milliseconds with a count within them; the clock may stop or step back, the ticks do not."""

    def __init__(self) -> None:
        self.last = 0

    def next(self) -> int:
        self.last = max(self.last + 1, int(time.time() * 1000) * 62**_COUNT_CHARS)
        return self.last


_ticks = _Ticks()


def new_id(prefix: str) -> str:
    """An id such as `pi_` + 24 characters: 10 of time and order, 14 random (83 bits).

    Args:
        prefix: without the underscore, e.g. "pi".
    """
    return f"{prefix}_{_base62(_ticks.next(), _TIME_CHARS + _COUNT_CHARS)}{random_chars(_RANDOM_CHARS)}"


def random_chars(count: int) -> str:
    """`count` random characters of [0-9A-Za-z], 5.95 bits each, from the system's generator."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
