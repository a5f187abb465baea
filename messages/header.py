"""The head of a message: type and bitmaps, bytes in, numbers out; the first step of every decode path.

pyiso8583 leaves room here (blanks inside a hexadecimal bitmap, letters in the type); this module does not.
"""

from __future__ import annotations

import re

import msgspec

from messages.dialect import Dialect
from messages.errors import DecodeError

_HEX = re.compile(rb"[0-9A-Fa-f]{16}")


class Header(msgspec.Struct, frozen=True):
    """What stands before the first element; `numbers` ascending, without the bitmaps; `end` in bytes."""

    mti: str
    numbers: tuple[int, ...]
    end: int


def mti_size(dialect: Dialect) -> int:
    """Bytes that the type takes."""
    return 2 if dialect.mti_encoding == "bcd" else 4


def bitmap_size(dialect: Dialect) -> int:
    """Bytes that one bitmap takes."""
    return 8 if dialect.bitmap_encoding == "binary" else 16


def read_header(dialect: Dialect, data: bytes) -> Header:
    """Reads type and bitmaps.

    Raises:
        DecodeError: path "MTI" or "bitmap": too short, no digits, or an element that the dialect lacks.
    """
    at = mti_size(dialect)
    raw = data[:at]
    mti = raw.hex() if dialect.mti_encoding == "bcd" else raw.decode("latin-1")
    if len(mti) != 4 or not (mti.isascii() and mti.isdigit()):
        raise DecodeError("MTI", 0, "expected 4 digits")
    bits = read_bitmap(dialect, data, at)
    at += bitmap_size(dialect)
    numbers = numbers_of(bits, 0)
    if bits >> 63:
        numbers = numbers[1:] + numbers_of(read_bitmap(dialect, data, at), 64)
        at += bitmap_size(dialect)
    for number in numbers:
        if number not in dialect.elements:
            raise DecodeError("bitmap", mti_size(dialect), f"announces DE {number}, which {dialect.name} does not have")
    return Header(mti, numbers, at)


def read_bitmap(dialect: Dialect, data: bytes, at: int) -> int:
    """One bitmap as a 64-bit integer, DE 1 the highest bit."""
    size = bitmap_size(dialect)
    raw = data[at : at + size]
    if len(raw) != size:
        raise DecodeError("bitmap", at, f"expected {size} bytes, got {len(raw)}")
    if size == 8:
        return int.from_bytes(raw, "big")
    if _HEX.fullmatch(raw) is None:
        raise DecodeError("bitmap", at, "expected 16 hexadecimal digits")
    return int(raw, 16)


def numbers_of(bits: int, offset: int) -> tuple[int, ...]:
    """The element numbers of one bitmap; `offset` is 0 for the primary, 64 for the secondary."""
    numbers = []
    while bits:
        highest = bits.bit_length()
        numbers.append(offset + 65 - highest)
        bits ^= 1 << (highest - 1)
    return tuple(numbers)


def bitmap_of(numbers: tuple[int, ...]) -> str:
    """Numbers (2 to 128) → the bitmaps they need, 16 or 32 upper-case hexadecimal digits."""
    bits = sum(1 << (128 - number) for number in numbers)
    if bits & ((1 << 64) - 1):
        return f"{bits | 1 << 127:032X}"
    return f"{bits >> 64:016X}"
