"""The result of an input in one word, for all targets; and the values that an error may never contain."""

from __future__ import annotations

import re

from messages.errors import DecodeError, EncodeError, MessagesError

_NUMBER = re.compile(r"\d+")
_NAMED = re.compile(r"'[^']*'|\"[^\"]*\"")
_LONG_NUMBER = re.compile(r"\d{12,}")
_LONGEST = 60  # characters of a word: the head of a reason is enough to identify it


def word(error: MessagesError) -> str:
    """The kind of an error, without what differs from input to input; asserts that it gives no value away."""
    text = str(error)
    assert text, "an error without words"
    assert _LONG_NUMBER.search(text) is None, "an error that repeats a number"
    assert "a bug of ours" not in text, text
    if isinstance(error, DecodeError | EncodeError):
        assert error.path and error.reason
    return plain(text)


def plain(text: str) -> str:
    """A text without its numbers and names."""
    return _NUMBER.sub("N", _NAMED.sub("X", text))[:_LONGEST]


def decode_word(error: DecodeError, data: bytes) -> str:
    """The same for what was read from bytes: its offset is one of them, or their end."""
    assert error.offset is None or 0 <= error.offset <= len(data), f"offset {error.offset} of {len(data)} bytes"
    return word(error)
