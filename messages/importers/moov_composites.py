"""Composite fields of moov-io/iso8583: subfields in, the inside of an element out.

Called by `moov_spec` for every field with subfields. One whose inside no composite of a dialect says still travels: its
prefix alone decides its bytes. It becomes an element without parts, with a warning.

Source: moov's field.Composite: subfields in order, by tag, or by bitmap; the prefix counts bytes.
"""

from __future__ import annotations

import re

import msgspec

from messages.composites.nodes import MAX_DEPTH
from messages.composites.spec import Composite
from messages.dialect import Element
from messages.importers.json_tree import Entry, shown
from messages.importers.moov_fields import (
    KNOWN,
    PAGES,
    Prefix,
    element_of,
    encoding_of,
    largest_of,
    prefix_of,
    primitive,
)

_TAG_KEYS = frozenset({
    "length", "enc", "padding", "sort", "skipUnknownTLVTags", "storeUnknownTLVTags", "prefUnknownTLV",
})  # fmt: skip
_TAG_LARGEST = 255  # as the reader of dialect files has it: parts of chip data are names only
_BITMAP_BYTES = 64


class _FlatError(Exception):
    """The inside is nothing that a composite says; the text says why."""


def composite(entry: Entry, number: int, version: str, depth: int = 1) -> Element | None:
    """An element with parts; None with a problem.

    Args:
        entry: the field.
        number: of the element or part.
        version: of the standard that the message follows.
        depth: of it in others, 1 for a field of the message.
    """
    entry.unknown(KNOWN)
    prefix = prefix_of(entry)
    largest = largest_of(entry, prefix) if prefix else None
    parts = None
    if depth > MAX_DEPTH:
        entry.problem("", f"is nested more than {MAX_DEPTH} deep")
        return None
    try:
        parts = _inside(entry, version, depth)
    except _FlatError as reason:
        entry.warning("", f"travels whole, its subfields are not taken apart: {reason}")
    if prefix is None or largest is None:
        return None
    page = _page(parts) if parts else ""
    element = element_of(entry, number, prefix, largest, "ans" if page else "b", page or "binary")
    return msgspec.structs.replace(element, parts=parts)


def _inside(entry: Entry, version: str, depth: int) -> Composite:
    subfields, tag, bitmap = entry.entry("subfields"), entry.entry("tag"), entry.entry("bitmap")
    if subfields is None or not subfields.plain:
        entry.problem("subfields", "is missing")
        raise _FlatError("it has none")
    if (tag is None) == (bitmap is None):
        entry.problem("", "a composite field has either a tag or a bitmap")
        raise _FlatError("they have neither tags nor a bitmap, or both")
    if bitmap is not None:
        return _by_bitmap(bitmap, _parts(subfields, version, depth))
    assert tag is not None
    tag.unknown(_TAG_KEYS)
    if "enc" not in tag:
        return _in_a_row(tag, _parts(subfields, version, depth))
    encoding = encoding_of(tag)
    if encoding == "BerTLVTag":
        return _ber_tlv(subfields, version, depth)
    return _by_tag(tag, encoding, _parts(subfields, version, depth))


def _parts(subfields: Entry, version: str, depth: int) -> dict[str, Element | None]:
    """Key → part; None for one that has a problem."""
    parts: dict[str, Element | None] = {}
    for place, (key, entry) in enumerate(subfields.entries(), 1):
        parts[key] = part(entry, place, version, depth)
    return parts


def part(entry: Entry, number: int, version: str, depth: int) -> Element | None:
    """One subfield."""
    if entry.text("type", "") == "Composite" or "subfields" in entry:
        return composite(entry, number, version, depth + 1)
    return primitive(entry, number, version, inside=True)


def _whole(parts: dict[str, Element | None]) -> dict[str, Element]:
    known = {key: element for key, element in parts.items() if element is not None}
    if len(known) < len(parts):
        raise _FlatError("some have problems")  # which are reported, and end the import
    return known


def _in_a_row(tag: Entry, parts: dict[str, Element | None]) -> Composite:
    sort = tag.text("sort")
    base = {"StringsByInt": 10, "StringsByHex": 16}.get(sort)
    if base is None:
        tag.problem("sort", f"{shown(sort)} is no order that is known here")
        raise _FlatError("their order is not known")
    try:
        ordered = sorted(_whole(parts).items(), key=lambda item: int(item[0], base))
    except ValueError:
        tag.problem("sort", f"{sort}: the names of the subfields are no numbers")
        raise _FlatError("their order is not known") from None
    named = {}
    for place, (_, element) in enumerate(ordered, 1):
        named[str(place)] = msgspec.structs.replace(element, number=place)
    return Composite(kind="positional", parts=named)


def _by_bitmap(bitmap: Entry, parts: dict[str, Element | None]) -> Composite:
    size, encoding = bitmap.number("length", 1, _BITMAP_BYTES, default=8), encoding_of(bitmap)
    if encoding not in ("Binary", "HexToASCII", "") or not bitmap.flag("disableAutoExpand"):
        raise _FlatError("their bitmap may grow" if encoding in ("Binary", "HexToASCII") else f"a bitmap in {encoding}")
    named = {}
    for key, element in _whole(parts).items():
        if not (key.isascii() and key.isdigit() and len(key) < 4 and 1 <= int(key) <= (size or 0) * 8):
            raise _FlatError(f"their bitmap cannot announce {shown(key)}")
        named[str(int(key))] = msgspec.structs.replace(element, number=int(key))
    return Composite(
        kind="bitmapped",
        parts=named,
        bitmap_size=size or 8,
        bitmap_encoding="binary" if encoding == "Binary" else "hex",
    )


