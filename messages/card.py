"""Card numbers: which one a message carries, whether it is well formed, whose it is; pure.

Called by the switch (routing, tokenizing), the tokenizer, masking and the simulators.
"""

from __future__ import annotations

from messages.message import Message

# Longest prefix first is not needed: ranges do not overlap. (from, to) as digits of equal length.
# Source: ISO/IEC 7812-1 (registry of issuers); ranges as published by the schemes.
_BRANDS: tuple[tuple[str, str, str], ...] = (
    ("4", "4", "visa"),
    ("51", "55", "mastercard"),
    ("222100", "272099", "mastercard"),
    ("34", "34", "amex"),
    ("37", "37", "amex"),
    ("6011", "6011", "discover"),
    ("644", "649", "discover"),
    ("65", "65", "discover"),
    ("300", "305", "diners"),
    ("3095", "3095", "diners"),
    ("36", "36", "diners"),
    ("38", "39", "diners"),
    ("3528", "3589", "jcb"),
    ("62", "62", "unionpay"),
    ("50", "50", "maestro"),
    ("56", "58", "maestro"),
    ("6759", "6763", "maestro"),
    ("2200", "2204", "mir"),
)
LUHN_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)  # what a digit counts at the places that count twice


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
    for first, last, name in _BRANDS:
        if len(pan_or_bin) >= len(first) and first <= pan_or_bin[: len(first)] <= last:
            return name
    return "unknown"
