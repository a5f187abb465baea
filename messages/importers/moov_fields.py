"""Fields of a moov-io/iso8583 specification: entries in, elements out; for those of a message and those inside of them.

A type is the kind of a value, an encoding its form on the wire, a prefix its length; each is a table here.
A setting that no element of a dialect can express is a problem with its path.

Source: the behaviour of moov's packages specs (names in JSON), field, encoding, prefix and padding as of its version
0.23: lengths count the characters of text, the digits of BCD and the bytes of binary values.
"""

from __future__ import annotations

import re

import msgspec

from messages.dialect import Element
from messages.importers.json_tree import Entry, shown
from messages.importers.standard_kinds import standard_kind

KNOWN = frozenset({
    "type", "length", "description", "enc", "prefix", "padding", "tag", "subfields", "bitmap", "disableAutoExpand",
})  # fmt: skip
TEXT_TYPES = {"String": "", "Numeric": "n", "Track1": "ans", "Track2": "z", "Track3": "z"}  # "": as the standard has it
BYTE_TYPES = frozenset({"Binary", "Hex"})
_LARGEST = 999_999

# Names of the program's own types, as files of its first versions have them.
_OLD_NAMES = {
    "asciiEncoder": "ASCII",
    "bcdEncoder": "BCD",
    "lBCDEncoder": "LBCD",
    "ebcdicEncoder": "EBCDIC",
    "ebcdic1047Encoder": "EBCDIC1047",
    "binaryEncoder": "Binary",
    "hexEncoder": "HexToASCII",
    "hexToASCIIEncoder": "HexToASCII",
    "asciiToHexEncoder": "ASCIIToHex",
    "berTLVEncoderTag": "BerTLVTag",
    "leftPadder": "Left",
    "rightPadder": "Right",
    "nonePadder": "None",
}
ENCODINGS = frozenset({
    "ASCII", "BCD", "LBCD", "EBCDIC", "EBCDIC1047", "Binary", "HexToASCII", "ASCIIToHex", "BerTLVTag",
})  # fmt: skip
PAGES = {"ASCII": "ascii", "EBCDIC": "cp500", "EBCDIC1047": "cp1047"}
_PADS = {"BCD": "left 0", "LBCD": "right 0"}
_PREFIX = re.compile(r"(ASCII|BCD|Binary|EBCDIC1047|EBCDIC|Hex|None)\.([Ff]ixed|L{1,6})")
_PREFIX_ENCODINGS = {**PAGES, "BCD": "bcd", "Binary": "binary"}
_LONGEST_BINARY = 4


class Prefix(msgspec.Struct, frozen=True):
    """The bytes before a value.

    Args:
        encoding: as `Element.length_encoding`.
        digits: L's of its name, of "binary" its bytes; 0: the length is fixed.
        most: that it can say; 0 where it says nothing.
    """

    encoding: str = "ascii"
    digits: int = 0
    most: int = 0


def encoding_of(entry: Entry, key: str = "enc") -> str:
    """The encoding of a field or tag; "" with a problem."""
    name = entry.text(key)
    name = _OLD_NAMES.get(name, name)
    if name in ENCODINGS:
        return name
    if name:
        entry.problem(key, f"{shown(name)} is no encoding that is known here")
    return ""


def prefix_of(entry: Entry) -> Prefix | None:
    """The prefix of a field; None with a problem."""
    name = entry.text("prefix")
    found = _PREFIX.fullmatch(name)
    if found is None:
        if name:
            entry.problem("prefix", f"{shown(name)} is no prefix that is known here")
        return None
    family, digits = found[1], len(found[2]) if found[2].startswith("L") else 0
    if family == "None":
        entry.problem("prefix", "None: a value without length that goes on to the end of the message")
        return None
    if not digits:
        return Prefix()
    if family == "Hex":
        entry.problem("prefix", f"{name}: no element has a length in hexadecimal digits")
        return None
    if family == "Binary" and digits > _LONGEST_BINARY:
        entry.problem("prefix", f"{name}: a length of {digits} bytes: the most is {_LONGEST_BINARY}")
        return None
    most: int = 256**digits - 1 if family == "Binary" else 10**digits - 1
    return Prefix(_PREFIX_ENCODINGS[family], digits, most)


def largest_of(entry: Entry, prefix: Prefix) -> int | None:
    """The length of a field, at most what its prefix can say; None with a problem."""
    largest = entry.number("length", 1, _LARGEST)
    if largest is None or not prefix.most or largest <= prefix.most:
        return largest
    entry.warning("length", f"{largest}: the most that its prefix can say is {prefix.most}")
    return prefix.most


