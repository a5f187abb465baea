"""The head of a message: type and bitmaps, bytes in, numbers out, and back; the first step of every decode path.

pyiso8583 leaves room here (blanks inside a hexadecimal bitmap, letters in the type); this module does not.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from messages.charsets import TO_LATIN, latin, page_of, wire
from messages.dialect import Dialect
from messages.errors import DecodeError

SECONDARY, TERTIARY = 1, 65  # the elements that announce another bitmap
_BITS = 64  # of a bitmap
_HEX = "0123456789ABCDEF"
_HIGH = frozenset(b"89ABCDEFabcdef")  # hexadecimal digits whose highest bit is set

# place of a digit in a bitmap → hexadecimal digit → its elements
_NIBBLES: tuple[dict[str, tuple[int, ...]], ...] = tuple(
    {
        digit: tuple(4 * place + bit + 1 for bit in range(4) if int(digit, 16) & 8 >> bit)
        for digit in (*_HEX, *_HEX[10:].lower())
    }
    for place in range(3 * _BITS // 4)
)


class Header(msgspec.Struct, frozen=True):
    """The bytes before the first element.

    Args:
        numbers: ascending, without the bitmaps of the header; a bitmap among the elements is one of them.
        end: where the first element starts, bytes.
    """

    mti: str
    numbers: tuple[int, ...]
    end: int


def mti_size(dialect: Dialect) -> int:
    """Bytes that the type takes."""
    return 2 if dialect.mti_encoding == "bcd" else 4


def bitmap_size(dialect: Dialect) -> int:
    """Bytes that one bitmap takes."""
    return 8 if dialect.bitmap_encoding == "binary" else 16


def announces_another(dialect: Dialect) -> tuple[bool, ...]:
    """First byte of a bitmap → whether its first bit is set."""
    if dialect.bitmap_encoding == "binary":
        return tuple(byte > 0x7F for byte in range(256))
    page = page_of(dialect.bitmap_encoding)
    return tuple((TO_LATIN[page][byte] if page else byte) in _HIGH for byte in range(256))


def read_header(dialect: Dialect, data: bytes) -> Header:
    """Reads type and bitmaps.

    Raises:
        DecodeError: path "MTI" or "bitmap": too short, no digits, or an element that the dialect lacks.
    """
    at = mti_size(dialect)
    raw = data[:at]
    mti = raw.hex() if dialect.mti_encoding == "bcd" else latin(page_of(dialect.mti_encoding), raw).decode("latin-1")
    if len(mti) != 4 or not (mti.isascii() and mti.isdigit()):
        raise DecodeError("MTI", 0, "expected 4 digits")
    size = bitmap_size(dialect)
    numbers = read_bitmap(dialect, data, at, 0)
    end = at + size
    if dialect.secondary == "always":
        numbers += read_bitmap(dialect, data, end, 1)
        end += size
    elif numbers and numbers[0] == SECONDARY:
        second = read_bitmap(dialect, data, end, 1)
        end += size
        if dialect.tertiary == "contiguous" and second and second[0] == TERTIARY:
            second = second[1:] + read_bitmap(dialect, data, end, 2)
            end += size
        numbers[:1] = ()
        numbers += second
    known(dialect, numbers, at)
    return Header(mti, tuple(numbers), end)


def known(dialect: Dialect, numbers: Iterable[int], at: int) -> None:
    """Refuses numbers that the dialect does not have; `at` is the offset of the bitmap."""
    elements, inside = dialect.elements, dialect.tertiary == "element"
    for number in numbers:
        if number not in elements and not (inside and number == TERTIARY):
            raise DecodeError("bitmap", at, f"announces DE {number}, which {dialect.name} does not have")


def read_bitmap(dialect: Dialect, data: bytes, at: int, which: int) -> list[int]:
    """The numbers of one bitmap, ascending.

    Args:
        at: where it starts.
        which: 0 for the primary, 1 for the secondary, 2 for the tertiary one.
    """
    size = bitmap_size(dialect)
    raw = data[at : at + size]
    if len(raw) != size:
        raise DecodeError("bitmap", at, f"expected {size} bytes, got {len(raw)}")
    digits = raw.hex() if size == 8 else latin(page_of(dialect.bitmap_encoding), raw).decode("latin-1")
    numbers: list[int] = []
    try:
        for place, digit in enumerate(digits, _BITS // 4 * which):
            if digit != "0":
                numbers += _NIBBLES[place][digit]
    except KeyError:
        raise DecodeError("bitmap", at, "expected 16 hexadecimal digits") from None
    return numbers


def bitmap_of(numbers: Iterable[int]) -> str:
    """Numbers (2 to 192) → the bitmaps they need, 16, 32 or 48 upper-case hexadecimal digits."""
    bits = 0
    for number in numbers:
        bits |= 1 << (3 * _BITS - number)
    if bits & ((1 << _BITS) - 1):
        return f"{bits | 1 << (3 * _BITS - SECONDARY) | 1 << (3 * _BITS - TERTIARY):048X}"
    bits >>= _BITS
    if bits & ((1 << _BITS) - 1):
        return f"{bits | 1 << (2 * _BITS - SECONDARY):032X}"
    return f"{bits >> _BITS:016X}"


def head_bitmaps(dialect: Dialect, numbers: Iterable[int]) -> tuple[str, str]:
    """The bitmaps of a message in hexadecimal: those at its head, and the one that is DE 65, "" where there is none."""
    if dialect.secondary == "always":
        return f"{sum(1 << (2 * _BITS - number) for number in numbers):032X}", ""
    digits = bitmap_of(numbers)
    return (digits[:32], digits[32:]) if dialect.tertiary == "element" else (digits, "")


def bitmap_bytes(dialect: Dialect, digits: str) -> bytes:
    """Bitmaps in hexadecimal → as they are on the wire."""
    if dialect.bitmap_encoding == "binary":
        return bytes.fromhex(digits)
    return wire(page_of(dialect.bitmap_encoding), digits.encode("ascii"))


def mti_bytes(dialect: Dialect, mti: str) -> bytes:
    """A type of four digits → as it is on the wire."""
    if dialect.mti_encoding == "bcd":
        return bytes.fromhex(mti)
    return wire(page_of(dialect.mti_encoding), mti.encode("ascii"))
