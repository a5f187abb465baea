"""What can still be read of a message that the dialect does not accept.

Bytes and the decoder's error go in; a `Message` with everything before the fault comes out, enough to answer with
DE 39 = 30. Called by the acquirer port.
"""

from __future__ import annotations

import re

from messages.codec import Codec
from messages.dialect import Dialect
from messages.errors import DecodeError
from messages.header import bitmap_of, mti_size, read_header
from messages.message import Message

_ELEMENT = re.compile(r"DE (\d+)")


def salvage(codec: Codec, dialect: Dialect, frame: bytes, error: DecodeError) -> Message | None:
    """The message up to the element that `error` names; None where type, DE 7 or DE 11 cannot be had."""
    named = _ELEMENT.match(error.path)
    if named is None or error.offset is None:
        return None
    try:
        header = read_header(dialect, frame)
        sound = tuple(number for number in header.numbers if number < int(named[1]))
        bitmap = bitmap_of(sound)
        head = bytes.fromhex(bitmap) if dialect.bitmap_encoding == "binary" else bitmap.encode()
        message = codec.decode(frame[: mti_size(dialect)] + head + frame[header.end : error.offset])
    except DecodeError:
        return None
    return message if 7 in message.elements and 11 in message.elements else None
