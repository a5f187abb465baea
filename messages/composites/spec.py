"""Description of elements with parts; part of a dialect.

A composite's parts are `messages.dialect.Element`s: they have encodings and lengths of their own, over the bytes of the
element's value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from messages.dialect import Element


class Composite(msgspec.Struct, frozen=True, kw_only=True):
    """One element's inside.

    Args:
        kind: "positional": all parts one after the other, the last ones may be missing; "ber-tlv": tags and lengths as
            in ISO/IEC 8825-1, parts only name tags; "tag-text": a tag of fixed size, a length, a value, repeated;
            "bitmapped": a bitmap, then the parts that it announces.
        parts: key → part: place ("1", "2" …), tag ("9F26"), or bit ("1" …). Tags without a part are kept all the same.
        rows: of "positional": the parts come again and again until the value ends, none missing.
        tag_size: characters of a tag, of "tag-text".
        tag_encoding: of a tag of "tag-text": "ascii", "cp037" …, or "binary" (`tag_size` is bytes, keys are hex).
        length_size: characters of the length behind a tag, of "tag-text"; 0: lengths follow from the parts' formats.
        length_encoding: of that length: "ascii", "cp037" …, "bcd" or "binary" (`length_size` is bytes).
        bitmap_size: bytes of the bitmap, of "bitmapped".
        bitmap_encoding: "binary" or "hex".
    """

    kind: str
    parts: dict[str, Element] = {}
    rows: bool = False
    tag_size: int = 2
    tag_encoding: str = "ascii"
    length_size: int = 2
    length_encoding: str = "ascii"
    bitmap_size: int = 8
    bitmap_encoding: str = "binary"

    def __hash__(self) -> int:  # the parts are a dict: the hash made by itself would refuse it, and so the element's
        return hash((self.kind, *self.parts))
