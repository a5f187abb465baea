"""Texts as they read once they are decoded: escapes, hexadecimal, base64, chip data, other digits of Unicode; pure.

Called by `messages.card_numbers`, which looks for numbers in the result and masks their place.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

# Digits and the characters between them as ASCII in hexadecimal, and digits as EBCDIC.
_HEX = re.compile(r"3[0-9](?:[ :,]{0,2}(?:0x|\\x)?(?:3[0-9]|2[0dDeEfF]|5[fF])){11,}")
_HEX_EBCDIC = re.compile(r"[fF][0-9](?:[ :]?[fF][0-9]){11,}")
_HEX_BYTE = re.compile(r"(?:0x|\\x)?([0-9A-Fa-f]{2})")
_BASE64_DIGITS = re.compile(r"[MNO][DTjz][AEIMQUYcgk][wxyz0-5]")  # three ASCII digits
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*")
_BASE64_REACH = 48  # characters that a number may begin in front of what was recognised
_BASE64_AT_ONCE = 4096


class Decoded(NamedTuple):
    """Decoded text of text[start:end]; `step` characters of it make a character of `plain`, 0 where it varies."""

    plain: str
    start: int
    end: int
    step: float

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where plain[start:end] was written."""
        if not self.step:
            return self.start, self.end
        return self.start + int(start * self.step), min(self.end, self.start + int(end * self.step) + 1)


def encoded(text: str) -> Iterator[Decoded]:
    """Parts of `text` that are digits in hexadecimal (ASCII or EBCDIC) or in base64."""
    for pattern, codec in ((_HEX, "latin-1"), (_HEX_EBCDIC, "cp037")):
        for match in pattern.finditer(text):
            plain = bytes.fromhex("".join(_HEX_BYTE.findall(match.group()))).decode(codec)
            yield Decoded(plain, match.start(), match.end(), 0)
    done = [0] * 4  # for each alignment: the end of the decoded part
    for match in _BASE64_DIGITS.finditer(text):
        if match.start() < done[match.start() % 4]:
            continue
        begin, first = match.start(), max(0, match.start() - _BASE64_REACH)
        while begin - 4 >= first and _BASE64.fullmatch(text, begin - 4, begin):
            begin -= 4
        coded = _BASE64.match(text, begin, begin + _BASE64_AT_ONCE)
        letters = coded.group() if coded else ""
        letters = letters[: len(letters) - (len(letters) % 4 == 1)]
        padded = letters.translate(_URL_SAFE) + "=" * (-len(letters) % 4)
        end = begin + len(letters)
        yield Decoded(base64.urlsafe_b64decode(padded).decode("latin-1"), begin, end, 4 / 3)
        done[match.start() % 4] = end - (_BASE64_REACH if len(letters) == _BASE64_AT_ONCE else 0)


_URL_SAFE = str.maketrans("+/", "-_")
# Tag, length in bytes, digits of a card number. Source: EMV Book 3, annex A (5A, 57); EMV Book C-2, annex A (9F6B).
_CHIP_NUMBER = re.compile(r"5[Aa]0([6-9Aa])(?=([0-9]{12,19}))")
_CHIP_TRACK = re.compile(r"(?:57|9[Ff]6[Bb])(?:0[7-9A-Fa-f]|1[0-3])(?=([0-9]{12,19})[Dd])")


def chip_values(text: str) -> Iterator[Decoded]:
    """Rows of digits that are the card number of chip data in hexadecimal: tags 5A, 57 and 9F6B."""
    for match in _CHIP_NUMBER.finditer(text):
        start, size = match.start(2), 2 * int(match[1], 16)
        value = text[start : start + size]
        digits = value.rstrip("Ff")
        if len(value) == size and digits.isdecimal() and digits.isascii():
            yield Decoded(digits, start, start + len(digits), 1)
    for match in _CHIP_TRACK.finditer(text):
        yield Decoded(match[1], match.start(1), match.end(1), 1)


_ESCAPE = re.compile(
    r"((?:%(?:25)*[0-9A-Fa-f]{2})+)|&#[xX]([0-9A-Fa-f]{1,6});?|&#([0-9]{1,7});?|\\u([0-9A-Fa-f]{4})"
    r"|\\x([0-9A-Fa-f]{2})|(\\[nrt]|&(?:nbsp|ensp|emsp|thinsp|ndash|mdash|hyphen|dash|period|sol|lowbar);)"
    r"|(&(?:shy|zwj|zwnj);)"
)
_PERCENT = re.compile(r"%(?:25)*([0-9A-Fa-f]{2})")
_INVISIBLE = frozenset({"Cf", "Mn", "Me", "Mc"})  # Unicode categories


def folded(text: str) -> tuple[str, list[int], list[int]]:
    """`text` without escapes and invisible characters, in NFKC; and where each character began and ended in `text`."""
    letters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []

    def put(written: str, start: int, end: int) -> None:
        for letter in written:
            letters.append(letter)
            starts.append(start)
            ends.append(end)

    at = 0
    for match in _ESCAPE.finditer(text):
        for place in range(at, match.start()):
            put(_folded_letter(text[place]), place, place + 1)
        at = match.end()
        if match[1]:
            octets = [(one.start(), one.end(), int(one[1], 16)) for one in _PERCENT.finditer(match[1])]
            written = bytes(octet for _, _, octet in octets).decode("utf-8", "replace")
            plain = len(written) == len(octets)
            for number, letter in enumerate(written):
                span = octets[number][:2] if plain else (0, len(match[1]))
                put(_folded_letter(letter), match.start() + span[0], match.start() + span[1])
        elif code := match[2] or match[4] or match[5] or match[3]:
            number = int(code, 10 if match[3] else 16)
            put(_folded_letter(chr(number)) if number < 0x110000 else " ", match.start(), at)
        elif match[6]:
            put(" ", match.start(), at)
    for place in range(at, len(text)):
        put(_folded_letter(text[place]), place, place + 1)
    return "".join(letters), starts, ends


def _folded_letter(letter: str) -> str:
    if letter < "\x80":
        return letter
    if unicodedata.category(letter) in _INVISIBLE:
        return ""
    value = unicodedata.digit(letter, None)
    return letter if value is None and letter.isalpha() else str(value) if value is not None else _compatible(letter)


def _compatible(letter: str) -> str:
    return unicodedata.normalize("NFKC", letter)
