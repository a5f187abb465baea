"""PIN blocks of ISO 9564 format 0.

A PIN and a PAN go in, 8 clear bytes come out, and back. Called by the HSM between two zone PIN keys and by the
simulators, which hold the other end of those keys. Clear blocks are Python bytes that cannot be wiped: keep them
inside one function.
"""

from __future__ import annotations

from hsm.algorithms.tdes import BLOCK_BYTES, tdes_decrypt, tdes_encrypt
from hsm.errors import PinBlockError

MIN_PIN_DIGITS = 4
MAX_PIN_DIGITS = 12


def encode_pin_block(pin: str, pan: str) -> bytes:
    """Return the clear format 0 block, 8 bytes.

    Args:
        pin: 4–12 digits.
        pan: 12–19 digits.
    Raises:
        PinBlockError: the PIN or the PAN has another shape.
    Source: ISO 9564-1:2017, 9.3.2 (format 0; ANSI X9.8 calls it ISO-0).
    """
    if not (MIN_PIN_DIGITS <= len(pin) <= MAX_PIN_DIGITS and _digits(pin)):
        raise PinBlockError("a PIN has 4 to 12 digits")
    field = int(f"0{len(pin):x}{pin}".ljust(16, "f"), 16)
    return (field ^ _account_field(pan)).to_bytes(BLOCK_BYTES, "big")


def decode_pin_block(block: bytes, pan: str) -> str:
    """Return the PIN of a clear format 0 block.

    Args:
        block: 8 bytes.
        pan: 12–19 digits, the PAN that the block was made with.
    Raises:
        PinBlockError: the format nibble is not 0, the length is not 4–12, a PIN nibble is no digit or the
            padding is not F; so is most likely what a wrong key or a wrong PAN gives.
    Source: ISO 9564-1:2017, 9.3.2.
    """
    if len(block) != BLOCK_BYTES:
        raise PinBlockError("a PIN block has 8 bytes")
    field = f"{int.from_bytes(block, 'big') ^ _account_field(pan):016x}"
    if field[0] != "0":
        raise PinBlockError("the format nibble is not 0")
    length = int(field[1], 16)
    if not MIN_PIN_DIGITS <= length <= MAX_PIN_DIGITS:
        raise PinBlockError("the PIN length is not 4 to 12")
    pin, padding = field[2 : 2 + length], field[2 + length :]
    if not _digits(pin):
        raise PinBlockError("a PIN nibble is no digit")
    if padding.strip("f"):
        raise PinBlockError("the padding is not F")
    return pin


def encrypt_pin_block(pin: str, pan: str, key: bytes) -> bytes:
    """Return the format 0 block under a zone PIN key of 16 or 24 bytes (triple DES, one ECB block)."""
    return tdes_encrypt(key, encode_pin_block(pin, pan))


def decrypt_pin_block(block: bytes, pan: str, key: bytes) -> str:
    """Return the PIN of an encrypted format 0 block; errors as in `decode_pin_block`."""
    if len(block) != BLOCK_BYTES:
        raise PinBlockError("a PIN block has 8 bytes")
    return decode_pin_block(tdes_decrypt(key, block), pan)


def _account_field(pan: str) -> int:
    # Four zero nibbles, then the rightmost 12 digits without the check digit.
    if not (12 <= len(pan) <= 19 and _digits(pan)):
        raise PinBlockError("a PAN has 12 to 19 digits")
    return int(pan[-13:-1], 16)


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
