"""Dialects that say what the shipped ones do not, random messages in any dialect, and pyiso8583 as an oracle."""

from __future__ import annotations

import codecs
import random
import string
import tomllib
from typing import Any

import iso8583

from messages.charsets import FROM_LATIN, TO_LATIN
from messages.dialect import Dialect, Element, load_dialect, parse_dialect
from messages.lengths import counted_in_bytes
from messages.message import Message

# ASCII numbers beside BCD ones, ASCII lengths before binary data, BCD lengths before text, pads on either side, kinds
# that the 1987 elements do not use.
MIXED = """
name = "mixed"
encoding = { mti = "ascii", bitmap = "binary", length = "ascii", n = "bcd", z = "bcd", text = "ascii", b = "binary", \
pad_n = "right F", pad_z = "left 0" }
[elements]
2 = { format = "n..19" }
3 = { format = "n 6", encoding = "ascii" }
4 = { format = "n 11" }
5 = { format = "n 3", pad = "left 0" }
6 = { format = "z 37" }
7 = { format = "z 5", encoding = "ascii" }
8 = { format = "a 8" }
9 = { format = "a..8", length = "bcd" }
10 = { format = "x+n 8" }
11 = { format = "x+n..9" }
35 = { format = "z..37" }
36 = { format = "z...104", pad = "right D" }
37 = { format = "an..12" }
38 = { format = "n..7", encoding = "ascii" }
43 = { format = "ans...99", length = "bcd" }
52 = { format = "b 64", encoding = "hex" }
55 = { format = "b...255" }
56 = { format = "b..40", encoding = "hex", length = "bcd" }
70 = { format = "n 3", pad = "left 1" }
128 = { format = "b 64" }
"""
# Three code pages beside ASCII and BCD, lengths in another encoding than their values, lengths that count otherwise.
EBCDIC = """
name = "ebcdic"
encoding = { mti = "cp500", bitmap = "ebcdic-hex", length = "cp037", n = "cp037", z = "cp037", text = "cp1047", \
b = "ebcdic-hex", pad_n = "left 0", pad_z = "right F" }
[elements]
2 = { format = "n..19" }
3 = { format = "n 6" }
4 = { format = "n 12", encoding = "cp500" }
5 = { format = "n 5", encoding = "bcd" }
6 = { format = "x+n 8" }
7 = { format = "n 10", encoding = "ascii" }
8 = { format = "ans 8" }
9 = { format = "ans..40", length = "cp1047" }
10 = { format = "ans..40", length = "ascii" }
11 = { format = "ans......2000", length = "binary" }
12 = { format = "an 12", encoding = "cp037" }
13 = { format = "an..12", encoding = "cp037", length_count = "nibbles" }
35 = { format = "z..37" }
36 = { format = "z..37", encoding = "bcd", length = "binary" }
52 = { format = "b 64" }
53 = { format = "b 64", encoding = "hex" }
55 = { format = "b...255" }
56 = { format = "b...255", encoding = "binary", length_count = "digits" }
70 = { format = "n 3" }
128 = { format = "b 64" }
"""
# Features that pyiso8583 cannot express: BCD counted in bytes, amounts in BCD, hexadecimal counted in octets.
BEYOND = """
name = "beyond"
encoding = { mti = "bcd", bitmap = "binary", length = "binary", n = "bcd", z = "bcd", text = "ascii", b = "binary", \
"x+n" = "bcd", pad_n = "left 0", pad_z = "right F" }
[elements]
2 = { format = "n..19", length_count = "bytes", pad = "right F" }
3 = { format = "n 6" }
4 = { format = "n..12", length_count = "bytes", pad = "left 0" }
5 = { format = "n..12", length_count = "bytes", pad = "" }
6 = { format = "x+n 8" }
7 = { format = "x+n 7" }
8 = { format = "n 3" }
35 = { format = "z..37", length_count = "bytes" }
55 = { format = "b...255", encoding = "hex", length_count = "octets" }
56 = { format = "b...255", encoding = "ebcdic-hex", length = "ascii", length_count = "octets" }
57 = { format = "b...255", encoding = "ebcdic-hex", length = "cp500" }
64 = { format = "b 64" }
70 = { format = "n 3" }
"""
FILLED = """
name = "filled"
encoding = { mti = "ascii", bitmap = "hex", length = "ascii", n = "ascii", z = "ascii", text = "ascii", b = "hex", \
fill_n = "left 0", fill_text = "right  ", pad_n = "left 0" }
[elements]
3 = { format = "n 6" }
4 = { format = "n 11", encoding = "bcd" }
5 = { format = "a 8", encoding = "cp500" }
6 = { format = "an 5", fill = "left x" }
7 = { format = "x+n 8", fill = "left 0" }
8 = { format = "x+n 8", fill = "left 0", encoding = "bcd" }
9 = { format = "b 64", fill = "right 0" }
10 = { format = "z 10", fill = "right =" }
11 = { format = "ans..9" }
41 = { format = "ans 8" }
52 = { format = "b 64", fill = "left F", encoding = "binary" }
"""
_THIRD = """
{tertiary}
encoding = {{ mti = "{mti}", bitmap = "{bitmap}", length = "ascii", n = "ascii", z = "ascii", text = "ascii", \
b = "hex" }}
[elements]
3 = {{ format = "n 6" }}
48 = {{ format = "ans...99" }}
64 = {{ format = "b 64" }}
66 = {{ format = "n 1" }}
70 = {{ format = "n 3" }}
128 = {{ format = "b 64" }}
130 = {{ format = "n..11" }}
150 = {{ format = "ans 4" }}
192 = {{ format = "b 64" }}
"""


