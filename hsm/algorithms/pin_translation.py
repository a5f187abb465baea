"""Which PIN block format may become which, and the translation itself.

An encrypted block, two keys as primitives and one PAN go in; the block in the other format under the other key comes
out. There is one PAN on purpose: a translation that changes it cannot be asked for. Called by `hsm.pins`.
"""

from __future__ import annotations

from hsm.algorithms.pinblock import (
    PinKey,
    RandomBytes,
    decipher_block,
    decode_block,
    encipher_block,
    encode_block,
    pin_format,
)
from hsm.errors import PinTranslationError

PERMITTED = ""
_LOSES_PAN = "a block that binds the PAN may not become one that does not"

# From format to format; a forbidden pair has its reason.
# Source: PCI PIN Security Requirements v3.1, 3-3, the table of translations (which follows ISO 9564-1:2017).
TRANSLATIONS = {
    0: {0: PERMITTED, 1: _LOSES_PAN, 3: PERMITTED, 4: PERMITTED},
    1: {0: PERMITTED, 1: PERMITTED, 3: PERMITTED, 4: PERMITTED},
    3: {0: PERMITTED, 1: _LOSES_PAN, 3: PERMITTED, 4: PERMITTED},
    4: {0: PERMITTED, 1: _LOSES_PAN, 3: PERMITTED, 4: PERMITTED},
}


def check_translation(format_in: int, format_out: int) -> None:
    """Raise PinTranslationError where the table forbids it, ValueError where there is no such format."""
    pin_format(format_in)
    pin_format(format_out)
    reason = TRANSLATIONS[format_in][format_out]
    if reason:
        raise PinTranslationError(f"PIN block format {format_in} to {format_out}: {reason}")


def check_reference(number: int) -> None:
    """Raise PinTranslationError where a PVV or an offset may not be made of a block in this format.

    From a block that binds no PAN it could be made for any card, so that references would reveal the PIN of another's.
    Source: IBM CCA, "ANSI X9.8 PIN - enforce PIN block restrictions" (formats 0 and 3; format 4 binds the PAN too).
    """
    if not pin_format(number).binds_pan:
        raise PinTranslationError(f"PIN block format {number} to a reference: the block does not bind the PAN")


def translate_pin_block(
    block: bytes, format_in: int, key_in: PinKey, format_out: int, key_out: PinKey, pan: str, random_bytes: RandomBytes
) -> bytes:
    """Return the PIN in another format under another key.

    Args:
        block: 8 bytes, in format 4 16.
        format_in: 0, 1, 3 or 4; so is `format_out`.
        key_in: triple DES or AES, as the format has it; so is `key_out`.
        pan: 12–19 digits, bound in the block and bound again.
        random_bytes: fills up formats 1, 3 and 4 where the format changes.
    Raises:
        PinTranslationError: the table forbids it.
        PinBlockError: the block does not open.
        ValueError: no such format.
    """
    check_translation(format_in, format_out)
    clear = decipher_block(format_in, block, pan, key_in)
    pin = decode_block(format_in, clear, pan)
    if format_in != format_out:
        clear = encode_block(format_out, pin, pan, random_bytes)
    return encipher_block(format_out, clear, pan, key_out)
