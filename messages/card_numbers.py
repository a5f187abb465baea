"""Card numbers in texts: any text in, the places where a card number is written out; pure.

Called wherever a card number is refused (gateway, tokenizer, names of keys) or masked (messages, stored texts, logs).
A card number is 12 to 19 digits with the first digits of a scheme, a length that this scheme has, and a Luhn digit that
is right. It counts however it is written:

- in one piece or in groups, with up to four characters that are neither letters nor digits between two digits;
- in any decimal digits of Unicode, with invisible characters and combining marks between them;
- with zeros in front, with an expiry date or a code behind, as the head of a track, as a number with an exponent;
- percent-encoded (also twice), in HTML or backslash escapes, in hexadecimal (ASCII or EBCDIC), in base64;
- as chip data in hexadecimal (tags 5A, 57, 9F6B).

Some values look like one by chance: UUIDs, IP addresses, dates and times, IBANs, coordinates and other
decimal fractions, telephone numbers (`+` in front, an area code in brackets), IMEIs, EANs, parcel and Amazon order
numbers (`messages.card_look_alikes`, `_is_other_number`). A number that is partly in a look-alike and partly beside it
counts where its groups are those of a card, as in `(4242) 4242 4242 4242`. Lists of prices and quantities look like
one, too: groups and separators must be those of a number (`messages.card_layouts`). Masks and logs take any groups.
Lengths that are rare for a scheme count only in one piece or in equal groups.

The vault's own surrogates (BIN 990000) are no card numbers: no scheme has 99, and they are of no use outside. Network
tokens are numbers of their schemes' ranges, so they are found like card numbers.

The time is linear in the length of any text: 1 MB of the worst takes below 6 s, a text of 200 characters without long
numbers about 20 µs (docs/figures.md).
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from messages.card_layouts import PRINTED, is_in_brackets, is_layout, is_printed
from messages.card_look_alikes import crossed_out, look_alikes
from messages.card_spellings import chip_values, encoded, folded

_16_TO_19 = (16, 17, 18, 19)

# (first, last, scheme, lengths): prefixes of equal length; the first row that fits counts.
# Source: ISO/IEC 7812-1 (registry of issuers); ranges and lengths as published by the schemes.
SCHEMES: tuple[tuple[str, str, str, tuple[int, ...]], ...] = (
    ("4", "4", "visa", (13, 16, 19)),
    ("51", "55", "mastercard", (16,)),
    ("2221", "2720", "mastercard", (16,)),
    ("34", "34", "amex", (15,)),
    ("37", "37", "amex", (15,)),
    ("6011", "6011", "discover", _16_TO_19),
    ("644", "649", "discover", _16_TO_19),
    ("65", "65", "discover", _16_TO_19),
    ("300", "305", "diners", (14, 15, *_16_TO_19)),
    ("3095", "3095", "diners", (14, 15, *_16_TO_19)),
    ("36", "36", "diners", (14, 15, *_16_TO_19)),
    ("38", "39", "diners", (14, 15, *_16_TO_19)),
    ("3528", "3589", "jcb", _16_TO_19),
    ("62", "62", "unionpay", _16_TO_19),
    ("81", "81", "unionpay", _16_TO_19),
    # Short Maestro numbers exist in few ranges; in all of its ranges they would be telephone numbers (57, 58: Colombia,
    # Venezuela, 12 digits).
    ("5018", "5018", "maestro", (12, 13, 14, 15, *_16_TO_19)),
    ("5020", "5020", "maestro", (12, 13, 14, 15, *_16_TO_19)),
    ("5038", "5038", "maestro", (12, 13, 14, 15, *_16_TO_19)),
    ("5893", "5893", "maestro", (12, 13, 14, 15, *_16_TO_19)),
    ("6304", "6304", "maestro", (12, 13, 14, 15, *_16_TO_19)),
    ("6759", "6759", "maestro", (12, 13, 14, 15, *_16_TO_19)),
    ("6761", "6763", "maestro", (12, 13, 14, 15, *_16_TO_19)),
    ("50", "50", "maestro", _16_TO_19),
    ("56", "58", "maestro", _16_TO_19),
    ("6390", "6390", "maestro", _16_TO_19),
    ("67", "67", "maestro", _16_TO_19),
    ("2200", "2204", "mir", _16_TO_19),
)
LUHN_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)  # value of a digit at the places that count twice
SHORTEST, LONGEST = 12, 19  # digits

_PREFIX = 4  # digits that identify the scheme


def _lengths_by_prefix() -> dict[str, tuple[int, ...]]:
    table: dict[str, tuple[int, ...]] = {}
    for first, last, _, lengths in SCHEMES:
        for prefix in range(int(first.ljust(_PREFIX, "0")), int(last.ljust(_PREFIX, "9")) + 1):
            table.setdefault(f"{prefix:04d}", lengths)
    return table


_LENGTHS = _lengths_by_prefix()
# Lengths that nearly all cards of a scheme have, with any separators.
_USUAL = {"3": (14, 15, 16), "2": (16,), "4": (16,), "5": (16,), "6": (16,), "8": (16,)}
_LEAST_WITH_FRACTION = 1000  # floats below are looked at without their fraction: up to 17 digits that mean nothing
_LONGEST_PHONE = 15  # digits behind the "+". Source: ITU-T E.164, 6.1

_RUN = re.compile(r"[0-9](?:[\W_]{0,4}[0-9]){11,}")
_DIGITS = re.compile(r"[0-9]+")
_HAS_EXPONENT = re.compile(r"[0-9][eE]")
_EXPONENT = re.compile(r"(?<![\w.])([0-9]{1,20})(?:[.,]([0-9]{1,20}))?[eE]([+-]?[0-9]{1,2})(?!\w)")
_EXPIRY = re.compile(r"(?:(?:0[1-9]|1[0-2])(?:20)?\d\d|\d\d(?:0[1-9]|1[0-2]))?(?:\d{3,4})?")  # with a code, or only one
# 13 digits that begin so are a mobile telephone's in Germany or Austria without its "+".
_MOBILE = ("4915", "4916", "4917", "4366", "4367", "4368", "4369")


class Found(NamedTuple):
    """A card number at text[start:end], and its digits. `run` is where the digits and separators behind it end."""

    start: int
    end: int
    run: int
    number: str

    def __repr__(self) -> str:
        return f"Found({self.start}, {self.end})"


def find(text: str, *, anywhere: bool = False) -> Iterator[Found]:
    """Every card number in `text`, in no order; one place may be given twice.

    Args:
        anywhere: a number may begin and end inside a longer row of digits, as in a field that follows its tag.
    """
    if len(text) < SHORTEST:
        return
    yield from _found(text, anywhere)
    if not text.isascii() or "\\" in text or "%" in text or "&" in text:
        plain, starts, ends = folded(text)
        if plain != text:
            for found in _found(plain, anywhere):
                yield Found(starts[found.start], ends[found.end - 1], ends[found.run - 1], found.number)


def holds(value: object) -> bool:
    """Whether a card number is written in a text, in a number of any type, or in bytes (read as Latin-1)."""
    if isinstance(value, bool) or value is None:
        return False
    if isinstance(value, float):
        whole = str(int(value)) if math.isfinite(value) and abs(value) < 10**LONGEST else ""
        return holds(whole) or (abs(value) >= _LEAST_WITH_FRACTION and holds(repr(value)))
    if isinstance(value, bytes | bytearray | memoryview):
        return holds(bytes(value).decode("latin-1"))
    return next(find(str(value)), None) is not None


def masked(text: str, stars: str = "********") -> str:
    """`text` with `stars` for each card number and for the digits right behind it: expiry date, code, track.

    Fails closed: numbers inside longer ones count, and so do rows of 16 digits or more, with single blanks or hyphens
    between them, right or not: cards of no scheme, mistyped ones, surrogates. No telephone number is so long.

    A mask that ends inside an IP address or another look-alike leaves digits that are no look-alike any more, so the
    result is masked again until nothing is found, and without any regard to look-alikes after `_MASK_ROUNDS`.
    """
    for _ in range(_MASK_ROUNDS):
        places = [(found.start, found.run) for found in find(text, anywhere=True)]
        if _LONG_ROW.search(text):
            places += [row.span() for row in _LONG_ROW.finditer(crossed_out(text, look_alikes(text)))]
        if not places:
            return text
        text = _with_stars(text, sorted(places), stars)
    return _RUN.sub(stars, text)


def _with_stars(text: str, places: list[tuple[int, int]], stars: str) -> str:
    """`text` with `stars` for each of the sorted places, which may overlap, and for the track right behind it."""
    shown, at = [], 0
    for start, end in places:
        if end <= at:
            continue
        if start >= at:
            shown += [text[at:start], stars]
        at = max(end, at)
        if track := _TRACK.match(text, at):
            at = track.end()
    return "".join(shown) + text[at:]


def masked_strictly(text: str, stars: str = "***") -> str:
    """`masked`, and every row of 12 or more digits besides, plain or in hexadecimal: for logs, which need none.

    They may be a number that somebody mistyped. A time of 14 digits stays, YYYYMMDDhhmmss of this century.
    """
    for _ in range(_MASK_ROUNDS):
        text = shown = masked(text, stars)
        for pattern in _ROWS_IN_HEX:
            shown = pattern.sub(stars, shown)
        shown = _ROW.sub(lambda row: row.group() if _TIMESTAMP.fullmatch(row.group()) else stars, shown)
        if shown == text:
            return text
        text = shown
    return _RUN.sub(stars, text)


_ROW = re.compile(r"\d(?:[ -]?\d){11,}")
_ROWS_IN_HEX = (re.compile(r"3[0-9](?:[ :]?3[0-9]){11,}"), re.compile(r"[fF][0-9](?:[ :]?[fF][0-9]){11,}"))
_TIMESTAMP = re.compile(r"20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d[0-5]\d", re.ASCII)


def split_over(parts: list[str]) -> bool:
    """Whether adjacent texts make a card number together: "4242", "4242", "4242", "4242".

    Only texts of nothing but digits and blanks, in the groups that card numbers are printed in, or in two halves.
    """
    texts = [part.strip() for part in parts]
    digits = [text if text.isascii() and text.isdigit() and len(text) <= _LONGEST_GROUP else "" for text in texts]
    for layout in (*PRINTED, (8, 8)):
        for at in range(len(digits) - len(layout) + 1):
            groups = digits[at : at + len(layout)]
            if tuple(map(len, groups)) == layout and holds("".join(groups)):
                return True
    return False


_MASK_ROUNDS = 4  # a text of one number and one look-alike takes two
_LONGEST_GROUP = 8  # digits of a value that may be a part of a card number
_LONG_ROW = re.compile(r"[0-9](?:[ -]?[0-9]){15,}")
_TRACK = re.compile(r"[=Dd]\d{4,}\??|\^[^^?]{2,26}\^\d{4,}\??")


def _found(text: str, anywhere: bool) -> Iterator[Found]:
    """Numbers as they are written, in hexadecimal and in base64."""
    yield from _plain(text, anywhere)
    for part in encoded(text):
        for found in _plain(part.plain, anywhere=True):
            start, end = part.place(found.start, found.end)
            yield Found(start, end, end, found.number)


def _plain(text: str, anywhere: bool) -> Iterator[Found]:
    """Numbers as they are written; digits are ASCII."""
    for match in _EXPONENT.finditer(text) if _HAS_EXPONENT.search(text) else ():
        if number := _expanded(*match.groups()):
            yield Found(match.start(), match.end(), match.end(), number)
    if _RUN.search(text) is None:
        return
    for value in chip_values(text):
        for found in _numbers_in(value.plain, value.start, phone=False, anywhere=False):
            yield found._replace(run=found.end)
    others = look_alikes(text)
    plain = crossed_out(text, others) if others else text
    for run in _RUN.finditer(plain):
        yield from _numbers_in(run.group(), run.start(), _is_phone(plain, run.start()), anywhere)
    if others:
        yield from _beside(text, others)


def _beside(text: str, others: list[tuple[int, int]]) -> Iterator[Found]:
    """Numbers that are partly in one of `others`, things that look like a number, and partly beside it."""
    starts = [start for start, _ in others]
    for run in _RUN.finditer(text):
        for found in _numbers_in(run.group(), run.start(), _is_phone(text, run.start()), anywhere=False, beside=True):
            at = bisect_right(starts, found.end - 1) - 1  # the last that begins in front of the number's end
            if at >= 0 and found.start < others[at][1] and not _is_within(found, others[at]):
                yield found._replace(run=found.end)


def _is_within(found: Found, place: tuple[int, int]) -> bool:
    return place[0] <= found.start and found.end <= place[1]


def _expanded(whole: str, fraction: str | None, exponent: str) -> str:
    """The card number that a number with an exponent is, else ""."""
    digits, shift = whole + (fraction or ""), int(exponent) - len(fraction or "")
    if not 0 < len(whole) + int(exponent) <= LONGEST + 1 or (shift < 0 and digits[shift:].strip("0")):
        return ""
    number = (digits + "0" * max(shift, 0))[: len(whole) + int(exponent)].lstrip("0")
    lengths = _LENGTHS.get(number[:_PREFIX], ())
    return number if len(number) in lengths and _luhn_sum(number) % 10 == 0 else ""


def _luhn_sum(number: str) -> int:
    return sum(LUHN_DOUBLED[int(digit)] if at % 2 else int(digit) for at, digit in enumerate(reversed(number)))


def _is_phone(text: str, start: int) -> bool:
    """Whether a "+" in front says that a telephone number begins; in "a+4242" it is a blank of a form's."""
    return start > 0 and text[start - 1] == "+" and not (start > 1 and text[start - 2].isalnum())


