"""A dialect → the same as a pyiso8583 spec; called by exporters, and by the tests and the bench as an oracle.

Source: pyiso8583 4, `iso8583.specs` (keys data_enc, len_enc, len_type, max_len, len_count, left_pad, right_pad).
"""

from __future__ import annotations

from typing import Any

from messages.charsets import page_of
from messages.dialect import Dialect, Element
from messages.errors import SpecError
from messages.lengths import counted_in_bytes, prefix_size

_NO_LENGTH = {"len_enc": "ascii", "len_type": 0}
_OCTETS_AS_TEXT = "a length that counts bytes of hexadecimal text"


def spec_of(dialect: Dialect) -> dict[str, dict[str, Any]]:
    """The whole dialect; elements that it lacks are not in the spec.

    `fill`, names of parts, rules and keep-alives have no counterpart and no influence on bytes that are decoded: they
    are left out. The code page "cp1047" is none of Python's: users of the spec have to register it.

    Raises:
        SpecError: lists what pyiso8583 has no words for.
    """
    problems = [
        f"elements.{number}: pyiso8583 has no {lacking}"
        for number, element in dialect.elements.items()
        if (lacking := lacking_in_pyiso8583(element))
    ]
    if dialect.secondary == "always":
        problems.append("secondary: pyiso8583 has no second bitmap that nothing announces")
    if dialect.tertiary == "element":
        problems.append("tertiary: pyiso8583 has no bitmap among the elements")
    if 65 in dialect.elements:
        problems.append("elements.65: pyiso8583 takes it for a bitmap")
    if problems:
        raise SpecError(dialect.name, problems)
    packed, binary = dialect.mti_encoding == "bcd", dialect.bitmap_encoding == "binary"
    bitmap_encoding = "b" if binary else page_of(dialect.bitmap_encoding) or "ascii"
    bitmap = {**_NO_LENGTH, "data_enc": bitmap_encoding, "max_len": 8 if binary else 16}
    spec: dict[str, dict[str, Any]] = {
        "h": {**_NO_LENGTH, "data_enc": "ascii", "max_len": 0, "desc": "Message header"},
        "t": {
            **_NO_LENGTH,
            "data_enc": "b" if packed else dialect.mti_encoding,
            "max_len": 2 if packed else 4,
            "desc": "Message type indicator",
        },
        "p": {**bitmap, "desc": "Bitmap, primary"},
        "1": {**bitmap, "desc": "Bitmap, secondary"},
    }
    if dialect.tertiary:
        spec["65"] = {**bitmap, "desc": "Bitmap, tertiary"}
    for number, element in dialect.elements.items():
        spec[str(number)] = element_spec(element)
    return spec


def lacking_in_pyiso8583(element: Element) -> str:
    """The features of an element that pyiso8583 cannot express, in words; "" if there are none."""
    if element.encoding == "bcd" and element.kind == "x+n":
        return "amounts in BCD with a sign before them"
    if not element.length_kind:
        return ""
    if element.encoding in ("hex", "ebcdic-hex") and element.length_count == "octets":
        return _OCTETS_AS_TEXT
    if counted_in_bytes(element) and (element.pad or element.max_length % 2):
        return "pad in BCD whose length counts bytes"
    return ""


def element_spec(element: Element) -> dict[str, Any]:
    """One element in pyiso8583's model."""
    packed = element.encoding == "bcd"
    in_nibbles = element.length_count == "nibbles" or (
        element.encoding == "binary" and element.length_count == "digits"
    )
    if packed:
        in_nibbles = not (element.length_kind and counted_in_bytes(element))
    elif not element.length_kind:
        in_nibbles = False
    size = element.wire_units
    if in_nibbles and not packed:
        size *= 2
    elif packed and not in_nibbles:
        size //= 2
    spec: dict[str, Any] = {
        "data_enc": "b" if element.encoding in ("bcd", "binary") else page_of(element.encoding) or "ascii",
        "len_enc": "b" if element.length_encoding == "binary" else element.length_encoding,
        "len_type": prefix_size(element),
        "max_len": size,
        "len_count": "nibbles" if in_nibbles else "bytes",
        "desc": element.name,
    }
    if packed and element.pad:
        side, nibble = element.pad.split()
        spec[f"{side}_pad"] = nibble
    return spec
