"""Message authentication codes for DE 64 and DE 128: AES-CMAC, the first 8 bytes.

A key of 16, 24 or 32 bytes and the bytes under the MAC go in. Called by the software HSM, by simulators that hold the
other end of a MAC key, and by the tests; in the HSM process the token does this work.
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from hsm.algorithms.clear_keys import ClearHmacKey
from hsm.algorithms.primitives import Key

MAC_BYTES = 8
MIN_MAC_BYTES = 4


def generate_mac(key: bytes, data: bytes, length: int = MAC_BYTES) -> bytes:
    """Return the leftmost `length` (4–16) bytes of the AES-CMAC.

    Raises:
        ValueError: the key has no AES length, or `length` is out of range.
    Source: NIST SP 800-38B, 6.2; ISO 9797-1:2011, MAC algorithm 5; truncation: ISO 9797-1, 6.6.
    """
    if not MIN_MAC_BYTES <= length <= 16:
        raise ValueError("a MAC has 4 to 16 bytes")
    cmac = CMAC(AES(key))
    cmac.update(data)
    return cmac.finalize()[:length]


def calculate_mac(usage: str, key: Key, data: bytes) -> bytes:
    """Return the whole MAC under a key of an X9.143 usage: M6 (CMAC).

    Raises:
        ValueError: the usage is no MAC usage.
    """
    if usage == "M6" and not isinstance(key, ClearHmacKey):
        return key.cmac(data)  # type: ignore[union-attr]
    raise ValueError(f"usage {usage} is no MAC usage")


def mac_matches(calculated: bytes, received: bytes) -> bool:
    """Whether `received` (4–8 bytes) is the calculated MAC or its leftmost bytes; takes the same time for any byte."""
    if not MIN_MAC_BYTES <= len(received) <= len(calculated):
        return False
    return hmac.compare_digest(calculated[: len(received)], received)


def verify_mac(key: bytes, data: bytes, mac: bytes) -> bool:
    """Whether `mac`, 4–8 bytes as received, is right for `data`."""
    return mac_matches(generate_mac(key, data), mac)
