"""EMV key derivation: a card's keys from the issuer's master key, session keys from the card's.

Keys and chip data go in, keys come out that last for one `with` block; a token derives them inside itself. Called by
`hsm.algorithms.emv_schemes` and `card_value`, and by simulators of cards. The standard adjusts derived keys to odd
parity; DES ignores parity bits, so it is done only where the bytes of a key are data (`card_key_tail`).

Two things have no PKCS#11 mechanism, so that a card's key is in Python's memory for a moment: Visa's session keys for
secure messaging, which are the card's key XOR the ATC (`masked_card_key`), and four of its bytes in Visa's PIN blocks
(`card_key_tail`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha1

from hsm.algorithms.clear_keys import ClearTdesKey
from hsm.algorithms.components import odd_parity
from hsm.algorithms.decimalization import decimal_digits
from hsm.algorithms.primitives import DES_BLOCK_BYTES, TdesKey


def card_key(imk: TdesKey, pan: str, psn: str, option: str = "A") -> AbstractContextManager[TdesKey]:
    """Return a context with the card's key (UDK, ICC master key), 16 bytes.

    Args:
        imk: the issuer's master key, double length.
        pan: 12–19 digits.
        psn: the PAN sequence number, 2 digits; 00 where the card has none.
        option: A or B.
    Raises:
        ValueError: a field of another shape.
    Source: EMV 4.3 Book 2, A1.4.1 (option A) and A1.4.2 (option B).
    """
    return imk.derive(card_key_data(pan, psn, option))


def card_key_data(pan: str, psn: str, option: str = "A") -> bytes:
    """Return the 16 bytes that become the card's key; arguments and errors as in `card_key`."""
    if not (12 <= len(pan) <= 19 and pan.isascii() and pan.isdigit()):
        raise ValueError("a PAN has 12 to 19 digits")
    if len(psn) != 2 or not (psn.isascii() and psn.isdigit()):
        raise ValueError("a PAN sequence number has 2 digits")
    if option not in ("A", "B"):
        raise ValueError("the options of card key derivation are A and B")
    number = pan + psn
    # Option B differs from A only for a PAN that does not fit into the block.
    digits = _hashed(number) if option == "B" and len(pan) > 16 else number[-16:].rjust(16, "0")
    left = bytes.fromhex(digits)
    return left + bytes(byte ^ 0xFF for byte in left)


def session_key(key: TdesKey, diversifier: bytes) -> AbstractContextManager[TdesKey]:
    """Return a context with a session key of a card's key, 16 bytes.

    Args:
        key: a card's key.
        diversifier: 8 bytes: ATC and zeros for application cryptograms (with the unpredictable number behind for
            M/Chip), the cryptogram for secure messaging.
    Raises:
        ValueError: another length.
    Source: EMV 4.3 Book 2, A1.3.1 (common session key derivation).
    """
    if len(diversifier) != DES_BLOCK_BYTES:
        raise ValueError("a diversifier of session keys has 8 bytes")
    before, after = diversifier[:2], diversifier[3:]
    return key.derive(before + b"\xf0" + after + before + b"\x0f" + after)


@contextmanager
def masked_card_key(imk: TdesKey, pan: str, psn: str, option: str, atc: bytes) -> Iterator[TdesKey]:
    """Yield Visa's session key for secure messaging: the card's key XOR the ATC (its left half) and its complement.

    The card's key is a clear key in Python here, because PKCS#11 tokens do not XOR keys; it is let go of with the
    block. The issuer's master key stays where it is.

    Args:
        imk: the issuer's master key for secure messaging; the rest as in `card_key`.
        atc: 2 bytes.
    Raises:
        ValueError: a field of another shape.
    Source: inferred from pyemv's derive_visa_sm_sk (Visa Integrated Circuit Card Specification).
    """
    if len(atc) != 2:
        raise ValueError("a transaction counter has 2 bytes")
    mask = bytes(6) + atc + bytes(6) + bytes(byte ^ 0xFF for byte in atc)
    yield ClearTdesKey(imk.encrypt(card_key_data(pan, psn, option))).masked(mask)


def card_key_tail(imk: TdesKey, pan: str, psn: str, option: str) -> bytes:
    """Return the last 4 bytes of the left half of a card's key, with odd parity as the card holds it.

    They are clear bytes of a key: for Visa's PIN blocks only. Arguments and errors as in `card_key`.
    Source: inferred from pyemv's format_vis_pin_block (Visa Integrated Circuit Card Specification); parity: EMV 4.3
        Book 2, A1.4.1.
    """
    left = imk.encrypt(card_key_data(pan, psn, option)[:DES_BLOCK_BYTES])
    return odd_parity(left)[4:]


def _hashed(number: str) -> str:
    even = number if len(number) % 2 == 0 else "0" + number
    # SHA-1 spreads digits here, nothing rests on collisions.
    return decimal_digits(sha1(bytes.fromhex(even), usedforsecurity=False).digest(), 16)
