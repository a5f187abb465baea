"""Code pages of text on the wire: bytes in one, Latin-1 bytes out, and back, by 256-byte tables; pure.

Called by the codec wherever a dialect says "cp037", "cp500" or "cp1047". A table for `bytes.translate` costs a fifth of
Python's own codec, and Python has none for 1047. All three pages are permutations of Latin-1: nothing is lost.

Source: code pages 037 and 500 as in Python's codecs; 1047 is 037 with six places changed in pairs (IBM, CDRA registry).
"""

from __future__ import annotations

_ALL = bytes(range(256))
_CHANGED_IN_1047 = {0x5F: 0xB0, 0xAD: 0xBA, 0xBD: 0xBB}  # ^ and ¬, [ and Ý, ] and ¨


def _cp1047() -> bytes:
    table = bytearray(_ALL.decode("cp037").encode("latin-1"))
    for one, other in _CHANGED_IN_1047.items():
        table[one], table[other] = table[other], table[one]
    return bytes(table)


# code page → what each of its bytes is in Latin-1
TO_LATIN: dict[str, bytes] = {
    "cp037": _ALL.decode("cp037").encode("latin-1"),
    "cp500": _ALL.decode("cp500").encode("latin-1"),
    "cp1047": _cp1047(),
}
# code page → what each byte of Latin-1 is in it
FROM_LATIN: dict[str, bytes] = {
    page: bytes(table.index(code) for code in range(256)) for page, table in TO_LATIN.items()
}
TEXT = ("ascii", *TO_LATIN)  # everything that text may be in


def page_of(encoding: str) -> str:
    """The code page behind an encoding of elements, lengths or bitmaps; "" where the bytes are ASCII or no text.

    Digits and the letters A to F stand in the same places in all three, so hexadecimal in EBCDIC is read by one.
    """
    if encoding == "ebcdic-hex":
        return "cp037"
    return encoding if encoding in TO_LATIN else ""


def latin(page: str, raw: bytes) -> bytes:
    """Bytes of a code page, or of ASCII where `page` is "", as Latin-1."""
    return raw.translate(TO_LATIN[page]) if page else raw


def wire(page: str, raw: bytes) -> bytes:
    """Latin-1 bytes as they are in a code page, or in ASCII where `page` is ""."""
    return raw.translate(FROM_LATIN[page]) if page else raw
