"""A decoded message: its type and its elements by number; made by the codec, read by everybody.

Values are text. Binary elements (DE 52, 55, 64, 128) are upper-case hexadecimal. Bitmaps are not
elements: they follow from the keys. `repr` is masked, so that a message in a log or traceback is harmless.
"""

from __future__ import annotations


class Message:
    """An ISO 8583 message.

    Args:
        mti: message type indicator, 4 digits.
        elements: data elements by number, 2 to 128; the message keeps and shares this dict.
    """

    __slots__ = ("elements", "mti")

    mti: str
    elements: dict[int, str]

    def __init__(self, mti: str, elements: dict[int, str]) -> None:
        self.mti = mti
        self.elements = elements

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self.mti == other.mti and self.elements == other.elements

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        from messages.mask import masked  # mask reads messages: imported here, where the circle is harmless

        shown = ", ".join(f"{number}: {value!r}" for number, value in masked(self).items())
        return f"Message({self.mti!r}, {{{shown}}})"
