"""Length prefixes as look-up tables: one dictionary or tuple access instead of parsing and range checks.

Called by the two source writers of the compiled codec; the tables are what generated code looks into, so a
length that the element does not allow is a KeyError or IndexError there, or a None that nothing can join.
"""

from __future__ import annotations

from functools import lru_cache

from messages.dialect import Element


def prefix_size(element: Element) -> int:
    """Bytes that the length takes on the wire; 0 where the length is fixed."""
    return (element.length_kind + 1) // 2 if element.length_encoding == "bcd" else element.length_kind


def prefix(element: Element, units: int) -> bytes:
    """A length as it stands on the wire; `units` as the wire counts them."""
    size = prefix_size(element)
    if element.length_encoding == "bcd":
        return bytes.fromhex(f"{units:0{size * 2}d}")
    return f"{units:0{size}d}".encode("ascii")


def characters(element: Element, units: int) -> int:
    """Wire units → characters of the value."""
    return units * 2 if element.encoding == "binary" else units


def allowed_units(element: Element) -> range:
    """Every length that the element may have, in wire units; numbers and tracks are never empty."""
    smallest = 1 if element.kind in ("n", "z", "x+n") else 0
    step = 2 if element.encoding == "hex" else 1
    return range(smallest, element.wire_units + 1, step)


@lru_cache(maxsize=512)
def decode_table(element: Element) -> dict[int | bytes, int]:
    """Prefix → wire units. A prefix of one byte is an int: that is what indexing bytes gives."""
    table: dict[int | bytes, int] = {}
    for units in allowed_units(element):
        raw = prefix(element, units)
        table[raw[0] if len(raw) == 1 else raw] = units
    return table


@lru_cache(maxsize=512)
def encode_table(element: Element, hexadecimal: bool) -> tuple[str | None, ...]:
    """Characters of a value → its prefix, as text to be joined; None where that many are not allowed.

    Args:
        element: of variable length.
        hexadecimal: the prefix goes before hexadecimal digits that become bytes together with it, and a
            left pad belongs to it; else each character becomes one byte.
    """
    table: list[str | None] = [None] * (element.characters + 1)
    for units in allowed_units(element):
        raw = prefix(element, units)
        shown = raw.hex() if hexadecimal else raw.decode("latin-1")
        if units % 2 and element.pad.startswith("left "):
            shown += element.pad[-1]
        table[characters(element, units)] = shown
    return tuple(table)
