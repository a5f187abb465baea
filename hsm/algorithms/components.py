"""Keys in components, as custodians carry them, and what makes a key value acceptable.

A clear key goes in and two or three components come out, or the reverse; and any clear key that is about to enter the
HSM goes through `check_key`. Called by the key commands for `cardswitch hsm key import`, and by the command line, which
shows each custodian the check value of the own component. Each component has the length of the key and reveals nothing
about it: the key is the XOR of all of them.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence

from hsm.algorithms.keyblock import KEY_LENGTHS
from hsm.errors import KeyValueError

COMPONENT_COUNTS = (2, 3)
_PART_BYTES = 8

# NIST SP 800-67 rev. 2, 3.3.2: DES keys that encrypt as they decrypt, and the pairs that undo each other.
_WEAK = bytes.fromhex(
    "0101010101010101 FEFEFEFEFEFEFEFE E0E0E0E0F1F1F1F1 1F1F1F1F0E0E0E0E"
    "011F011F010E010E 1F011F010E010E01 01E001E001F101F1 E001E001F101F101"
    "01FE01FE01FE01FE FE01FE01FE01FE01 1FE01FE00EF10EF1 E01FE01FF10EF10E"
    "1FFE1FFE0EFE0EFE FE1FFE1FFE0EFE0E E0FEE0FEF1FEF1FE FEE0FEE0FEF1FEF1"
)
WEAK_DES_KEYS = frozenset(_WEAK[start : start + _PART_BYTES] for start in range(0, len(_WEAK), _PART_BYTES))


def check_key(algorithm: str, key: bytes, *, adjust_parity: bool = False) -> bytes:
    """Return a clear key that may enter the HSM.

    Args:
        algorithm: T, A or H (X9.143, table 7).
        key: TDES 16 or 24 bytes, AES 16, 24 or 32, HMAC 16–64.
        adjust_parity: set the parity bits of a TDES key instead of refusing wrong ones.
    Raises:
        KeyValueError: another length or algorithm, an all-zero key, and of TDES keys: even parity, equal parts
            (K1 = K2 or K2 = K3 is single DES, K1 = K3 a double-length key), a weak or semi-weak part.
    Source: ANSI X9.24-1:2017, 7.3 (odd parity, distinct parts); NIST SP 800-67 rev. 2, 3.3.2 (weak keys).
    """
    if len(key) not in KEY_LENGTHS.get(algorithm, ()):
        raise KeyValueError(f"a key of algorithm {algorithm} does not have {len(key)} bytes")
    if not any(key):
        raise KeyValueError("the key is all zeros")
    if algorithm != "T":
        return key
    odd = odd_parity(key)
    parts = [odd[start : start + _PART_BYTES] for start in range(0, len(odd), _PART_BYTES)]
    if len(set(parts)) != len(parts):
        raise KeyValueError("two parts of the TDES key are equal: it is no stronger than a shorter key")
    if not WEAK_DES_KEYS.isdisjoint(parts):
        raise KeyValueError("a part of the TDES key is a weak DES key")
    if not adjust_parity and not hmac.compare_digest(odd, key):
        raise KeyValueError("the TDES key has wrong parity: mistyped, or made without parity (then let it be adjusted)")
    return odd


def odd_parity(key: bytes) -> bytes:
    """Return the key with the lowest bit of each byte set so that the byte has an odd number of ones (FIPS 46-3)."""
    return bytes(byte & 0xFE | (byte.bit_count() + byte % 2 + 1) % 2 for byte in key)


def split_key(key: bytes, count: int, random_bytes: Callable[[int], bytes]) -> tuple[bytes, ...]:
    """Return `count` (2 or 3) components whose XOR is `key`.

    Raises:
        KeyValueError: another count.
    Source: ANSI X9.24-1:2017, 7.4 (dual control, split knowledge); PCI PIN Security requirement 6.
    """
    if count not in COMPONENT_COUNTS:
        raise KeyValueError("a key is split into 2 or 3 components")
    drawn = [random_bytes(len(key)) for _ in range(count - 1)]
    return (*drawn, _xor((key, *drawn)))


def combine_components(components: Sequence[bytes]) -> bytes:
    """Return the XOR of 2 or 3 components; `check_key` says afterwards whether it may be used.

    Raises:
        KeyValueError: another number of components, different lengths, an all-zero component, or two equal ones,
            which would take each other out.
    Source: ANSI X9.24-1:2017, 7.4.
    """
    if len(components) not in COMPONENT_COUNTS:
        raise KeyValueError("a key is put together from 2 or 3 components")
    if len({len(component) for component in components}) != 1:
        raise KeyValueError("the components differ in length")
    if not all(any(component) for component in components):
        raise KeyValueError("a component is all zeros")
    if len(set(components)) != len(components):
        raise KeyValueError("two components are equal: each custodian has an own one")
    return _xor(components)


def _xor(parts: Sequence[bytes]) -> bytes:
    result = 0
    for part in parts:
        result ^= int.from_bytes(part, "big")
    return result.to_bytes(len(parts[0]), "big")
