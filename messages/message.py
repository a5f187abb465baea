"""A decoded message: its type and its elements by number; made by the codec, read by everybody.

Values are text. Binary elements (DE 52, 55, 64, 128) are upper-case hexadecimal. Bitmaps are not
elements: they follow from the keys. `repr` is masked, so that a message in a log or traceback is harmless.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Message(msgspec.Struct, gc=False):  # text only: cannot be part of a cycle
    """An ISO 8583 message; mutable, equal by value.

    Args:
        mti: message type indicator, 4 digits.
        elements: data elements by number, 2 to 128; the message keeps and shares this dict.
    """

    mti: str
    elements: dict[int, str]

    def __repr__(self) -> str:
        from messages.mask import masked  # mask reads messages: imported here, where the circle is harmless

        shown = ", ".join(f"{number}: {value!r}" for number, value in masked(self).items())
        return f"Message({self.mti!r}, {{{shown}}})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # a struct's own would show the values as they are
        from messages.mask import masked

        return [("mti", self.mti), ("elements", masked(self))]
