"""Lengths before values, as look-up tables: one access instead of parsing and range checks.

Called by `element_codec` and by the two source writers of the compiled codec. A length that the element does not allow
is a KeyError or IndexError there, or a None that nothing can join. A table has a thousand entries at most; longer
lengths are computed behind the same access: a table of a million entries would be a leak.

A value is measured in units: digits in BCD, bytes on the wire in every other encoding. The unit of the length on the
wire may differ (`Element.length_count`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import msgspec

from messages.charsets import latin, page_of, wire
from messages.dialect import Element

_TABLE = 1000  # entries of a table at most
_TABLES = 128  # different ones that are kept; a dialect has a dozen

T = TypeVar("T", str, bytes)
# Characters of a value → its length; None where no value may be that long.
Lengths = tuple[T | None, ...] | dict[int, T | None]


class Scale(msgspec.Struct, frozen=True):
    """The form of a length on the wire; hashable, so that elements with equal lengths share their tables.

    Args:
        encoding, size: of the length; bytes.
        smallest, largest, step: the units that the element allows.
        times, over: units × `times` / `over`, rounded up, is what the length says.
    """

    encoding: str
    size: int
    smallest: int
    largest: int
    step: int
    times: int
    over: int

    def said(self, units: int) -> int:
        """Units → the number that the length says."""
        return -(-units * self.times // self.over)

    @property
    def allowed(self) -> range:
        """All units that a length may say; numbers and tracks are never empty."""
        return range(self.smallest, self.largest + 1, self.step)

    @property
    def largest_said(self) -> int:
        """The greatest number that this many bytes of length can say."""
        if self.encoding == "binary":
            return int(256**self.size) - 1
        return int(10 ** (self.size * (2 if self.encoding == "bcd" else 1))) - 1


def prefix_size(element: Element) -> int:
    """Bytes that the length takes on the wire; 0 where the length is fixed."""
    kind = element.length_kind
    if not kind or element.length_size:
        return element.length_size if kind else 0
    if element.length_encoding == "bcd":
        return (kind + 1) // 2
    if element.length_encoding == "binary":
        return next(size for size in (1, 2, 3) if 10**kind <= 256**size)
    return kind


def counted_in_bytes(element: Element) -> bool:
    """Whether the length counts packed bytes, so that the number of digits follows from the pad."""
    return element.encoding == "bcd" and element.length_count == "bytes"


def scale(element: Element) -> Scale:
    """The lengths of an element of variable length."""
    smallest = 1 if element.kind in ("n", "z", "x+n") else 0
    largest, step = element.wire_units, 2 if element.encoding in ("hex", "ebcdic-hex") else 1
    if counted_in_bytes(element):
        smallest, largest, step = smallest * 2, largest + largest % 2, 2
    times, over = _RATIOS.get((element.encoding, element.length_count)) or _RATIOS.get(
        ("text", element.length_count), (1, 1)
    )
    made = Scale(element.length_encoding, prefix_size(element), smallest, largest, step, times, over)
    if made.said(largest) <= made.largest_said:
        return made
    can_say = made.largest_said * over // times
    return msgspec.structs.replace(made, largest=can_say - can_say % step)


# (encoding, what its length counts) → how many of them are in how many units, where it is not one in one
_RATIOS: dict[tuple[str, str], tuple[int, int]] = {
    ("bcd", "bytes"): (1, 2),
    ("bcd", "nibbles"): (1, 1),
    ("binary", "digits"): (2, 1),
    ("hex", "octets"): (1, 2),
    ("ebcdic-hex", "octets"): (1, 2),
    ("text", "nibbles"): (2, 1),
}


def characters(element: Element, units: int) -> int:
    """Units → characters of the value."""
    return units * 2 if element.encoding == "binary" else units


def prefix(scale: Scale, units: int) -> bytes:
    """A length on the wire."""
    said, size = scale.said(units), scale.size
    if scale.encoding == "binary":
        return said.to_bytes(size, "big")
    if scale.encoding == "bcd":
        return bytes.fromhex(f"{said:0{size * 2}d}")
    return wire(page_of(scale.encoding), f"{said:0{size}d}".encode("ascii"))


def said(scale: Scale, raw: bytes) -> int | None:
    """The number on the wire, allowed or not; None for an invalid one."""
    if scale.encoding == "binary":
        return int.from_bytes(raw, "big")
    text = raw.hex().encode("ascii") if scale.encoding == "bcd" else latin(page_of(scale.encoding), raw)
    return int(text) if text.isdigit() else None


class _Read(dict[int | bytes, int]):
    """Lengths that are too many for a table: the usual ones are in it, the others are computed."""

    def __init__(self, scale: Scale, usual: dict[int | bytes, int]) -> None:
        super().__init__(usual)
        self._scale = scale

    def __missing__(self, key: int | bytes) -> int:
        scale = self._scale
        raw = bytes((key,)) if isinstance(key, int) else key
        number = said(scale, raw) if len(raw) == scale.size else None
        if number is not None:
            units = number * scale.over // scale.times
            if units in scale.allowed and scale.said(units) == number:
                return units
        raise KeyError("length")


class _Written(dict[int, T | None]):
    """The same the other way: characters of a value → its length, in the form that `show` gives."""

    def __init__(self, scale: Scale, per_unit: int, show: Callable[[int], T]) -> None:
        super().__init__()
        self._scale, self._per_unit = scale, per_unit
        self._show: Callable[[int], T] = show
        self.update((count, self[count]) for count in range(min(scale.largest * per_unit + 1, _TABLE)))

    def __missing__(self, count: int) -> T | None:
        units, rest = divmod(count, self._per_unit)
        if units > self._scale.largest:
            raise IndexError("length")
        return None if rest or units not in self._scale.allowed else self._show(units)


@lru_cache(maxsize=_TABLES)
def decode_table(scale: Scale) -> dict[int | bytes, int]:
    """Prefix → units. A prefix of one byte is an int: that is what indexing bytes gives."""
    table: dict[int | bytes, int] = {}
    for units in scale.allowed[:_TABLE]:
        raw = prefix(scale, units)
        table[raw[0] if len(raw) == 1 else raw] = units
    return table if len(scale.allowed) <= _TABLE else _Read(scale, table)


@lru_cache(maxsize=_TABLES)
def encode_table(scale: Scale, per_unit: int) -> Lengths[bytes]:
    """Characters of a value → its prefix; None where that many are not allowed, IndexError where they are too many.

    Args:
        scale: of the element.
        per_unit: characters of the value that make one unit.
    """
    return _table(scale, per_unit, lambda units: prefix(scale, units))


@lru_cache(maxsize=_TABLES)
def shown_table(scale: Scale, per_unit: int, view: str, left_pad: str) -> Lengths[str]:
    """The same as text to be joined with what becomes bytes together with it.

    Args:
        scale, per_unit: as for `encode_table`.
        view: "hex" for hexadecimal digits of the bytes, else the code page that the text will be in, "" for ASCII.
        left_pad: goes behind the length of an odd number of digits; "" for none.
    """

    def show(units: int) -> str:
        raw = prefix(scale, units)
        if view == "hex":
            return raw.hex() + (left_pad if units % 2 else "")
        return latin(view, raw).decode("latin-1")

    return _table(scale, per_unit, show)


def _table(scale: Scale, per_unit: int, show: Callable[[int], T]) -> Lengths[T]:
    if len(scale.allowed) > _TABLE:
        return _Written(scale, per_unit, show)
    units = scale.allowed
    shown: list[T | None] = [None] * (scale.largest * per_unit + 1)
    for unit in units:
        shown[unit * per_unit] = show(unit)
    return tuple(shown)
