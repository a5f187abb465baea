"""Decimal digits out of a cipher's block, as card verification values, PVVs and EMV's option B make them.

Called by `card_value`, `pin_verification` and `emv_keys`. The tables of IBM 3624 are another rule (`pin_verification`).
"""

from __future__ import annotations

_DECIMALISED = str.maketrans("abcdef", "012345")


def decimal_digits(block: bytes, count: int) -> str:
    """Return the first `count` decimal digits of a block's hexadecimal ones; when they run out, A–F follow as 0–5.

    Source: IBM z/OS ICSF Application Programmer's Guide, CVV and PVV generation algorithms; EMV 4.3 Book 2, A1.4.2.
    """
    nibbles = block.hex()
    decimals = "".join(nibble for nibble in nibbles if nibble.isdigit())
    letters = "".join(nibble for nibble in nibbles if nibble.isalpha()).translate(_DECIMALISED)
    return (decimals + letters)[:count]