def _numbers_in(run: str, base: int, phone: bool, anywhere: bool, beside: bool = False) -> Iterator[Found]:
    """Card numbers in groups of digits that are close together, at `base` of the text.

    Args:
        phone: the run begins behind the "+" of a telephone number.
        anywhere: see `find`; the groups may then be any.
        beside: only groups as cards have them count.
    """
    groups = [(match.start(), match.group()) for match in _DIGITS.finditer(run)]
    digits = "".join(group for _, group in groups)
    # sums[parity][place]: Luhn sum of the digits before `place`, those at places of `parity` counting once.
    once = [ord(digit) - 48 for digit in digits]
    twice = [LUHN_DOUBLED[digit] for digit in once]
    even, odd = once[:], once[:]
    even[1::2], odd[::2] = twice[1::2], twice[::2]
    sums = (list(accumulate(even, initial=0)), list(accumulate(odd, initial=0)))
    stops = list(accumulate(len(group) for _, group in groups))
    begin = 0
    for number, (offset, group) in enumerate(groups):
        stop = stops[number]
        for start in _starts(begin, group, anywhere):
            for length in _LENGTHS.get(digits[start : start + _PREFIX], ()):
                end = start + length
                if end > len(digits) or (sums[(end - 1) % 2][end] - sums[(end - 1) % 2][start]) % 10:
                    continue
                last = bisect_left(stops, end, number)
                if stops[last] != end and not (end < stop and _goes_on_well(digits, begin, start, end, stop, anywhere)):
                    continue
                card = digits[start:end]
                if (phone and end <= _LONGEST_PHONE) or _is_other_number(card):
                    continue
                if last > number and not _written_like_one(card, run, groups[number : last + 1], anywhere, beside):
                    continue
                until = base + groups[last][0] + len(groups[last][1]) - (stops[last] - end)
                yield Found(base + offset + start - begin, until, base + len(run), card)
        begin = stop


