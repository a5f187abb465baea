"""Random dialects in everything that an element can say, and values for them; for tests of importers and exporters.

Bytes are made by `ElementCodec`, which is tested by itself: the meaning of a dialect is not in question here.
"""

from __future__ import annotations

import random
import string

from messages.composites.nodes import Node, Tree
from messages.composites.spec import Composite
from messages.composites.tree import build
from messages.dialect import Dialect, Element
from messages.element_codec import ElementCodec
from messages.importers.standard_kinds import standard_kind
from messages.lengths import scale

ALPHABETS = {
    "n": string.digits,
    "a": string.ascii_letters + " ",
    "an": string.ascii_letters + string.digits + " ",
    "ans": "".join(map(chr, range(0x20, 0x7F))),
    "z": string.digits + "=",
    "b": "0123456789ABCDEF",
}
TEXT = ("ascii", "cp037", "cp500", "cp1047")
_KINDS = ("n", "a", "an", "ans", "z", "x+n", "b")
_NUMBERS = [number for number in range(2, 129) if number not in (39, 65)]


def element(chance: random.Random, number: int, inside: bool = False) -> Element:
    """Any element that is consistent: digits where the standard has them, no rare counts inside of others."""
    standard = "" if inside else standard_kind(number, "1987")
    kind = standard if standard in ("n", "z") else chance.choice(_KINDS)
    encoding = chance.choice(
        {"b": ("binary", "hex", "ebcdic-hex"), "n": (*TEXT, "bcd"), "z": (*TEXT, "bcd")}.get(kind, TEXT)
    )
    length_kind = chance.choice((0, 0, 1, 2, 3, 4))
    length_encoding = chance.choice((*TEXT, "bcd", "binary"))
    most = min(10**length_kind - 1, 40) if length_kind else 20
    if encoding in ("hex", "ebcdic-hex") and length_kind == 1:
        most = 4
    size = chance.randint(2 if kind == "x+n" else 1, most)
    count = ""
    if length_kind and not inside:
        count = chance.choice(
            {
                "bcd": ("", "digits", "bytes"),
                "binary": ("", "bytes", "digits"),
                "hex": ("", "bytes", "octets"),
                "ebcdic-hex": ("", "octets"),
            }.get(encoding, ("", "bytes"))
        )
    pad = ""
    if encoding == "bcd" and (length_kind or size % 2 or chance.random() < 0.5):
        pad = chance.choice(("left 0", "right 0", "right F", "left F"))
        if kind == "z":
            pad = chance.choice(("left 0", "right F"))
    fill = ""
    if not length_kind and not inside and kind in ("n", "an", "ans") and chance.random() < 0.3:
        fill = "left 0" if kind == "n" else "right  "
    made = Element(
        number=number,
        name=f"element {number}",
        kind=kind,
        encoding=encoding,
        length_kind=length_kind,
        max_length=size,
        length_encoding=length_encoding if length_kind else "ascii",
        length_count=count,
        pad=pad,
        fill=fill,
    )
    lengths = scale(made)
    if length_kind and (lengths.largest < made.wire_units or lengths.said(made.wire_units) >= 10**length_kind):
        return element(chance, number, inside)  # the length cannot say as much as the element may have
    return made


def composite(chance: random.Random, number: int) -> Element:
    """An element with parts, as bytes or as text of one code page."""
    text = chance.random() < 0.5
    kind = chance.choice(("positional", "tag-text", "bitmapped", "ber-tlv"))
    page = chance.choice(TEXT) if text and kind != "bitmapped" else "ascii"
    parts = {}
    for place in range(1, chance.randint(2, 5)):
        part = element(chance, place, inside=True)
        while text and (part.encoding not in TEXT or part.kind == "b"):
            part = element(chance, place, inside=True)
        key = f"{place:02d}" if kind == "tag-text" else str(place)
        parts[f"9F{place:02X}" if kind == "ber-tlv" else key] = part
    made = Composite(
        kind=kind,
        parts=parts,
        tag_size=2,
        length_size=0,
        tag_encoding="ascii" if text else chance.choice(("ascii", "cp500")),
        bitmap_size=1,
        bitmap_encoding="hex" if text else "binary",
    )
    as_text = text and kind != "ber-tlv"
    return Element(
        number=number,
        name=f"element {number}",
        kind="ans" if as_text else "b",
        encoding=page if as_text else "binary",
        length_kind=3,
        max_length=999,
        length_encoding=chance.choice(("ascii", "bcd", "cp500")),
        parts=made,
    )


def dialect(chance: random.Random, name: str = "random") -> Dialect:
    """A dialect of a few elements."""
    numbers = sorted(chance.sample(_NUMBERS, 12))
    made = {}
    for number in numbers:
        plain = standard_kind(number, "1987") in ("n", "z") or chance.random() < 0.6
        made[number] = element(chance, number) if plain else composite(chance, number)
    return Dialect(
        name=name,
        mti_encoding=chance.choice(("ascii", "bcd", "cp037", "cp500", "cp1047")),
        bitmap_encoding=chance.choice(("binary", "hex", "binary", "hex", "cp500")),
        elements=made,
    )


def value(chance: random.Random, of: Element) -> str:
    """A valid value of an element; lengths lean towards the ends of their range."""
    if of.parts is not None:
        return build(of, tree(chance, of.parts))
    if not of.length_kind:
        return _letters(chance, of, of.max_length)
    lengths = scale(of)
    units = lengths.allowed[chance.choice((0, -1, chance.randrange(len(lengths.allowed))))]
    size = units if of.encoding not in ("hex", "ebcdic-hex") else units // 2
    if of.kind == "x+n" or (of.encoding == "bcd" and not of.pad):
        size = max(size, 2)
    if of.encoding == "bcd" and not of.pad:
        size -= size % 2
    return _letters(chance, of, min(size, of.max_length))


def tree(chance: random.Random, parts: Composite) -> Tree:
    """Values for some of the parts, the first ones where they stand in a row."""
    if parts.rows:
        row = Composite(kind=parts.kind, parts=parts.parts)
        return Tree(tuple(Node(key=str(place), value=tree(chance, row)) for place in range(1, chance.choice((2, 3)))))
    chosen = [key for key in parts.parts if parts.kind == "positional" or chance.random() < 0.7]
    if parts.kind == "ber-tlv":
        return Tree(tuple(Node(key=key, value=chance.randbytes(chance.randint(0, 5)).hex().upper()) for key in chosen))
    return Tree(tuple(Node(key=key, value=value(chance, parts.parts[key])) for key in chosen))


def _letters(chance: random.Random, of: Element, size: int) -> str:
    if of.kind == "x+n":
        return chance.choice("CD") + "".join(chance.choices(string.digits, k=size - 1))
    if of.kind == "b":
        return chance.randbytes(size).hex().upper()
    letters = "".join(chance.choices(ALPHABETS[of.kind], k=size))
    if of.kind == "z" and of.encoding == "bcd":
        return letters.replace("=", "1", letters.count("=") - 1) if letters.count("=") > 1 else letters
    return letters


def wire(of: Element, text: str) -> bytes:
    """The bytes of a value, its length in front."""
    return ElementCodec(of).encode(text)
