"""Keys for one transaction by ANSI X9.24-3 (AES DUKPT).

A base derivation key as a primitive and the key serial number of a transaction go in; the working key of that
transaction comes out, as a clear key. Called by `hsm.pins`, and with an initial key by the simulators, which are the
terminals.

From the initial key on all keys are Python bytes, which cannot be wiped: one call makes them, keeps none, and hands out
the last one only. The base derivation key stays in its token.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from hsm.algorithms.clear_keys import ClearAesKey, ClearTdesKey
from hsm.algorithms.dukpt_counter import CounterLimits
from hsm.algorithms.primitives import AES_BLOCK_BYTES, AesKey

KSN_BYTES = 12
KEY_ID_BYTES = 8
COUNTER_BITS = 32
LAST_COUNTER = 0xFFFF0000
COUNTER = CounterLimits(LAST_COUNTER, 16)


class Usage(IntEnum):
    """The purpose of a derived key. Source: ANSI X9.24-3:2017, 6.3.2, table of key usage indicators."""

    KEY_ENCRYPTION = 0x0002
    PIN_ENCRYPTION = 0x1000
    MAC_GENERATION = 0x2000
    MAC_VERIFICATION = 0x2001
    MAC_BOTH_WAYS = 0x2002
    DATA_ENCRYPTION = 0x3000
    DATA_DECRYPTION = 0x3001
    DATA_BOTH_WAYS = 0x3002
    KEY_DERIVATION = 0x8000
    INITIAL_KEY = 0x8001


class KeyType(msgspec.Struct, frozen=True):
    """Algorithm indicator, length in bits, and how many bits strong a derivation key has to be for it."""

    indicator: int
    bits: int
    strength: int


# Source: ANSI X9.24-3:2017, 6.3.2, table of algorithm indicators; a key derives none that is stronger than itself.
KEY_TYPES = {
    "TDES-2": KeyType(0x0000, 128, 112),
    "TDES-3": KeyType(0x0001, 192, 112),
    "AES-128": KeyType(0x0002, 128, 128),
    "AES-192": KeyType(0x0003, 192, 192),
    "AES-256": KeyType(0x0004, 256, 256),
}


def initial_key(bdk: AesKey, key_id: bytes) -> bytes:
    """Return the initial key of a device in the clear, as long as the base derivation key.

    Args:
        key_id: initial key id, 8 bytes: the left part of the KSN.
    Raises:
        ValueError: another length.
    Source: ANSI X9.24-3:2017, 6.3.1.
    """
    if len(key_id) != KEY_ID_BYTES:
        raise ValueError(f"an initial key id has {KEY_ID_BYTES} bytes")
    return _derive(bdk, Usage.INITIAL_KEY, KEY_TYPES[f"AES-{bdk.bits}"], key_id)


def working_key(bdk: AesKey, ksn: bytes, usage: Usage, key_type: str) -> ClearAesKey | ClearTdesKey:
    """Return the key of a transaction for one use.

    Args:
        bdk: 128, 192 or 256 bits; the devices' keys have the same length.
        ksn: 12 bytes, as received.
        key_type: a key of `KEY_TYPES`.
    Raises:
        ValueError: the KSN has another length, its counter is none that a device uses, or the key type is unknown or
            stronger than the base derivation key.
    Source: ANSI X9.24-3:2017, 6.3.3 and 6.4.
    """
    _check_length(ksn)
    return device_working_key(initial_key(bdk, ksn[:KEY_ID_BYTES]), ksn, usage, key_type)


def device_working_key(initial: bytes, ksn: bytes, usage: Usage, key_type: str) -> ClearAesKey | ClearTdesKey:
    """Return the working key as a device makes it, from its initial key; errors as in `working_key`."""
    wanted = KEY_TYPES.get(key_type)
    if wanted is None:
        raise ValueError(f"the working key type is none of {', '.join(KEY_TYPES)}")
    if wanted.strength > 8 * len(initial):
        raise ValueError(f"an AES-{8 * len(initial)} key derives no {key_type} key")
    transaction = ClearAesKey(transaction_key(initial, ksn))
    value = _derive(transaction, usage, wanted, ksn[4:])
    return ClearTdesKey(value) if key_type.startswith("TDES") else ClearAesKey(value)


def transaction_key(initial: bytes, ksn: bytes) -> bytes:
    """Return the derivation key of a transaction in the clear, as long as the initial key.

    Args:
        initial: the device's initial key, 16, 24 or 32 bytes.
        ksn: 12 bytes.
    Raises:
        ValueError: another length, or a counter that no device uses.
    Source: ANSI X9.24-3:2017, 6.3.3.
    """
    counter, key_id = check_counter(ksn), ksn[4:KEY_ID_BYTES]
    key, key_type = initial, KEY_TYPES.get(f"AES-{8 * len(initial)}")
    if key_type is None:
        raise ValueError("an initial key of AES DUKPT has 16, 24 or 32 bytes")
    so_far = 0
    for position in reversed(range(COUNTER_BITS)):
        bit = 1 << position
        if counter & bit:
            so_far |= bit
            key = _derive(ClearAesKey(key), Usage.KEY_DERIVATION, key_type, key_id + so_far.to_bytes(4, "big"))
    return key


def check_counter(ksn: bytes) -> int:
    """Return the transaction counter of a KSN of 12 bytes, 1–0xFFFF0000.

    Raises:
        ValueError: another length, or a counter that no device uses: zero, or with more than 16 one bits.
    Source: ANSI X9.24-3:2017, 6.5.
    """
    _check_length(ksn)
    return COUNTER.check(int.from_bytes(ksn[KEY_ID_BYTES:], "big"))


def next_ksn(ksn: bytes) -> bytes:
    """Return the KSN of the device's next transaction; a counter of zero is where a new device starts.

    Raises:
        ValueError: another length, or the counter is exhausted: the device needs a new initial key.
    Source: ANSI X9.24-3:2017, 6.5 (counters with more than 16 one bits are left out).
    """
    _check_length(ksn)
    counter = COUNTER.after(int.from_bytes(ksn[KEY_ID_BYTES:], "big"))
    return ksn[:KEY_ID_BYTES] + counter.to_bytes(4, "big")


def _derive(key: AesKey, usage: Usage, key_type: KeyType, context: bytes) -> bytes:
    # Version 1, block number, usage, algorithm, length, then who and which transaction: one AES block an output block.
    length = key_type.bits // 8
    blocks = [
        bytes((1, number)) + b"".join(value.to_bytes(2, "big") for value in (usage, key_type.indicator, key_type.bits))
        for number in range(1, -(-length // AES_BLOCK_BYTES) + 1)
    ]
    return key.encrypt(b"".join(block + context for block in blocks))[:length]


def _check_length(ksn: bytes) -> None:
    if len(ksn) != KSN_BYTES:
        raise ValueError(f"a key serial number of AES DUKPT has {KSN_BYTES} bytes")