def _starts(begin: int, group: str, anywhere: bool) -> Iterator[int]:
    """Where in a group a number may begin: at its first digit, behind its zeros, or anywhere."""
    if anywhere and len(group) > SHORTEST:
        yield from range(begin, begin + len(group) - SHORTEST + 1)
        return
    yield begin
    if group[0] == "0" and (first := len(group) - len(group.lstrip("0"))) < len(group):
        yield begin + first


def _goes_on_well(digits: str, begin: int, start: int, end: int, stop: int, anywhere: bool) -> bool:
    """Whether a number may end inside its group: in front of an expiry date or a code."""
    if end - start not in _USUAL.get(digits[start], ()):
        return False
    return anywhere or (start == begin and _EXPIRY.fullmatch(digits, end, stop) is not None)


def _is_other_number(card: str) -> bool:
    """Whether 13 digits are an EAN, or a mobile telephone's of Germany or Austria. Few such cards are left.

    Source: GS1 General Specifications, 7.9 (check digit).
    """
    if len(card) != 13:
        return False
    return card.startswith(_MOBILE) or sum(int(digit) * (3 if at % 2 else 1) for at, digit in enumerate(card)) % 10 == 0


def _written_like_one(card: str, run: str, groups: list[tuple[int, str]], anywhere: bool, beside: bool) -> bool:
    """Whether `groups` of `run`, those that the number touches, are the groups of a card number.

    A length that is rare for a scheme is written in equal groups (the last may be shorter).
    """
    sizes = [len(digits) for _, digits in groups]
    sizes[0] += len(card) - sum(sizes)  # without the zeros in front
    ends = [start + len(digits) for start, digits in groups]
    between = [run[end:start] for end, (start, _) in zip(ends, groups[1:], strict=False)]
    if is_in_brackets(sizes, between):
        return True
    if len(card) not in _USUAL.get(card[0], (16,)) and (len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]):
        return False
    return anywhere or (is_printed if beside else is_layout)(sizes, between)
