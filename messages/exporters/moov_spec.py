"""A dialect as moov-io/iso8583's specification in JSON; called by `messages.exporters`.

Text and digits become String fields, since moov's Numeric forgets zeros in front. Parts become Composite fields where
moov takes them apart as the dialect does; where it does not, the element travels whole, as bytes.

Source: moov's packages specs (names in JSON), field, encoding, prefix and padding as of its version 0.23.
"""

from __future__ import annotations

from typing import Any

import msgspec

from messages.composites.spec import Composite
from messages.dialect import Dialect, Element
from messages.errors import SpecError
from messages.exporters.exported import Exported
from messages.lengths import counted_in_bytes, prefix_size

_MTI = {"ascii": "ASCII", "bcd": "BCD", "cp037": "EBCDIC", "cp500": "EBCDIC", "cp1047": "EBCDIC"}
_BITMAPS = {"binary": "Binary", "hex": "HexToASCII"}
# Digits and letters are the same in all three code pages, and moov's table of 500 has a bar of its own.
_PAGES = {"ascii": "ASCII", "cp037": "EBCDIC", "cp500": "EBCDIC", "cp1047": "EBCDIC1047"}
_SAME_IN_EBCDIC = frozenset({"n", "a", "an", "z", "x+n"})
_PREFIXES = {"ascii": "ASCII", "cp037": "EBCDIC", "cp500": "EBCDIC", "cp1047": "EBCDIC", "bcd": "BCD"}
_LONGEST_PREFIX = 4
_HEX = ("hex", "ebcdic-hex")
_Plain = dict[str, Any]


class _LackingError(Exception):
    """Features that moov cannot express."""


def export(dialect: Dialect) -> Exported:
    """A dialect as a moov spec.

    Raises:
        SpecError: lists what moov has no words for.
    """
    problems: list[str] = []
    warnings: list[str] = []
    if dialect.bitmap_encoding not in _BITMAPS:
        problems.append(f"bitmap: moov has none in {dialect.bitmap_encoding}")
    if dialect.tertiary == "element":
        problems.append("tertiary: moov has no bitmap among the elements")
    size = 16 if dialect.secondary == "always" else 8
    fields: dict[str, _Plain] = {
        "0": _field("String", 4, "Message type indicator", _MTI[dialect.mti_encoding], "ASCII.Fixed"),
        "1": _field("Bitmap", size, "Bitmap", _BITMAPS.get(dialect.bitmap_encoding, ""), "ASCII.Fixed"),
    }
    for number, element in dialect.elements.items():
        if number == 65:
            problems.append("elements.65: moov takes it for the bit that announces a bitmap")
            continue
        try:
            fields[str(number)] = _element(element, f"elements.{number}", warnings)
        except _LackingError as lacking:
            problems.append(f"elements.{number}: moov has no {lacking}")
    if problems:
        raise SpecError(dialect.name, problems)
    return Exported(spec={"name": dialect.name, "fields": fields}, warnings=tuple(warnings))


def _field(kind: str, length: int, name: str, encoding: str, prefix: str) -> _Plain:
    plain: _Plain = {"type": kind, "length": length, "description": name, "enc": encoding, "prefix": prefix}
    return {key: value for key, value in plain.items() if value != ""}


def _element(element: Element, where: str, warnings: list[str], page: str = "") -> _Plain:
    """A field of an element or part; `page`: it stands in text of that code page."""
    if page:
        element = _in_text(element, page)
    if element.parts is not None:
        try:
            return _composite(element, element.parts, where)
        except _LackingError as lacking:
            warnings.append(f"{where}.parts: left out, moov has no {lacking}")
    return _primitive(element, where, warnings)


def _primitive(element: Element, where: str, warnings: list[str]) -> _Plain:
    if element.encoding == "bcd":
        return _packed(element)
    if element.encoding == "binary":
        if element.length_kind and element.length_count not in ("", "bytes"):
            raise _LackingError("length of binary data that counts half bytes")
        return _variable("Binary", element, element.max_length, "Binary")
    if element.kind == "b":
        return _hexadecimal(element, where, warnings)
    if element.encoding == "cp037" and element.kind not in _SAME_IN_EBCDIC:
        raise _LackingError("text in code page 037")
    if element.length_kind and element.length_count == "nibbles":
        raise _LackingError("length of text that counts half bytes")
    if element.encoding == "cp500" and element.kind == "ans":
        warnings.append(f'{where}: "|" is another byte in moov\'s EBCDIC')
    return _filled(element, _variable("String", element, element.max_length, _page(element)))


def _page(element: Element) -> str:
    """1047 is only named where it makes a difference: moov's JSON knows it as an encoding of values, not of lengths."""
    if element.kind in _SAME_IN_EBCDIC and element.encoding != "ascii":
        return "EBCDIC"
    return _PAGES[element.encoding]


def _packed(element: Element) -> _Plain:
    if element.kind != "n":
        raise _LackingError("signs or separators in BCD")
    if element.length_kind and counted_in_bytes(element):
        raise _LackingError("BCD whose length counts bytes")
    odd = element.length_kind or element.max_length % 2
    if odd and element.pad not in ("left 0", "right 0"):
        raise _LackingError(f"pad {element.pad[-1]} in BCD" if element.pad else "BCD of even lengths only")
    encoding = "LBCD" if element.pad == "right 0" and odd else "BCD"
    return _filled(element, _variable("String", element, element.max_length, encoding))


