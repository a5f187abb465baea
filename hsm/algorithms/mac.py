"""Message authentication codes: ISO 9797-1 algorithms 1 and 3, CMAC, and HMAC-SHA-256.

A key and the bytes under the MAC go in, the MAC comes out. Called by the engine and the EMV algorithms with keys that
may be in the token, and by simulators and tests, which hold the other end of a MAC key as bytes.

A link puts the leftmost 8 bytes into DE 64 or DE 128. CBC-MACs of a link (M1, M3) pad with zeros, padding method 1, as
ISO 8583 and ANSI X9.19 do: a message and the same message with zeros behind it have one MAC, which is harmless as long
as the framing, not the MAC, says where the message ends.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from hsm.algorithms.clear_keys import ClearAesKey, ClearHmacKey, ClearTdesKey
from hsm.algorithms.primitives import DES_BLOCK_BYTES, Key, TdesKey

MAC_BYTES = 8
MIN_MAC_BYTES = 4
AES_CMAC = "AES-CMAC"

# X9.143 key usage and kind of a clear key, by the name that an algorithm has in the configuration
# (`hsm.keys.attributes.ROLES["mac"]`).
ALGORITHMS: dict[str, tuple[str, Callable[[bytes], Key]]] = {
    AES_CMAC: ("M6", ClearAesKey),
    "TDES-CMAC": ("M6", ClearTdesKey),
    "ISO9797-1-ALG1": ("M1", ClearTdesKey),
    "ISO9797-1-ALG3": ("M3", ClearTdesKey),
    "HMAC-SHA-256": ("M7", ClearHmacKey),
}


def generate_mac(key: bytes, data: bytes, length: int = MAC_BYTES, algorithm: str = AES_CMAC) -> bytes:
    """Return the leftmost `length` bytes of the MAC under a clear key.

    Args:
        key: of the algorithm's length: AES 16, 24 or 32 bytes, triple DES 16 or 24, HMAC 16–64.
        length: 4–16; 4–8 for ISO 9797-1 algorithms and TDES-CMAC.
        algorithm: one of ALGORITHMS; padding method 1 where it pads.
    Raises:
        ValueError: a key of another length, `length` out of range, or an algorithm that is none of them.
    Source: NIST SP 800-38B, 6.2; ISO 9797-1:2011; RFC 2104; truncation: ISO 9797-1, 6.6.
    """
    if not MIN_MAC_BYTES <= length <= 16:
        raise ValueError("a MAC has 4 to 16 bytes")
    if algorithm == AES_CMAC:
        cmac = CMAC(AES(key))
        cmac.update(data)
        return cmac.finalize()[:length]
    if algorithm not in ALGORITHMS:
        raise ValueError(f"no MAC algorithm is named {algorithm!r}")
    usage, kind = ALGORITHMS[algorithm]
    if kind is ClearTdesKey and len(key) == DES_BLOCK_BYTES:
        raise ValueError("a MAC key of triple DES has 16 or 24 bytes")
    mac = calculate_mac(usage, kind(key), data)
    if length > len(mac):
        raise ValueError(f"a MAC of {algorithm} has 4 to 8 bytes")
    return mac[:length]


def verify_mac(key: bytes, data: bytes, mac: bytes, algorithm: str = AES_CMAC) -> bool:
    """Whether `mac`, 4–8 bytes as received, is right for `data` under a clear key; errors as in `generate_mac`."""
    return mac_matches(generate_mac(key, data, MAC_BYTES, algorithm), mac)


def mac_matches(calculated: bytes, received: bytes) -> bool:
    """Whether `received` (4–8 bytes) is the calculated MAC or its leftmost bytes; takes the same time for any byte."""
    if not MIN_MAC_BYTES <= len(received) <= len(calculated):
        return False
    return hmac.compare_digest(calculated[: len(received)], received)


def calculate_mac(usage: str, key: Key, data: bytes, padding: int = 1) -> bytes:
    """Return the whole MAC under a key of an X9.143 usage.

    Args:
        usage: M1 or M3 (ISO 9797-1 algorithm 1 or 3 over triple DES, 8 bytes), M6 (CMAC: 16 bytes with AES, 8 with
            triple DES) or M7 (HMAC-SHA-256, 32 bytes).
        key: of that usage.
        data: any length.
        padding: 1, 2 or 3, the padding method of ISO 9797-1, for M1 and M3; the others pad in their own way.
    Raises:
        ValueError: no MAC usage, a key of another kind, or another padding method.
    Source: X9.143-2021, table 6 (usages).
    """
    calculation = _CALCULATIONS.get(usage)
    if calculation is None:
        raise ValueError(f"usage {usage} is no MAC usage")
    primitive, calculate = calculation
    if not hasattr(key, primitive):
        raise ValueError(f"usage {usage} does not go with a key of this kind")
    return calculate(key, data, padding)


def cbc_mac(key: TdesKey, data: bytes, padding: int = 1) -> bytes:
    """Return the CBC-MAC, 8 bytes.

    Source: ISO 9797-1:2011, 7.2 (MAC algorithm 1); with triple DES as the block cipher.
    """
    return key.encrypt_cbc(pad(data, padding))[-DES_BLOCK_BYTES:]


def retail_mac(key: TdesKey, data: bytes, padding: int = 1) -> bytes:
    """Return the retail MAC, 8 bytes: single DES under the left half, the last block under the whole key.

    Raises:
        ValueError: the key was not made to be used in halves, or another padding method.
    Source: ISO 9797-1:2011, 7.4 (MAC algorithm 3); ANSI X9.19; EMV 4.3 Book 2, A1.2.1.
    """
    padded = pad(data, padding)
    before, last = padded[:-DES_BLOCK_BYTES], padded[-DES_BLOCK_BYTES:]
    if not before:
        return key.encrypt(last)
    chained = key.single.encrypt_cbc(before)[-DES_BLOCK_BYTES:]
    return key.encrypt_cbc(last, chained)


def pad(data: bytes, method: int, block: int = DES_BLOCK_BYTES) -> bytes:
    """Return whole blocks, one at least: zeros behind (1), a one bit and zeros behind (2), or the length in bits
    before and zeros behind (3).

    Raises:
        ValueError: another method.
    Source: ISO 9797-1:2011, 6.3.2–6.3.4.
    """
    if method == 1:
        return data + bytes(-len(data) % block) if data else bytes(block)
    if method == 2:
        return pad(data + b"\x80", 1, block)
    if method == 3:
        return (8 * len(data)).to_bytes(block, "big") + pad(data, 1, block)
    raise ValueError("the padding methods are 1, 2 and 3")


# By X9.143 usage: a primitive that only the right kind of key has, and the calculation.
_CALCULATIONS: dict[str, tuple[str, Callable[[Any, bytes, int], bytes]]] = {
    "M1": ("derive", cbc_mac),
    "M3": ("derive", retail_mac),
    "M6": ("cmac", lambda key, data, padding: key.cmac(data)),
    "M7": ("hmac", lambda key, data, padding: key.hmac(data)),
}