def element_of(
    entry: Entry, number: int, prefix: Prefix, largest: int, kind: str, encoding: str, count: str = ""
) -> Element:
    """An element with the length that a prefix says."""
    binary = prefix.encoding == "binary" and prefix.digits > 0
    return Element(
        number=number,
        name=" ".join(entry.text("description", "").split()),
        kind=kind,
        encoding=encoding,
        length_kind=max(2, len(str(largest))) if binary else prefix.digits,
        max_length=largest,
        length_encoding=prefix.encoding,
        length_size=prefix.digits if binary else 0,
        length_count=count if prefix.digits else "",
    )


def primitive(entry: Entry, number: int, version: str, inside: bool = False) -> Element | None:
    """An element of a field that has nothing inside; None with a problem.

    Args:
        entry: the field.
        number: of the element, or its place among its neighbours.
        version: of the standard that the message follows.
        inside: of another field, where numbers mean nothing.
    """
    entry.unknown(KNOWN)
    kind, encoding, prefix = entry.text("type"), encoding_of(entry), prefix_of(entry)
    if kind not in TEXT_TYPES and kind not in BYTE_TYPES:
        if kind:
            entry.problem("type", f"{shown(kind)} is no type of a field that is known here")
        return None
    largest = largest_of(entry, prefix) if prefix else None
    if not encoding or prefix is None or largest is None:
        return None
    if encoding == "BerTLVTag":
        entry.problem("enc", "BerTLVTag: an encoding of tags")
        return None
    standard = "" if inside else standard_kind(number, version)
    if kind in BYTE_TYPES:
        element = _octets(entry, number, prefix, largest, encoding)
    else:
        element = _text(entry, number, prefix, largest, encoding, standard)
    return _filled(entry, element) if element else None


def _octets(entry: Entry, number: int, prefix: Prefix, largest: int, encoding: str) -> Element | None:
    if encoding in ("Binary", "ASCII"):
        return element_of(entry, number, prefix, largest, "b", "binary")
    if encoding == "HexToASCII":
        return element_of(entry, number, prefix, largest, "b", "hex", "octets")
    entry.problem("enc", f"{encoding}: bytes are in Binary or HexToASCII")
    return None


def _text(entry: Entry, number: int, prefix: Prefix, largest: int, encoding: str, standard: str) -> Element | None:
    kind = TEXT_TYPES[entry.text("type")] or ("z" if number in (35, 36) and standard == "z" else "ans")
    if standard == "n" and kind == "ans" and _fill(entry)[1:] in ("", *"0123456789"):
        kind = "n"
    if encoding in PAGES:
        return element_of(entry, number, prefix, largest, kind, PAGES[encoding])
    if encoding in _PADS:
        element = element_of(entry, number, prefix, largest, "z" if kind == "z" else "n", "bcd")
        return msgspec.structs.replace(element, pad=_PADS[encoding])
    if encoding == "ASCIIToHex" and kind == "z":
        return element_of(entry, number, prefix, largest * 2, "z", "bcd", "bytes")
    if encoding == "Binary" and standard != "b":
        return element_of(entry, number, prefix, largest, kind, "ascii")
    if standard != "b":
        entry.warning("enc", f"{encoding}: the value is bytes, shown as hexadecimal")
    if encoding == "HexToASCII":
        return element_of(entry, number, prefix, largest, "b", "hex", "octets")
    return element_of(entry, number, prefix, largest, "b", "binary")


def _fill(entry: Entry) -> str:
    """ "L0", "R ": side and character of the padding; "" where there is none."""
    padding = entry.entry("padding")
    if padding is None:
        return ""
    name, pad = padding.text("type"), padding.plain.get("pad", "")
    side = {"Left": "L", "Right": "R", "None": ""}.get(_OLD_NAMES.get(name, name))
    if isinstance(pad, int) and 0 <= pad < 128:  # old files have the character's number
        pad = chr(pad)
    if side is None:
        if name:
            padding.problem("type", f"{shown(name)} is no padding that is known here")
    elif side and not (isinstance(pad, str) and len(pad) == 1):
        padding.problem("pad", "must be one character")
    elif side:
        return f"{side}{pad}"
    return ""


def _filled(entry: Entry, element: Element) -> Element:
    fill = _fill(entry)
    if not fill:
        return element
    if element.length_kind:
        entry.warning("padding", "is not read: a value of variable length goes out as long as it is")
        return element
    side, pad = "left" if fill[0] == "L" else "right", fill[1]
    if element.kind == "b":
        if pad != "\0":
            entry.warning("padding", "is not read: a value of bytes must have the whole length")
            return element
        pad = "0"
    elif element.kind in ("n", "z") and pad not in "0123456789":
        if element.encoding == "bcd":
            entry.problem("padding.pad", "must be a digit")
        element = msgspec.structs.replace(element, kind="ans")
    elif not " " <= pad <= "~":
        entry.problem("padding.pad", "must be a printable ASCII character")
    return msgspec.structs.replace(element, fill=f"{side} {pad}")
