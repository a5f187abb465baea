"""One card a message: all other elements with a card number or an expiry date must be of the card that DE 2 names.

A canonical message goes in, the first element that is of another card comes out. Called by the switch before a card is
identified, so that limits, block lists, routing and the issuer look at the same one. Pure; a message without tracks and
chip data costs one look at its elements.

Source: ISO/IEC 7813 6 and 7 (tracks 1 and 2), ISO 4909 (track 3), EMV Book 3 annex A (tags), ISO 8583:1987 DE 34.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from messages.card import pan_of
from messages.message import Message
from messages.rules import Problem

CHIP_DATA = 55
# Tags that hold a card number, as hexadecimal: track 2 and what networks copy of it, the number, track 1 as characters.
TRACK_2_TAGS, PAN_TAG, TRACK_1_TAG, EXPIRY_TAG = ("57", "9F6B"), "5A", "56", "5F24"
CARD_TAGS = frozenset({*TRACK_2_TAGS, PAN_TAG, TRACK_1_TAG, EXPIRY_TAG})
_CARD_BYTES = tuple(bytes.fromhex(tag) for tag in sorted(CARD_TAGS))

_TRACK_2 = re.compile(r";?([0-9]{8,19})[=D]([0-9]{4})?[^;]*")
_TRACK_1 = re.compile(r"%?[A-Z]([0-9][0-9 ]{7,22})\^[^^]*\^([0-9]{4})?.*", re.DOTALL)
_TRACK_3 = re.compile(r";?([0-9]{2})([0-9]{8,19})[=D].*", re.DOTALL)
_CONSTRUCTED, _LONG_TAG, _MORE, _DEEPEST = 0x20, 0x1F, 0x80, 8
_FILL, _MOST_FILLS = "FF", 16  # bytes FF are filling or the beginning of a tag: so many times both are read

Named = tuple[str, str, str]  # where, card number or "", expiry date YYMM or ""


class UnreadableError(ValueError):
    """An element that is passed on, and of which nobody can say whose card it is of."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path


def card_problem(message: Message) -> Problem | None:
    """The first element of another card, or with another expiry date, than those before it.

    Returns:
        None where all agree, where only one names a card, or none does. Tracks 1 and 3 that cannot be read (encrypted,
        say) contradict nothing: they are not passed on. Track 2 and chip data are, and must be readable.
    """
    elements = message.elements
    if not (35 in elements or 55 in elements or 45 in elements or 36 in elements or 34 in elements):
        return None
    pan, expiry = elements.get(2) or pan_of(message), elements.get(14, "")
    try:
        for path, number, date in _named(elements):
            if number and pan and number != pan:
                return Problem(path, "is of another card")
            if date and expiry and date != expiry:
                return Problem(path, "has another expiry date")
            pan, expiry = pan or number, expiry or date
    except UnreadableError as error:
        return Problem(error.path, str(error))
    return None


def without_card(icc_data: str) -> str:
    """DE 55 without card number, tracks and expiry date; "" where they cannot be taken out alone.

    For an issuer that gets another number than the chip has: that of the card behind a network token. The input of a
        cryptogram does not hold these tags.

    Args:
        icc_data: hexadecimal.
    """
    data = bytes.fromhex(icc_data)
    if not any(tag in data for tag in _CARD_BYTES):
        return icc_data
    first = _offset(data)
    try:
        outer = list(_tags(data, first))
        everywhere = {found for found in _all_tags(data, first, 0, len(data), set()) if found[0] in CARD_TAGS}
    except UnreadableError:
        return ""
    if not everywhere <= set(outer):  # inside of others, or where FF is read as a tag
        return ""
    left = b"".join(data[at:end] for tag, at, _, end in outer if tag not in CARD_TAGS and tag != _FILL)
    head = data[:1] + len(left).to_bytes(2, "big") if first and left else b""
    return (head + left).hex().upper()


def _named(elements: Mapping[int, str]) -> Iterator[Named]:
    """Every card number and date that is there, DE 2 and 14 aside."""
    if 35 in elements:
        yield _track_2("DE 35", elements[35])
    if 34 in elements and elements[34].strip().isdigit():
        yield "DE 34", elements[34].strip(), ""
    if 45 in elements and (first := _TRACK_1.fullmatch(elements[45])):
        yield "DE 45", first[1].replace(" ", ""), first[2] or ""
    if 36 in elements and (third := _TRACK_3.fullmatch(elements[36])):
        pan = elements.get(2) or ""
        yield "DE 36", pan if pan == third[1] + third[2] else third[2], ""
    if CHIP_DATA in elements:
        yield from _of_chip(elements[CHIP_DATA])