def parsed(text: str) -> Dialect:
    """A dialect from the text of its file."""
    return parse_dialect(tomllib.loads(text))


# Both bitmaps in each message, and nothing that says so.
ALWAYS_TWO = """
name = "always-two"
secondary = "always"
encoding = { mti = "ascii", bitmap = "hex", length = "ascii", n = "ascii", z = "ascii", text = "ascii", b = "binary" }
[elements]
2 = { format = "n..19" }
3 = { format = "n 6" }
48 = { format = "ans...99" }
64 = { format = "b 64" }
65 = { format = "n 1" }
70 = { format = "n 3" }
128 = { format = "b 64" }
"""


def third(name: str, tertiary: str, mti: str, bitmap: str) -> Dialect:
    """A dialect with three bitmaps."""
    return parsed(f'name = "{name}"' + _THIRD.format(tertiary=f'tertiary = "{tertiary}"', mti=mti, bitmap=bitmap))


SHIPPED = ("iso87-ascii", "iso87-bcd", "iso87-ebcdic", "iso93-ascii", "iso93-binary", "iso2003-ascii")
DIALECTS: dict[str, Dialect] = {
    **{name: load_dialect(name) for name in SHIPPED},
    "mixed": parsed(MIXED),
    "ebcdic": parsed(EBCDIC),
    "beyond": parsed(BEYOND),
    "filled": parsed(FILLED),
    "always-two": parsed(ALWAYS_TWO),
    "third": third("third", "contiguous", "ascii", "hex"),
    "third-ebcdic": third("third-ebcdic", "contiguous", "cp037", "ebcdic-hex"),
    "third-inside": third("third-inside", "element", "bcd", "binary"),
}

ALPHABETS = {
    "n": string.digits,
    "a": string.ascii_letters + " ",
    "an": string.ascii_letters + string.digits + " ",
    "ans": "".join(map(chr, range(0x20, 0x7F))),
    "z": string.digits + "=",
    "b": "0123456789ABCDEF",
}


def value(chance: random.Random, element: Element) -> str:
    """A valid value of an element, one that comes back as it is; lengths lean towards the ends of their range."""
    smallest = 0 if element.kind in ("a", "an", "ans", "b") else 2
    size = element.max_length
    if element.length_kind:
        size = chance.choice((smallest, size, chance.randint(smallest, size), chance.randint(smallest, min(size, 20))))
        if counted_in_bytes(element) and element.pad[-1:] in ("", "0"):
            size -= size % 2  # whether a zero is a pad, such a length does not say
    return text_of_size(chance, element, size)


def text_of_size(chance: random.Random, element: Element, size: int) -> str:
    """A value of so many digits, characters or bytes."""
    if element.kind == "b":
        size *= 2
    if element.kind == "x+n":
        return chance.choice("CD") + "".join(chance.choices(string.digits, k=size - 1))
    return "".join(chance.choices(ALPHABETS[element.kind], k=size))


def message(chance: random.Random, dialect: Dialect) -> Message:
    """A valid message, with few, some or all of the elements."""
    numbers = list(dialect.elements)
    chosen = chance.sample(numbers, chance.choice((0, 1, 2, 5, 19, len(numbers))) % (len(numbers) + 1))
    mti = "".join(chance.choices(string.digits, k=4))
    return Message(mti, {number: value(chance, dialect.elements[number]) for number in chosen})


def their_texts(dialect: Dialect, given: Message) -> dict[str, str]:
    """A message as pyiso8583 has it, bitmaps left out."""
    texts = {"t": given.mti}
    for number, text in given.elements.items():
        element = dialect.elements[number]
        packed_track = element.kind == "z" and element.encoding == "bcd"
        texts[str(number)] = text.replace("=", "D") if packed_track else text
    return texts


def decoded_by_pyiso8583(dialect: Dialect, data: bytes) -> dict[str, str]:
    """Bytes → elements by pyiso8583, bitmaps left out."""
    texts, _ = iso8583.decode(data, dialect.pyiso8583_spec())
    return {
        key: text for key, text in texts.items() if key not in ("p", "1") and not (key == "65" and dialect.tertiary)
    }


def encoded_by_pyiso8583(dialect: Dialect, given: Message) -> bytes:
    """Message → bytes by pyiso8583."""
    data, _ = iso8583.encode(their_texts(dialect, given), dialect.pyiso8583_spec())
    return bytes(data)


def _search(name: str) -> Any:
    """Python has no code page 1047, which pyiso8583 would ask it for."""
    if name != "cp1047":
        return None
    return codecs.CodecInfo(
        lambda text, errors="strict": (text.encode("latin-1").translate(FROM_LATIN["cp1047"]), len(text)),
        lambda raw, errors="strict": (bytes(raw).translate(TO_LATIN["cp1047"]).decode("latin-1"), len(raw)),
        name="cp1047",
    )


codecs.register(_search)
