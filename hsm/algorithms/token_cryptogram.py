"""The cryptogram of a payment with a network token: 20 bytes, for where a CAVV would be.

A key, the token's number and expiry, a counter and a random number go in. Called by `hsm.vault.network_tokens` and by
simulators of wallets.
"""

from __future__ import annotations

import hmac
import struct

import msgspec

from hsm.algorithms.primitives import AesKey
from hsm.errors import TokenCryptogramError

CRYPTOGRAM_BYTES = 20
MAC_BYTES = 8
UNPREDICTABLE_BYTES = 4
HIGHEST_COUNTER = 2**32 - 1

_VERSION = 1
_LAYOUT = struct.Struct(">BI4s8s3x")
# Says what this MAC is for: no other use of the key can make the same bytes.
_PURPOSE = b"cardswitch network token cryptogram 1\0"


class Cryptogram(msgspec.Struct, frozen=True):
    """The parts: `counter` 1–2**32-1, `unpredictable` 4 bytes, `mac` 8 bytes."""

    counter: int
    unpredictable: bytes
    mac: bytes

    def __repr__(self) -> str:
        return f"Cryptogram(counter={self.counter})"

    def encode(self) -> bytes:
        """Return 20 bytes: version 1, counter (4, big-endian), unpredictable number (4), MAC (8), three zero bytes.

        Source: inferred from the EMVCo Payment Tokenisation Specification (a token cryptogram is dynamic and made for
        one payment) and from the 20 bytes of a CAVV or UCAF, whose place it takes; the layout is this project's.
        """
        return _LAYOUT.pack(_VERSION, self.counter, self.unpredictable, self.mac)


def parse_cryptogram(data: bytes) -> Cryptogram:
    """Read the 20 bytes of `Cryptogram.encode`.

    Raises:
        TokenCryptogramError: another length or version, padding that is not zero, or the counter 0.
    """
    if len(data) != CRYPTOGRAM_BYTES or data[0] != _VERSION or any(data[-3:]):
        raise TokenCryptogramError("a token cryptogram has 20 bytes, version 1")
    _, counter, unpredictable, mac = _LAYOUT.unpack(data)
    if not counter:
        raise TokenCryptogramError("the counter of a token cryptogram begins at 1")
    return Cryptogram(counter, unpredictable, mac)


def make_cryptogram(key: AesKey, dpan: str, expiry: str, counter: int, unpredictable: bytes) -> Cryptogram:
    """Return the cryptogram for one payment.

    Args:
        dpan: 12–19 digits.
        expiry: YYMM.
        counter: 1–2**32-1.
        unpredictable: 4 bytes.
    Raises:
        ValueError: an argument of another shape.
    Source: AES-CMAC, NIST SP 800-38B, leftmost 8 bytes (ISO 9797-1, 6.6). Its input is inferred from the EMVCo Payment
        Tokenisation Specification: token, expiry, and data that change with each payment.
    """
    return Cryptogram(counter, unpredictable, _mac(key, dpan, expiry, counter, unpredictable))


def cryptogram_matches(key: AesKey, dpan: str, expiry: str, cryptogram: Cryptogram) -> bool:
    """Whether a received cryptogram is right; takes the same time for any MAC."""
    expected = _mac(key, dpan, expiry, cryptogram.counter, cryptogram.unpredictable)
    return hmac.compare_digest(expected, cryptogram.mac)


def _mac(key: AesKey, dpan: str, expiry: str, counter: int, unpredictable: bytes) -> bytes:
    if not (12 <= len(dpan) <= 19 and dpan.isascii() and dpan.isdigit()):
        raise ValueError("a network token has 12 to 19 digits")
    if not (len(expiry) == 4 and expiry.isascii() and expiry.isdigit()):
        raise ValueError("expiry is YYMM")
    if len(unpredictable) != UNPREDICTABLE_BYTES or not 1 <= counter <= HIGHEST_COUNTER:
        raise ValueError("an unpredictable number has 4 bytes, a counter is 1 to 2**32-1")
    # The length in front keeps a digit of the number from passing for one of the expiry.
    subject = bytes([len(dpan)]) + f"{dpan}{expiry}".encode()
    return key.cmac(_PURPOSE + subject + counter.to_bytes(4, "big") + unpredictable)[:MAC_BYTES]
