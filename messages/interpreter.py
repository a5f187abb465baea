"""The interpreter: bytes ⇄ `Message`, element by element, with a reason for every refusal.

The codec calls it for element sets that are rare and for everything that compiled code refused. Each element is read by
an `ElementCodec` of its own, made once for the dialect, so that a message which nobody has seen before costs less than
compiling would. Compiled code and this accept and refuse the same; the tests hold both against pyiso8583.
"""

from __future__ import annotations

from contextlib import suppress

from messages.dialect import Dialect
from messages.element_codec import ElementCodec
from messages.errors import DecodeError, EncodeError
from messages.header import (
    TERTIARY,
    Header,
    bitmap_bytes,
    bitmap_size,
    head_bitmaps,
    known,
    mti_bytes,
    read_bitmap,
    read_header,
)
from messages.message import Message

_SECONDARY_FIRST = 65  # the first number of the second bitmap


class Interpreter:
    """One dialect; keeps nothing between calls."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        codecs = {number: ElementCodec(element) for number, element in dialect.elements.items()}
        self._readers = {number: codec.read for number, codec in codecs.items()}
        self._writers = {number: codec.write for number, codec in codecs.items()}
        self._bitmap_inside = dialect.tertiary == "element"

    def decode(self, data: bytes) -> Message:
        """Bytes of one frame → message.

        Raises:
            DecodeError: the first thing in the bytes that is not as the dialect says.
        """
        header = read_header(self.dialect, data)
        elements: dict[int, str] = {}
        self._read(data, header, elements)
        return Message(header.mti, elements)

    def partial(self, data: bytes) -> Message:
        """The part of a message before its first fault, for an answer that says so.

        Raises:
            DecodeError: not even type and bitmaps can be read.
        """
        header = read_header(self.dialect, data)
        elements: dict[int, str] = {}
        with suppress(DecodeError):  # the caller knows the fault already
            self._read(data, header, elements)
        return Message(header.mti, elements)

    def encode(self, message: Message) -> bytes:
        """Message → bytes of one frame.

        Raises:
            EncodeError: path "MTI" or the first element (by number) that the dialect cannot express.
        """
        mti, elements = message.mti, message.elements
        if not isinstance(mti, str) or len(mti) != 4 or not (mti.isascii() and mti.isdigit()):
            raise EncodeError("MTI", "expected 4 digits")
        writers = self._writers
        for number in elements:
            if number not in writers:
                path = f"DE {number}" if isinstance(number, int) else "elements"
                raise EncodeError(path, f"{self.dialect.name} does not have it")
        numbers = sorted(elements)
        head, inside = head_bitmaps(self.dialect, numbers)
        pieces = [mti_bytes(self.dialect, mti), bitmap_bytes(self.dialect, head)]
        for number in numbers:
            if inside and number >= _SECONDARY_FIRST:
                pieces.append(bitmap_bytes(self.dialect, inside))
                inside = ""
            pieces.append(writers[number](elements[number]))
        return b"".join(pieces)

    def _read(self, data: bytes, header: Header, elements: dict[int, str]) -> None:
        """Fills `elements` until a fault is raised."""
        readers, at, numbers = self._readers, header.end, header.numbers
        if self._bitmap_inside and TERTIARY in numbers:
            at, numbers = self._read_to_bitmap(data, at, numbers, elements)
        for number in numbers:
            elements[number], at = readers[number](data, at)
        if at != len(data):
            raise DecodeError("message", at, f"{len(data) - at} bytes after the last element")

    def _read_to_bitmap(
        self, data: bytes, at: int, numbers: tuple[int, ...], elements: dict[int, str]
    ) -> tuple[int, tuple[int, ...]]:
        """Reads up to the bitmap that is DE 65, and it: the next byte, and the numbers that follow."""
        where = numbers.index(TERTIARY)
        for number in numbers[:where]:
            elements[number], at = self._readers[number](data, at)
        third = read_bitmap(self.dialect, data, at, 2)
        known(self.dialect, third, at)
        return at + bitmap_size(self.dialect), (*numbers[where + 1 :], *third)
