"""Key check values (KCV): values that people compare to check that they hold the same key.

A key goes in, in a token or in the clear; six hexadecimal digits come out, which reveal 24 bits about the key and are
shown wherever a key is named. Called by the key store, the key block codec, components and the command line.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

from hsm.algorithms.clear_keys import ClearAesKey, ClearHmacKey, ClearTdesKey
from hsm.algorithms.primitives import AES_BLOCK_BYTES, DES_BLOCK_BYTES, Key

CHECK_VALUE_BYTES = 3
# The two methods of ANSI X9.24-1:2017, annex A, by the codes that the optional blocks KC and KP of X9.143 give them.
LEGACY_METHOD = "00"
CMAC_METHOD = "01"
MAX_CHECK_VALUE_BYTES = {LEGACY_METHOD: 3, CMAC_METHOD: 5}

# By algorithm code of X9.143, table 7: the whole block of which a check value is the left part. For HMAC keys neither
# X9.24 nor X9.143 names a method; a zero block of 16 bytes under the key's own operation, as for AES, is ours.
_OVER_ZEROS: dict[str, Callable[[Any], bytes]] = {
    "T": lambda key: key.encrypt(bytes(DES_BLOCK_BYTES)),
    "A": lambda key: key.cmac(bytes(AES_BLOCK_BYTES)),
    "H": lambda key: key.hmac(bytes(AES_BLOCK_BYTES)),
}
_CLEAR: dict[str, Callable[[bytes], Key]] = {"T": ClearTdesKey, "A": ClearAesKey, "H": ClearHmacKey}


def check_value(algorithm: str, key: Key) -> str:
    """Return the KCV, 6 upper-case hexadecimal digits.

    Args:
        algorithm: T (TDES: a zero block encrypted), A (AES: CMAC of a zero block) or H (HMAC-SHA-256 of 16 zero bytes).
        key: of that algorithm.
    Raises:
        ValueError: another algorithm.
    Source: ANSI X9.24-1:2017, annex A; for HMAC keys no standard names a method, this one is ours.
    """
    calculate = _OVER_ZEROS.get(algorithm)
    if calculate is None:
        raise ValueError(f"there is no check value of keys of algorithm {algorithm!r}")
    return calculate(key)[:CHECK_VALUE_BYTES].hex().upper()


def clear_check_value(algorithm: str, key: bytes) -> str:
    """Return the KCV of a clear key (TDES: 8, 16 or 24 bytes, AES: 16, 24 or 32, HMAC: 16–64).

    Raises:
        ValueError: another algorithm, or a length that it does not have.
    """
    return check_value(algorithm, clear_key(algorithm, key))


def clear_key(algorithm: str, key: bytes) -> Key:
    """Return a clear key ready for use, by algorithm code of X9.143; ValueError as in `clear_check_value`."""
    make = _CLEAR.get(algorithm)
    if make is None:
        raise ValueError(f"keys of algorithm {algorithm!r} cannot be used")
    return make(key)


def check_value_matches(method: str, algorithm: str, key: Key, expected: str) -> bool:
    """Whether `expected` is the check value by a method of X9.24-1 annex A, or its left part of 2 bytes or more.

    Args:
        method: `00` (zero block encrypted) or `01` (CMAC of a zero block).
        algorithm: T or A; HMAC keys have no check value by these methods.
        expected: 4–6 hexadecimal digits (legacy) or 4–10 (CMAC), as printed.
    Raises:
        ValueError: another method, algorithm or length.
    """
    longest = MAX_CHECK_VALUE_BYTES.get(method)
    if longest is None or algorithm not in ("T", "A"):
        raise ValueError(f"check value method {method!r} is not for keys of algorithm {algorithm!r}")
    value = bytes.fromhex(expected)
    if not 2 <= len(value) <= longest:
        raise ValueError("a check value has 2 to 5 bytes")
    return hmac.compare_digest(_whole(method, algorithm, key)[: len(value)], value)


def _whole(method: str, algorithm: str, key: Any) -> bytes:
    zeros = bytes(DES_BLOCK_BYTES if algorithm == "T" else AES_BLOCK_BYTES)
    whole: bytes = key.encrypt(zeros) if method == LEGACY_METHOD else key.cmac(zeros)
    return whole