def _track_2(path: str, text: str) -> Named:
    """Track 2; in hexadecimal the separator is D, and F fills the last byte."""
    found = _TRACK_2.fullmatch(text.rstrip("F?"))
    if found is None:
        raise UnreadableError(path, "begins with no card number")
    return path, found[1], found[2] or ""


def _of_chip(icc_data: str) -> Iterator[Named]:
    try:
        data = bytes.fromhex(icc_data)
    except ValueError:
        return  # the dialect has it as something else than bytes
    if not any(tag in data for tag in _CARD_BYTES):
        return
    for tag, _at, start, end in _all_tags(data, _offset(data), 0, len(data), set()):
        path, value = f"DE 55 tag {tag}", data[start:end]
        if tag in TRACK_2_TAGS:
            yield _track_2(path, value.hex().upper())
        elif tag == PAN_TAG:
            number = value.hex().upper().rstrip("F")
            if not number.isdigit():
                raise UnreadableError(path, "is no card number")
            yield path, number, ""
        elif tag == EXPIRY_TAG:
            yield path, "", value.hex()[:4]
        elif tag == TRACK_1_TAG and (first := _TRACK_1.fullmatch(value.decode("ascii", "replace"))):
            yield path, first[1].replace(" ", ""), first[2] or ""


def _offset(data: bytes) -> int:
    """Start of the tags: at once, or behind a data set's number 01 and its length in two bytes, as at networks."""
    return 3 if data[:1] == b"\x01" and int.from_bytes(data[1:3], "big") == len(data) - 3 else 0


Tag = tuple[str, int, int, int]  # its name, where it begins, where its value begins and ends


def _all_tags(data: bytes, at: int, depth: int, size: int, filled: set[tuple[int, int]]) -> Iterator[Tag]:
    """Every tag, those inside of others, too, and those that are there where FF begins a tag.

    Args:
        size: end of the bytes that are read.
        filled: where bytes FF have been read both ways already.
    """
    for found in _tags(data, at, size):
        tag, _, start, until = found
        if tag == _FILL:
            yield from _as_tag(data, start, depth, size, filled)
            continue
        yield found
        if int(tag[:2], 16) & _CONSTRUCTED:
            yield from _all_tags(data, start, _deeper(depth), until, filled)


def _as_tag(data: bytes, at: int, depth: int, size: int, filled: set[tuple[int, int]]) -> Iterator[Tag]:
    """The tags inside of a tag that begins with the FF before `at`, and those behind it, as far as they can be read."""
    if (at, size) in filled:
        return
    filled.add((at, size))
    if len(filled) > _MOST_FILLS:
        raise UnreadableError("DE 55", "has too many bytes FF between tags")
    try:
        _, _, start, until = _tag(data, at - 1, size)
    except UnreadableError:
        return
    for begins, deep, end in ((start, _deeper(depth), until), (until, depth, size)):
        try:
            yield from _all_tags(data, begins, deep, end, filled)
        except UnreadableError:
            if len(filled) > _MOST_FILLS:
                raise


def _deeper(depth: int) -> int:
    if depth >= _DEEPEST:
        raise UnreadableError("DE 55", "has too many tags inside of tags")
    return depth + 1


def _tags(data: bytes, at: int, size: int | None = None) -> Iterator[Tag]:
    """The tags of one level; bytes 00 between them fill, and bytes FF, which come out as one tag `FF` without a value.

    Source: EMV Book 3 annex B; ISO/IEC 7816-4 5.2.2.
    """
    size = len(data) if size is None else size
    while at < size:
        begins = at
        if data[at] == 0x00:
            at += 1
            continue
        while at < size and data[at] == 0xFF:
            at += 1
        if at > begins:
            yield _FILL, begins, at, at
            continue
        found = _tag(data, at, size)
        yield found
        at = found[3]


def _tag(data: bytes, at: int, size: int) -> Tag:
    """The tag that begins at `at`."""
    begins, first = at, data[at]
    at += 1
    if first & _LONG_TAG == _LONG_TAG:
        while at < size and data[at] & _MORE:
            at += 1
        at += 1
    name_end = at
    length = data[at] if at < size else -1
    at += 1
    if length & _MORE and length >= 0:
        count = length & 0x7F
        length = int.from_bytes(data[at : at + count], "big") if 0 < count <= 3 and at + count <= size else -1
        at += count
    if length < 0 or at + length > size:
        raise UnreadableError("DE 55", "cannot be read")
    return data[begins:name_end].hex().upper(), begins, at, at + length
