"""DE 55 of an issuer's answer, which is stored with the outcome: it must hold no card data.

Upper-case hexadecimal goes in; whether it may be kept comes out. Called by `switch.stages.forward`.

Source: EMV Book 3, annex B (tags and lengths), annex A (what the tags are).
"""

from __future__ import annotations

# Track 1 and 2 and what networks copy of them, the card number, the cardholder's name, dates, discretionary data.
CARD_TAGS = frozenset({"56", "57", "5A", "5F20", "5F24", "5F25", "9F0B", "9F1F", "9F20", "9F6B", "99"})
CONSTRUCTED = 0x20  # bit of a tag's first byte: there are tags inside
SUBSEQUENT = 0x1F  # bits of a tag's first byte: the tag goes on
MORE = 0x80  # bit of the bytes behind: it goes on still
MAX_DEPTH = 4


def may_be_kept(icc_data: str) -> bool:
    """Whether DE 55 reads as tags and values, none of which is card data."""
    try:
        return _is_clean(bytes.fromhex(icc_data), MAX_DEPTH)
    except ValueError:
        return False


def _is_clean(data: bytes, depth: int) -> bool:
    """Raises ValueError where it does not read as tags and values."""
    at = 0
    while at < len(data):
        if data[at] == 0:  # padding between
            at += 1
            continue
        start = at
        at = _tag_end(data, at)
        tag = data[start:at].hex().upper()
        size, at = _length(data, at)
        value = data[at : at + size]
        if tag in CARD_TAGS or len(value) != size:
            return False
        if data[start] & CONSTRUCTED and (depth == 0 or not _is_clean(value, depth - 1)):
            return False
        at += size
    return True


def _tag_end(data: bytes, at: int) -> int:
    goes_on = data[at] & SUBSEQUENT == SUBSEQUENT
    at += 1
    while goes_on:
        if at >= len(data):
            raise ValueError("a tag is cut off")
        goes_on = bool(data[at] & MORE)
        at += 1
    return at


def _length(data: bytes, at: int) -> tuple[int, int]:
    """The length, and where the value begins."""
    if at >= len(data):
        raise ValueError("a length is missing")
    first = data[at]
    if first < MORE:
        return first, at + 1
    size = first & ~MORE
    if not 1 <= size <= 3 or at + 1 + size > len(data):
        raise ValueError("a length is wrong")
    return int.from_bytes(data[at + 1 : at + 1 + size]), at + 1 + size
