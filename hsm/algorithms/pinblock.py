"""PIN blocks of ISO 9564-1: formats 0, 1 and 3 for triple DES, format 4 for AES.

A PIN and a PAN go in, clear blocks come out, and back; keys come as `hsm.algorithms.primitives`, randomness as an
argument. Called by `hsm.pins` between two zone PIN keys and by the simulators, which hold the other end of those keys.
Clear blocks are Python bytes that cannot be wiped: keep them inside one function.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hsm.algorithms.clear_keys import ClearTdesKey
from hsm.algorithms.primitives import AES_BLOCK_BYTES, DES_BLOCK_BYTES, AesKey, TdesKey
from hsm.errors import PinBlockError

MIN_PIN_DIGITS = 4
MAX_PIN_DIGITS = 12

PinKey = TdesKey | AesKey
RandomBytes = Callable[[int], bytes]


class PinFormat(msgspec.Struct, frozen=True):
    """Length of the block in bytes, X9.143 algorithm of its key, and whether the PAN is bound into it."""

    block_bytes: int
    algorithm: str
    binds_pan: bool


# ISO 9564-1:2017, 9.3.2, 9.3.3, 9.3.5 and 9.4.2. Format 2 is for cards with a chip only and never on a line.
FORMATS = {
    0: PinFormat(DES_BLOCK_BYTES, "T", binds_pan=True),
    1: PinFormat(DES_BLOCK_BYTES, "T", binds_pan=False),
    3: PinFormat(DES_BLOCK_BYTES, "T", binds_pan=True),
    4: PinFormat(AES_BLOCK_BYTES, "A", binds_pan=True),
}


def pin_format(number: int) -> PinFormat:
    """Return the entry of `FORMATS`; ValueError for any other number."""
    found = FORMATS.get(number)
    if found is None:
        raise ValueError(f"PIN block format {number} is none of 0, 1, 3 and 4")
    return found


def seal_pin(number: int, pin: str, pan: str, key: PinKey, random_bytes: RandomBytes) -> bytes:
    """Return the encrypted block of a PIN.

    Args:
        number: the format, a key of `FORMATS`.
        pin: 4–12 digits.
        pan: 12–19 digits.
        key: triple DES for formats 0, 1 and 3, AES for format 4.
        random_bytes: fills up formats 1, 3 and 4.
    Raises:
        PinBlockError: the PIN or the PAN has another shape.
        ValueError: no such format.
    """
    return encipher_block(number, encode_block(number, pin, pan, random_bytes), pan, key)


def open_pin(number: int, block: bytes, pan: str, key: PinKey) -> str:
    """Return the PIN of an encrypted block; arguments as in `seal_pin`, errors as in `decode_block`."""
    return decode_block(number, decipher_block(number, block, pan, key), pan)


def encode_block(number: int, pin: str, pan: str, random_bytes: RandomBytes) -> bytes:
    """Return the clear block: 8 bytes; in format 4 the PIN field of 16 bytes, which the PAN joins at enciphering.

    Raises:
        PinBlockError: the PIN is not of 4–12 digits, or the PAN, where the format binds it, not of 12–19.
        ValueError: no such format.
    Source: ISO 9564-1:2017, 9.3.2 (0), 9.3.3 (1), 9.3.5 (3), 9.4.2 (4).
    """
    pin_format(number)
    if number == 0:
        return encode_pin_block(pin, pan)
    _check_pin(pin)
    control = f"{number}{len(pin):x}{pin}"
    if number == 1:
        return bytes.fromhex((control + random_bytes(DES_BLOCK_BYTES).hex())[: 2 * DES_BLOCK_BYTES])
    if number == 3:
        field = int(control + _fill_digits(14 - len(pin), random_bytes), 16)
        return (field ^ _account_field(pan)).to_bytes(DES_BLOCK_BYTES, "big")
    return bytes.fromhex(control.ljust(16, "a")) + random_bytes(AES_BLOCK_BYTES // 2)


def decode_block(number: int, clear: bytes, pan: str) -> str:
    """Return the PIN of a clear block, in format 4 of the clear PIN field.

    Args:
        number: the format, a key of `FORMATS`.
        clear: 8 bytes, in format 4 16.
        pan: 12–19 digits, the PAN that the block was made with; not looked at in format 1.
    Raises:
        PinBlockError: control nibble, PIN length, a PIN digit or the filling is not the format's; so is most likely
            what a wrong key or a wrong PAN gives. Format 1 has no filling to check: there one wrong key in 640 passes.
            Formats 0 and 3 show a wrong PAN by what it does to PIN and filling, format 3 not always (a PAN that is
            wrong in one digit passes two times in three or more): only format 4 enciphers the PAN.
        ValueError: no such format.
    Source: as in `encode_block`.
    """
    _check_length(number, clear)
    if number == 1:
        field = clear.hex()
    elif number == 4:
        field = clear[: AES_BLOCK_BYTES // 2].hex()
    else:
        field = f"{int.from_bytes(clear, 'big') ^ _account_field(pan):016x}"
    if field[0] != str(number):
        raise PinBlockError(f"the format nibble is not {number}")
    length = int(field[1], 16)
    if not MIN_PIN_DIGITS <= length <= MAX_PIN_DIGITS:
        raise PinBlockError("the PIN length is not 4 to 12")
    pin, filling = field[2 : 2 + length], field[2 + length :]
    if not _digits(pin):
        raise PinBlockError("a PIN nibble is no digit")
    if filling.strip(_FILLING[number]):
        raise PinBlockError(f"the padding is not {_FILLING[number].upper()}")
    return pin


def encipher_block(number: int, clear: bytes, pan: str, key: PinKey) -> bytes:
    """Return the block under a key: one ECB block, in format 4 two with the PAN field between them.

    Raises:
        PinBlockError: the block has another length, or the PAN another shape (format 4).
        ValueError: no such format.
    Source: ISO 9564-1:2017, 9.4.2 (format 4).
    """
    _check_length(number, clear)
    if number != 4:
        return key.encrypt(clear)
    return key.encrypt(_xor(key.encrypt(clear), encode_pan_field(pan)))


def decipher_block(number: int, block: bytes, pan: str, key: PinKey) -> bytes:
    """Return the clear block; arguments and errors as in `encipher_block`.

    Source: ISO 9564-1:2017, 9.4.2 (format 4).
    """
    _check_length(number, block)
    if number != 4:
        return key.decrypt(block)
    return key.decrypt(_xor(key.decrypt(block), encode_pan_field(pan)))


def encode_pan_field(pan: str) -> bytes:
    """Return the plain text PAN field of format 4, 16 bytes: the digits beyond 12 are counted in the first nibble.

    Raises:
        PinBlockError: the PAN is not of 12–19 digits.
    Source: ISO 9564-1:2017, 9.4.2.
    """
    _check_pan(pan)
    return bytes.fromhex(f"{len(pan) - 12}{pan}".ljust(2 * AES_BLOCK_BYTES, "0"))


def encode_pin_block(pin: str, pan: str) -> bytes:
    """Return the clear format 0 block, 8 bytes.

    Args:
        pin: 4–12 digits.
        pan: 12–19 digits.
    Raises:
        PinBlockError: the PIN or the PAN has another shape.
    Source: ISO 9564-1:2017, 9.3.2 (format 0; ANSI X9.8 calls it ISO-0).
    """
    _check_pin(pin)
    field = int(f"0{len(pin):x}{pin}".ljust(16, "f"), 16)
    return (field ^ _account_field(pan)).to_bytes(DES_BLOCK_BYTES, "big")


def decode_pin_block(block: bytes, pan: str) -> str:
    """Return the PIN of a clear format 0 block; errors as in `decode_block`."""
    return decode_block(0, block, pan)


def encrypt_pin_block(pin: str, pan: str, key: bytes) -> bytes:
    """Return the format 0 block under a clear zone PIN key of 16 or 24 bytes (triple DES, one ECB block)."""
    return _zone_key(key).encrypt(encode_pin_block(pin, pan))


def decrypt_pin_block(block: bytes, pan: str, key: bytes) -> str:
    """Return the PIN of an encrypted format 0 block; errors as in `decode_block`."""
    _check_length(0, block)
    return decode_pin_block(_zone_key(key).decrypt(block), pan)


def _zone_key(key: bytes) -> ClearTdesKey:
    if len(key) not in (16, 24):  # single DES is no key for PINs
        raise ValueError("a zone PIN key has 16 or 24 bytes")
    return ClearTdesKey(key)


# Characters that may follow the PIN, by format.
_FILLING = {0: "f", 1: "0123456789abcdef", 3: "abcdef", 4: "a"}


def _fill_digits(count: int, random_bytes: RandomBytes) -> str:
    # 16 bytes for at most 10 digits of base 6: the remaining bias is below 2**-100.
    number = int.from_bytes(random_bytes(16), "big")
    digits = []
    for _ in range(count):
        number, digit = divmod(number, 6)
        digits.append("abcdef"[digit])
    return "".join(digits)


def _account_field(pan: str) -> int:
    # Four zero nibbles, then the rightmost 12 digits without the check digit.
    _check_pan(pan)
    return int(pan[-13:-1], 16)


def _check_length(number: int, block: bytes) -> None:
    length = pin_format(number).block_bytes
    if len(block) != length:
        raise PinBlockError(f"a PIN block of format {number} has {length} bytes")


def _check_pin(pin: str) -> None:
    if not (MIN_PIN_DIGITS <= len(pin) <= MAX_PIN_DIGITS and _digits(pin)):
        raise PinBlockError("a PIN has 4 to 12 digits")


def _check_pan(pan: str) -> None:
    if not (12 <= len(pan) <= 19 and _digits(pan)):
        raise PinBlockError("a PAN has 12 to 19 digits")


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
