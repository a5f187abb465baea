"""Card data out of sight: messages, numbers and raw bytes in, harmless text out.

Called by everything that shows or logs. Fails closed: an element that no rule below names is masked whole, so is one
that is not as the standard of its message has it (in 2003 DE 49 is no currency but a card verification value), and a
value that a rule does name is masked all the same where the message's card number stands in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from messages import card_numbers
from messages.card import pan_of
from messages.dictionary import iso1987, iso1993, iso2003
from messages.formats import PATTERNS
from messages.message import Message
from messages.mti import CLASSES, FUNCTIONS, ORIGINS, VERSIONS
from messages.trace import is_trace_id

# Never stored anywhere in clear: card numbers, expiry, tracks, PIN data and its control information,
# chip data, MACs. In 1987 and 1993 these are the numbers.
CARD_DATA = frozenset({2, 14, 34, 35, 36, 45, 52, 53, 55, 64, 96, 102, 103, 128})

# Shown as they are: amounts, times, traces, codes, institutions, terminal and merchant.
_SAFE_1987 = frozenset(
    {3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 20, 21, 22, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33}
    | {37, 38, 39, 41, 42, 43, 49, 50, 51, 66, 67, 68, 69, 70, 71, 72, 73}
    | set(range(74, 91))
    | {91, 92, 93, 94, 95, 97, 99, 100}
)
_SAFE_1993 = (_SAFE_1987 - {31, 66, 72, 95}) | {56, 57, 58, *range(105, 109)}
_SAFE_2003 = frozenset(
    {3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 19, 20, 22, 24, 25, 26, 27, 28, 29, 30, 32, 33, 37, 38, 39}
    | {41, 42, 56, 57, 58, 67, 73, 74, 75, 93, 94, 97, 99, 100}
)
_FORMAT = re.compile(r"(x\+n|[a-z]+)(?: |\.+)([0-9]+)")


def _shapes(safe: frozenset[int], formats: Mapping[int, str]) -> dict[int, tuple[str, int]]:
    """Kind and most characters of each element that is shown."""
    shapes = {}
    for number in safe:
        found = _FORMAT.fullmatch(formats[number])
        assert found, number
        kind, size = found[1], int(found[2])
        shapes[number] = (kind, size // 4 if kind == "b" else size + 1 if kind == "x+n" else size)
    return shapes


# First digit of the MTI → number → what it must look like to be shown.
_SAFE: dict[str, dict[int, tuple[str, int]]] = {
    "0": _shapes(_SAFE_1987, iso1987.FORMATS),
    "1": _shapes(_SAFE_1993, iso1993.FORMATS),
    "2": _shapes(_SAFE_2003, iso2003.FORMATS),
}
# Elements of later versions that a message of 1987 carries along under 1000 and their number: harmless in both.
_CARRIED = 1000
_SAFE["0"].update(
    (_CARRIED + number, max(_SAFE["1"][number], _SAFE["2"][number], key=lambda shape: shape[1]))
    for number in _SAFE_1993 & _SAFE_2003
)
# DE 44 of a refusal: an element's number and words, "DE 7: too old". No digits but those of an expected length.
_REASON = re.compile(
    r"DE [0-9]{1,3}:?(?: expected [0-9]{1,3})?(?: [A-Za-z]+)*|[a-z ]{1,20}not permitted|totals need DE 32"
)
# Elements of private use, shown only where they look exactly like what cardswitch itself puts there.
_SHAPES: dict[int, Callable[[str], bool]] = {
    44: lambda value: _REASON.fullmatch(value) is not None,
    60: frozenset({"F", "P"}).__contains__,  # capture: final or partial
    63: is_trace_id,
}
_FREE_TEXT = "ans"  # format of the elements that may say anything; digits elsewhere are amounts, times, institutions
_STARS = 8  # longest run of stars: the length of a secret is a hint too


def mask_pan(pan: str) -> str:
    """First six and last four digits, stars between: "424242******4242"; anything short is all stars.

    Source: PCI DSS 4.0.1 requirement 3.4.1.
    """
    if len(pan) < 13 or not (pan.isascii() and pan.isdigit()):
        return "*" * min(len(pan), _STARS)
    return pan[:6] + "*" * (len(pan) - 10) + pan[-4:]


def masked(message: Message) -> dict[int, str]:
    """The elements of a message as they may be shown, ascending by number."""
    pan = pan_of(message)
    shown = {}
    for number in sorted(message.elements):
        shown[number] = _masked_element(str(message.mti), number, str(message.elements[number]), pan)
    return shown


def _masked_element(mti: str, number: int, value: str, pan: str) -> str:
    if number == 2:
        return mask_pan(value)
    if number == 35:
        return f"{mask_pan(pan_of(Message('', {35: value})))}=****"
    known = _SHAPES.get(number)
    safe = _is_as_it_should(mti, number, value) or (known is not None and known(value))
    if not safe or (len(pan) >= 8 and pan in value):
        return "*" * min(len(value), _STARS)
    shape = _SAFE.get(mti[:1], {}).get(number)
    return masked_text(value) if shape is not None and shape[0] == _FREE_TEXT else value


def _is_as_it_should(mti: str, number: int, value: str) -> bool:
    """Whether a harmless element looks like one."""
    shape = _SAFE.get(mti[:1], {}).get(number)
    return shape is not None and len(value) <= shape[1] and PATTERNS[shape[0]][0].fullmatch(value) is not None


def masked_text(text: str) -> str:
    """Free text without card numbers, however they are written (`messages.card_numbers`)."""
    return card_numbers.masked(text, "*" * _STARS)


def masked_hex_dump(data: bytes, limit: int = 512) -> str:
    """Bytes that are no message, for a log: their number, their type if it is one, and their shape.

    Nothing in unknown bytes is proven harmless, the bitmap included: where the type is wrong, the bytes
    behind it may be a card number. So only a valid message type is shown; of all else only the class of
    each byte: n a digit, a a letter, . other printable, x the rest (BCD and binary data).

    Args:
        data: anything.
        limit: bytes shown at most.
    """
    known = _known_mti(data)
    lines = [f"{len(data)} bytes" + (f", MTI {known}" if known else "")]
    for at in range(0, min(len(data), limit), 32):
        row = "".join(_class(byte) for byte in data[at : min(at + 32, limit)])
        lines.append(f"{at:04x}  " + " ".join(row[index : index + 8] for index in range(0, len(row), 8)))
    if len(data) > limit:
        lines.append(f"… {len(data) - limit} more")
    return "\n".join(lines)


def _known_mti(data: bytes) -> str:
    for candidate in (data[:4].decode("latin-1"), data[:2].hex()):
        digits = (VERSIONS, CLASSES, FUNCTIONS, ORIGINS)
        if len(candidate) == 4 and all(digit in known for digit, known in zip(candidate, digits, strict=True)):
            return candidate
    return ""


def _class(byte: int) -> str:
    if 0x30 <= byte <= 0x39:
        return "n"  # not a digit: a log masks long runs of those
    if 0x41 <= byte <= 0x5A or 0x61 <= byte <= 0x7A:
        return "a"
    return "." if 0x20 <= byte < 0x7F else "x"