def _hexadecimal(element: Element, where: str, warnings: list[str]) -> _Plain:
    """Bytes where the length counts them, else the text that they are on the wire."""
    ascii_hex = element.encoding == "hex"
    in_octets = not element.length_kind or element.length_count == "octets"
    if ascii_hex and in_octets:
        return _variable("Binary", element, element.max_length, "HexToASCII")
    if element.length_kind and element.length_count not in ("", "bytes"):
        raise _LackingError("length of hexadecimal text that counts something else than its characters or its bytes")
    warnings.append(f"{where}: is hexadecimal text in moov, not bytes")
    return _variable("String", element, element.max_length * 2, "ASCII" if ascii_hex else "EBCDIC")


def _variable(kind: str, element: Element, length: int, encoding: str) -> _Plain:
    return _field(kind, length, element.name, encoding, _prefix(element))


def _prefix(element: Element) -> str:
    if not element.length_kind:
        return "ASCII.Fixed"
    size = prefix_size(element)
    if element.length_encoding == "binary":
        name, digits = "Binary", size
    else:
        name, digits = _PREFIXES[element.length_encoding], element.length_kind
        if size != ((digits + 1) // 2 if name == "BCD" else digits):
            raise _LackingError("length of more bytes than its digits take")
    if digits > _LONGEST_PREFIX:
        raise _LackingError(f"length of {digits} digits in its JSON")
    return f"{name}.{'L' * digits}"


def _filled(element: Element, plain: _Plain) -> _Plain:
    if not element.fill or element.length_kind or element.kind == "x+n":
        return plain
    side, pad = element.fill.split(" ")[0].capitalize(), element.fill[-1]
    return {**plain, "padding": {"type": side, "pad": pad}}


def _composite(element: Element, parts: Composite, where: str) -> _Plain:
    """Subfields, as bytes of their own or as text of one code page."""
    text = element.kind != "b"
    if not text and element.encoding != "binary":
        raise _LackingError("subfields in hexadecimal")
    if text and (element.encoding not in _PAGES or (element.length_kind and element.length_count not in ("", "bytes"))):
        raise _LackingError("subfields in digits of half a byte")
    if text and element.fill:
        raise _LackingError("subfields in text that is filled")
    page = element.encoding if text else ""
    made = _subfields(parts, page, where)
    plain = _field("Composite", element.max_length, element.name, "", _prefix(element))
    return {**plain, **made}


def _subfields(parts: Composite, page: str, where: str) -> _Plain:
    if parts.rows:
        raise _LackingError("rows that come again and again")
    if not parts.parts or parts.kind == "ber-tlv":
        raise _LackingError("subfields that keep the order of their tags, unknown ones among them")
    if parts.kind == "positional":
        return {"tag": {"sort": "StringsByInt"}, "subfields": _fields(parts, page, where)}
    if parts.kind == "bitmapped":
        if page and (page != "ascii" or parts.bitmap_encoding != "hex"):
            raise _LackingError("bitmap in EBCDIC")
        bitmap = _field("Bitmap", parts.bitmap_size, "Bitmap", _BITMAPS[parts.bitmap_encoding], "ASCII.Fixed")
        return {"bitmap": {**bitmap, "disableAutoExpand": True}, "subfields": _fields(parts, page, where)}
    return _tagged(parts, page, where)


def _tagged(parts: Composite, page: str, where: str) -> _Plain:
    encoding = "ASCIIToHex" if parts.tag_encoding == "binary" and not page else _PAGES.get(page or parts.tag_encoding)
    if encoding is None or not all(key.isalnum() for key in parts.parts):
        raise _LackingError("tags like these")
    sort = "StringsByInt" if all(key.isdigit() for key in parts.parts) else "StringsByHex"
    if sort == "StringsByHex" and not all(set(key) <= set("0123456789ABCDEFabcdef") for key in parts.parts):
        raise _LackingError("order of tags that are no numbers")
    tag: _Plain = {"length": parts.tag_size, "enc": encoding, "sort": sort}
    if not parts.length_size:
        return {"tag": tag, "subfields": _fields(parts, page, where)}
    length_encoding = page or parts.length_encoding
    if length_encoding in ("bcd", "binary") or (length_encoding != "ascii" and parts.length_size > _LONGEST_PREFIX):
        raise _LackingError(f"length of tags in {length_encoding}")
    prefix = f"{_PREFIXES[length_encoding]}.{'L' * parts.length_size}"
    if length_encoding != "ascii":
        raise _LackingError("unknown tags with lengths in EBCDIC")
    tag |= {"skipUnknownTLVTags": True, "storeUnknownTLVTags": True, "prefUnknownTLV": prefix}
    counted = {}
    for key, part in parts.parts.items():
        counted[key] = _counted(part, parts.length_size, page)
    return {"tag": tag, "subfields": _fields(msgspec.structs.replace(parts, parts=counted), page, where)}


def _counted(part: Element, digits: int, page: str) -> Element:
    """A part with the length of its tag as its own; in moov that counts characters or bytes as well."""
    if not page and part.encoding not in ("binary", *_PAGES):
        raise _LackingError("subfields whose length counts something else than their bytes")
    return msgspec.structs.replace(
        part, length_kind=digits, length_encoding="ascii", length_size=0, length_count="", fill=""
    )


def _fields(parts: Composite, page: str, where: str) -> _Plain:
    warnings: list[str] = []
    fields = {key: _element(part, f"{where}.{key}", warnings, page) for key, part in parts.parts.items()}
    if warnings:
        raise _LackingError(f"word for all of it: {warnings[0]}")
    return fields


def _in_text(part: Element, page: str) -> Element:
    """A part as it stands in text of a code page: text itself, hexadecimal where it is bytes."""
    hexadecimal = part.kind == "b"
    if hexadecimal and page not in ("ascii", *_HEX):
        raise _LackingError("hexadecimal text in EBCDIC inside of text")
    return msgspec.structs.replace(
        part,
        encoding="hex" if hexadecimal else page,
        length_encoding=page,
        length_size=0,
        length_count="",
        pad="",
        fill=part.fill,
    )
