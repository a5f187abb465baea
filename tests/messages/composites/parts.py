"""Elements with parts inside, as a dialect would have them, for the tests beside this module."""

from __future__ import annotations

import re

from messages.composites.spec import Composite
from messages.dialect import Element

_FORMAT = re.compile(r"(x\+n|ans|an|a|n|z|b)(?: |(\.+))(\d+)")


def element(notation: str, number: int = 1, parts: Composite | None = None, encoding: str = "ascii") -> Element:
    """An element in the standard's notation, everything in one encoding: "n 6", "ans..40", "b 64"."""
    found = _FORMAT.fullmatch(notation)
    assert found, notation
    kind, dots, size = found[1], len(found[2] or ""), int(found[3])
    if kind == "b" and not dots:
        size //= 8
    if kind == "x+n":
        size += 1
    return Element(
        number=number,
        name=f"part {number}",
        kind=kind,
        encoding="binary" if kind == "b" and encoding != "hex" else encoding,
        length_kind=dots,
        max_length=size,
        length_encoding="ascii" if encoding in ("ascii", "binary", "hex") else encoding,
        pad="left 0" if encoding == "bcd" and kind == "n" else "",
        parts=parts,
    )


def parts(*notations: str, encoding: str = "ascii") -> dict[str, Element]:
    """Parts "1", "2" … in one encoding."""
    return {str(place): element(notation, place, encoding=encoding) for place, notation in enumerate(notations, 1)}
