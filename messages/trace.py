"""Trace ids that follow a payment through all processes: random bits in, lower-case hex out that no mask will touch.

The first process of a payment draws one (gateway, switch, tokenizer, simulated acquirers); a process that receives one
calls `is_trace_id` before it keeps or writes it. The masking of text treats long runs of digits as a card number, and 3
of 100 random ids of 32 hex digits have one, so an id with such a run is no id.
"""

from __future__ import annotations

import re
from collections.abc import Callable

DIGITS = 32  # of DE 63 where the switch or a simulator makes it: 128 bits
_MAX_DRAWS = 1_000  # 3 of 100 fail, so a source that fails so often is broken
_SHAPE = re.compile(r"[0-9a-f]{8,32}")
# Runs that could be a card number of 12 digits or more: plain, or (f4f2…) EBCDIC in hex. ASCII in hex is all digits.
_LIKE_A_CARD = re.compile(r"[0-9]{12}|(?:f[0-9]){12}")


def trace_id(draw: Callable[[int], int], digits: int = DIGITS) -> str:
    """A new trace id.

    Args:
        draw: gives that many random bits as an int >= 0, like `random.Random.getrandbits`; asked again until it fits.
        digits: its length, 8-32.

    Returns:
        Lower-case hex without a run of 12 or more decimal digits.

    Source: the length of 32 is that of W3C Trace Context, section 3.2.2.3; the rest is ours.
    """
    assert 8 <= digits <= DIGITS, digits
    for _ in range(_MAX_DRAWS):
        drawn = f"{draw(digits * 4):0{digits}x}"
        if is_trace_id(drawn):
            return drawn
    raise AssertionError("the source of trace ids gives nothing but digits")


def is_trace_id(text: str) -> bool:
    """Whether a text is a trace id (8-32 lower-case hex digits) that cannot contain a card number."""
    return _SHAPE.fullmatch(text) is not None and _LIKE_A_CARD.search(text) is None
