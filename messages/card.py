"""Card numbers: which one a message carries, whether it is well formed, whose it is; pure.

Called by the switch (routing, tokenizing), the tokenizer, masking and the simulators.
"""

from __future__ import annotations

from messages.card_numbers import LUHN_DOUBLED, SCHEMES
from messages.message import Message


def pan_of(message: Message) -> str:
    """The primary account number from DE 2, else from track 2 in DE 35; "" where there is none.

    Source: ISO 8583:1987 DE 2, DE 35; ISO/IEC 7813 6.2 (separator "=", in hexadecimal "D").
    """
    elements = message.elements
    pan = elements.get(2)
    if pan:
        return pan
    track2 = elements.get(35, "").lstrip(";")
    return track2.replace("D", "=").partition("=")[0]


def luhn_digit(partial: str) -> str:
    """The check digit that completes `partial`, all digits of a number but its last.

    Source: ISO/IEC 7812-1 annex B.

    Raises:
        ValueError: something else than digits.
    """
    if not (partial.isascii() and partial.isdigit()):
        raise ValueError("expected digits only")
    total = sum(
        LUHN_DOUBLED[ord(digit) - 48] if index % 2 == 0 else ord(digit) - 48
        for index, digit in enumerate(reversed(partial))
    )
    return str(-total % 10)


def luhn_valid(pan: str) -> bool:
    """Whether `pan` is 12 to 19 digits and its last digit checks the others (ISO/IEC 7812-1 annex B)."""
    return pan.isascii() and pan.isdigit() and 12 <= len(pan) <= 19 and luhn_digit(pan[:-1]) == pan[-1]


def brand(pan_or_bin: str) -> str:
    """The scheme of a number or of its first digits (six are enough for all): "visa", …, "unknown"."""
    for first, last, name, _ in SCHEMES:
        if len(pan_or_bin) >= len(first) and first <= pan_or_bin[: len(first)] <= last:
            return name
    return "unknown"
