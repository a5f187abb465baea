"""Secure messaging for issuer scripts: the MAC of a command, its encrypted data, and the PIN blocks of PIN CHANGE.

Session keys, commands and data go in; the content of the script comes out. Called by `hsm.cryptograms` and by
simulators of cards; which of these a scheme takes is in `hsm.algorithms.emv_schemes`. The clear PIN and PIN block are
in the caller's and these functions' memory only.
"""

from __future__ import annotations

from hsm.algorithms.mac import pad, retail_mac
from hsm.algorithms.primitives import DES_BLOCK_BYTES, TdesKey

# Data, padding and MAC fit into the 255 bytes of a command's data field.
MAX_DATA_BYTES = 240


def script_mac(key: TdesKey, message: bytes, length: int = 8) -> bytes:
    """Return the MAC of a command, `length` (4–8) bytes.

    Args:
        key: the session key for integrity.
        message: the command's header, what the scheme puts behind it, and the (encrypted) data; of a format 1 command
            the padded header and the data objects.
    Raises:
        ValueError: another length.
    Source: EMV 4.3 Book 2, 9.2.3 and A1.2.1.
    """
    if not 4 <= length <= 8:
        raise ValueError("the MAC of a script command has 4 to 8 bytes")
    return retail_mac(key, message, 2)[:length]


def encrypt_script_data(key: TdesKey, data: bytes, method: str) -> bytes:
    """Return the data field of a command, encrypted under the session key for confidentiality.

    Args:
        data: 1–240 bytes.
        method: `visa` (a length byte before, padding method 2, ECB), `mchip` (padding method 2 where the data is not
            whole blocks, CBC) or `emv` (padding method 2, CBC).
    Raises:
        ValueError: another length or method.
    Source: EMV 4.3 Book 2, 9.3 and A1.1 (`emv`); the others inferred from pyemv's encrypt_command_data (Visa and
        Mastercard card specifications).
    """
    if not 1 <= len(data) <= MAX_DATA_BYTES:
        raise ValueError("the data of a script command has 1 to 240 bytes")
    if method == "visa":
        return key.encrypt(pad(bytes([len(data)]) + data, 2))
    if method == "mchip":
        return key.encrypt_cbc(pad(data, 2) if len(data) % DES_BLOCK_BYTES else data)
    if method == "emv":
        return key.encrypt_cbc(pad(data, 2))
    raise ValueError("the ways to encrypt script data are visa, mchip and emv")


def iso2_pin_block(pin: str) -> bytes:
    """Return the format 2 block, 8 clear bytes, of a PIN of 4–12 digits.

    Raises:
        ValueError: the PIN has another shape.
    Source: ISO 9564-1:2017, 9.4.2 (format 2: for a PIN that goes to a chip).
    """
    return bytes.fromhex(f"2{len(_pin(pin)):x}{pin}".ljust(16, "F"))


def visa_pin_block(key_tail: bytes, pin: str, current_pin: str = "") -> bytes:
    """Return Visa's PIN block for PIN CHANGE, 8 clear bytes.

    Args:
        key_tail: 4 bytes of the card's key, see `hsm.algorithms.emv_keys.card_key_tail`.
        pin: the new PIN, 4–12 digits.
        current_pin: the old one, where the command (P2 = 01) wants it; empty otherwise.
    Raises:
        ValueError: a field of another shape.
    Source: inferred from pyemv's format_vis_pin_block (Visa Integrated Circuit Card Specification).
    """
    if len(key_tail) != 4:
        raise ValueError("four bytes of the card's key enter its PIN block")
    block = int(f"0{len(_pin(pin)):x}{pin}".ljust(16, "F"), 16) ^ int.from_bytes(key_tail, "big")
    if current_pin:
        block ^= int(_pin(current_pin).ljust(16, "0"), 16)
    return block.to_bytes(DES_BLOCK_BYTES, "big")


def _pin(pin: str) -> str:
    if not (4 <= len(pin) <= 12 and pin.isascii() and pin.isdigit()):
        raise ValueError("a PIN has 4 to 12 digits")
    return pin
