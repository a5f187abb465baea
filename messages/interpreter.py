"""The interpreter: bytes ⇄ `Message` through pyiso8583, element by element, with a reason for every refusal.

The codec calls it for element sets that are rare and for everything that compiled code refused. It adds
to pyiso8583 what the standard's formats demand (`formats.problem`) and where pyiso8583 is lax about
lengths, so that compiled code and this accept and reject the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import iso8583

from messages.dialect import Dialect, Element
from messages.errors import DecodeError, EncodeError
from messages.formats import PATTERNS, problem
from messages.header import Header, read_header
from messages.message import Message

_Difference = Callable[[str, str, str], str]  # text, what to replace, by what


class _Rule(NamedTuple):
    """What the loops need to know of an element, ready to hand."""

    key: str
    element: Element
    matches: Callable[[str], re.Match[str] | None]
    difference: _Difference | None
    sizes: range  # characters that a value may have


_Parts = dict[str, dict[str, bytes]]  # pyiso8583's: key → its length and data as they stood in the bytes


class Interpreter:
    """A dialect through pyiso8583; keeps nothing between calls."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._spec = dialect.pyiso8583_spec()
        self._rules = {
            number: _Rule(
                key=str(number),
                element=element,
                matches=PATTERNS[element.kind][0].fullmatch,
                difference=_difference(element),
                sizes=range(0 if element.length_kind else element.characters, element.characters + 1),
            )
            for number, element in dialect.elements.items()
        }

    def decode(self, data: bytes) -> Message:
        """Bytes of one frame → message.

        Raises:
            DecodeError: the first thing in the bytes that is not as the dialect says.
        """
        header = read_header(self.dialect, data)
        try:
            texts, parts = iso8583.decode(data, self._spec)
        except iso8583.DecodeError as error:
            self._refuse(header, error)
        elements = self._elements(header, header.numbers, texts, parts)
        return Message(header.mti, elements)

    def encode(self, message: Message) -> bytes:
        """Message → bytes of one frame.

        Raises:
            EncodeError: path "MTI" or the first element (by number) that the dialect cannot express.
        """
        mti, elements = message.mti, message.elements
        if not isinstance(mti, str) or len(mti) != 4 or not (mti.isascii() and mti.isdigit()):
            raise EncodeError("MTI", "expected 4 digits")
        unknown = [number for number in elements if number not in self.dialect.elements]
        if unknown:
            path = f"DE {unknown[0]}" if isinstance(unknown[0], int) else "elements"
            raise EncodeError(path, f"{self.dialect.name} does not have it")
        texts = {"t": mti}
        for number in sorted(elements):
            key, element, matches, difference, sizes = self._rules[number]
            value = elements[number]
            if not isinstance(value, str) or matches(value) is None or len(value) not in sizes:
                raise EncodeError(element.path, problem(element, value) or "is not as the dialect says")
            texts[key] = difference(value, "=", "D") if difference else value
        try:
            data, _ = iso8583.encode(texts, self._spec)
        except iso8583.EncodeError as error:
            raise EncodeError(_path(error.field), error.msg) from None
        return bytes(data)

    def _elements(
        self, header: Header, numbers: tuple[int, ...], texts: dict[str, str], parts: _Parts
    ) -> dict[int, str]:
        at = header.end
        elements = {}
        for number in numbers:
            key, element, matches, difference, _ = self._rules[number]
            part = parts[key]
            length = part["len"]
            if length and element.length_encoding == "ascii" and not length.isdigit():
                # int() takes " 7", "+7" and "1_0" for numbers, and so does pyiso8583
                raise DecodeError(element.path, at, f"expected {element.length_kind} length digits")
            at += len(length)
            value = difference(texts[key], "D", "=") if difference else texts[key]
            if matches(value) is None:  # pyiso8583 has seen to the length
                raise DecodeError(element.path, at, problem(element, value) or "is not as the dialect says")
            elements[number] = value
            at += len(part["data"])
        return elements

    def _refuse(self, header: Header, error: iso8583.DecodeError) -> NoReturn:
        """An earlier element may be wrong in a way that pyiso8583 does not mind: that comes first."""
        key = error.field
        trailing = error.msg.startswith("Extra data")
        stop = int(key) if key.isdigit() and key != "1" else 0
        read = tuple(number for number in header.numbers if number < stop or trailing)
        self._elements(header, read, error.doc_dec, error.doc_enc)
        if trailing:
            raise DecodeError("message", error.pos, f"{len(error.s) - error.pos} bytes after the last element")
        raise DecodeError(_path(key), error.pos, error.msg[0].lower() + error.msg[1:])


def _path(key: str) -> str:
    names = {"h": "header", "t": "MTI", "p": "bitmap", "1": "bitmap"}
    return names.get(key, f"DE {key}")


def _difference(element: Element) -> _Difference | None:
    """How our value differs from pyiso8583's; None where it does not."""
    if element.encoding == "hex":
        return lambda text, old, new: text.upper()
    if element.kind == "z" and element.encoding == "bcd":
        return str.replace  # the separator of a track is "=" in text, a D nibble in BCD
    return None