def _ber_tlv(subfields: Entry, version: str, depth: int) -> Composite:
    """Tags and lengths in BER: bytes that a dialect reads by themselves, so parts are names only."""
    named = {}
    for place, (key, entry) in enumerate(subfields.entries(), 1):
        if entry.text("prefix", "") != "BerTLV":
            raise _FlatError(f"{shown(key)} has a length that is none of BER-TLV")
        inner = entry.entry("subfields")
        if inner is None and entry.text("enc", "") not in ("Binary", "ASCII", "EBCDIC", "EBCDIC1047"):
            raise _FlatError(f"the length of {shown(key)} counts something else than bytes")
        if re.fullmatch(r"(?:[0-9A-Fa-f]{2}){1,4}", key) is None:
            raise _FlatError(f"{shown(key)} is no tag of up to 4 bytes")
        if inner is not None:
            tag = entry.entry("tag")
            if tag is None or tag.text("enc", "") != "BerTLVTag":
                raise _FlatError(f"the inside of {shown(key)} is no BER-TLV")
            _ber_tlv(inner, version, depth + 1)
        named[key.upper()] = Element(
            number=place,
            name=" ".join(entry.text("description", "").split()),
            kind="b",
            encoding="binary",
            length_kind=3,
            max_length=_TAG_LARGEST,
            length_encoding="ascii",
        )
    return Composite(kind="ber-tlv", parts=named)


def _by_tag(tag: Entry, encoding: str, parts: dict[str, Element | None]) -> Composite:
    """A tag, then what the subfield of that tag says of its length and value."""
    size = tag.number("length", 1, 16)
    if encoding in ("BCD", "ASCIIToHex"):
        octets = size if encoding == "ASCIIToHex" else (size or 0) // 2
        if encoding == "BCD" and (size or 0) % 2:
            raise _FlatError("tags of an odd number of BCD digits")
        characters, tag_encoding = (octets or 0) * 2, "binary"
    elif encoding in PAGES:
        octets, characters, tag_encoding = size, size or 0, PAGES[encoding]
    else:
        raise _FlatError(f"tags in {encoding or 'no encoding'}")
    named: dict[str, Element] = {}
    for key, element in _whole(parts).items():
        filled = _filled(tag, key, characters)
        if len(filled) != characters:
            raise _FlatError(f"{shown(key)} is no tag of {characters} characters")
        named[filled.upper() if tag_encoding == "binary" else filled] = element
    lengths = {(part.length_encoding, part.length_kind, _in_bytes(part)) for part in named.values()}
    made = Composite(kind="tag-text", parts=named, tag_size=octets or 1, tag_encoding=tag_encoding, length_size=0)
    unknown = tag.text("prefUnknownTLV", "")
    if not (tag.flag("skipUnknownTLVTags") and unknown):
        return made
    found = re.fullmatch(r"(ASCII|EBCDIC|EBCDIC1047)\.(L{1,4})", unknown)
    if found is None or lengths != {(PAGES[found[1]], len(found[2]), True)}:
        raise _FlatError(f"lengths of tags that are not named are {shown(unknown)}, others differ")
    return msgspec.structs.replace(made, length_size=len(found[2]), length_encoding=PAGES[found[1]])


def _filled(tag: Entry, key: str, size: int) -> str:
    padding = tag.entry("padding")
    if padding is None:
        return key
    name, pad = padding.text("type"), padding.text("pad", "")
    if name not in ("Left", "Right", "None"):
        padding.problem("type", f"{shown(name)} is no padding that is known here")
    if name == "None" or len(pad) != 1:
        return key
    return key.rjust(size, pad) if name == "Left" else key.ljust(size, pad)


def _in_bytes(part: Element) -> bool:
    """Whether its length counts the bytes of its value."""
    return part.encoding == "binary" or part.encoding in PAGES.values()


def _page(made: Composite) -> str:
    """The code page in which all of it is text; "" where it is bytes."""
    if made.kind == "ber-tlv":
        return ""
    pages = {_page_of(part) for part in made.parts.values()}
    if made.kind == "tag-text":
        pages.add(made.tag_encoding)
        pages |= {made.length_encoding} if made.length_size else set()
    if made.kind == "bitmapped":
        pages.add("ascii" if made.bitmap_encoding == "hex" else "")
    page = pages.pop() if len(pages) == 1 else ""
    return page if page in PAGES.values() else ""


def _page_of(part: Element) -> str:
    if part.length_kind and part.length_encoding != part.encoding:
        return ""
    if part.parts is not None:
        return part.encoding if part.encoding == _page(part.parts) else ""
    if part.encoding == "hex":
        return "" if part.length_kind else "ascii"
    return part.encoding


__all__ = ["Prefix", "composite", "part"]
