"""Keys for one transaction by ANSI X9.24-1 (TDES DUKPT).

A base derivation key as a primitive and the key serial number of a transaction go in; the PIN, MAC or data key of that
transaction comes out, as a clear key. Called by `hsm.pins`, and with an initial key by the simulators, which are the
terminals.

PKCS#11 has no mechanism for these steps and SoftHSM no single DES, so from the initial key on all keys are Python
bytes, which cannot be wiped: one call makes them, keeps none, and hands out the last one only. The base derivation key
stays in its token.
"""

from __future__ import annotations

from hsm.algorithms.clear_keys import ClearTdesKey
from hsm.algorithms.dukpt_counter import CounterLimits
from hsm.algorithms.primitives import TdesKey

KSN_BYTES = 10
COUNTER_BITS = 21
LAST_COUNTER = 0x1FF800
COUNTER = CounterLimits(LAST_COUNTER, 10)

# The mask that a base derivation key is XORed with for the right half of an initial key; the key store prepares that
# key. Source: ANSI X9.24-1:2009, A.6, step 4.
DUKPT_MASK = bytes.fromhex("C0C0C0C000000000" * 2)

# Source: ANSI X9.24-1:2009, A.4.1, table A-1.
PIN_VARIANT = bytes.fromhex("00000000000000FF" * 2)
MAC_REQUEST_VARIANT = bytes.fromhex("000000000000FF00" * 2)
MAC_RESPONSE_VARIANT = bytes.fromhex("00000000FF000000" * 2)
DATA_REQUEST_VARIANT = bytes.fromhex("0000000000FF0000" * 2)
DATA_RESPONSE_VARIANT = bytes.fromhex("000000FF00000000" * 2)

_COUNTER_MASK = (1 << COUNTER_BITS) - 1
_REGISTER_MASK = (1 << 64) - 1
_HALF_MASK = 0xC0C0C0C000000000


def initial_key(bdk: TdesKey, ksn: bytes) -> bytes:
    """Return the initial key (IPEK) of a device, 16 bytes in the clear.

    Args:
        bdk: double length, prepared for `DUKPT_MASK`.
        ksn: 10 bytes; the counter in it does not matter.
    Raises:
        ValueError: the KSN has another length.
    Source: ANSI X9.24-1:2009, A.6.
    """
    _check_length(ksn)
    register = ksn[:7] + bytes([ksn[7] & 0xE0])
    return bdk.encrypt(register) + bdk.masked(DUKPT_MASK).encrypt(register)


def pin_key(bdk: TdesKey, ksn: bytes) -> ClearTdesKey:
    """Return the PIN encryption key of a transaction; errors as in `transaction_key`."""
    return device_pin_key(initial_key(bdk, ksn), ksn)


def device_pin_key(initial: bytes, ksn: bytes) -> ClearTdesKey:
    """Return the PIN encryption key as a device makes it, from its initial key of 16 bytes."""
    return ClearTdesKey(_xor(transaction_key(initial, ksn), PIN_VARIANT))


def mac_key(bdk: TdesKey, ksn: bytes, *, response: bool = False) -> ClearTdesKey:
    """Return the MAC key of a transaction for its request, or its response; for ISO 9797-1 algorithm 3 or CMAC."""
    variant = MAC_RESPONSE_VARIANT if response else MAC_REQUEST_VARIANT
    return ClearTdesKey(_xor(transaction_key(initial_key(bdk, ksn), ksn), variant))


def data_key(bdk: TdesKey, ksn: bytes, *, response: bool = False) -> ClearTdesKey:
    """Return the data encryption key of a transaction for its request, or its response.

    Source: ANSI X9.24-1:2009, A.4.1: the variant is encrypted under itself, half by half.
    """
    variant = DATA_RESPONSE_VARIANT if response else DATA_REQUEST_VARIANT
    key = _xor(transaction_key(initial_key(bdk, ksn), ksn), variant)
    return ClearTdesKey(ClearTdesKey(key).encrypt(key))


def transaction_key(initial: bytes, ksn: bytes) -> bytes:
    """Return the key of a transaction before its variants, 16 bytes in the clear.

    Args:
        initial: the device's initial key, 16 bytes.
        ksn: 10 bytes, as received.
    Raises:
        ValueError: the initial key or the KSN has another length, or the counter is none that a device uses: zero, or
            with more than 10 one bits.
    Source: ANSI X9.24-1:2009, A.2 and A.3 (non-reversible key generation process).
    """
    if len(initial) != 16:
        raise ValueError("an initial key of TDES DUKPT has 16 bytes")
    counter = check_counter(ksn)
    register = int.from_bytes(ksn[2:], "big") & _REGISTER_MASK & ~_COUNTER_MASK
    left, right = int.from_bytes(initial[:8], "big"), int.from_bytes(initial[8:], "big")
    for position in reversed(range(COUNTER_BITS)):
        bit = 1 << position
        if counter & bit:
            register |= bit
            left, right = (
                _one_way(register, left ^ _HALF_MASK, right ^ _HALF_MASK),
                _one_way(register, left, right),
            )
    return left.to_bytes(8, "big") + right.to_bytes(8, "big")


def check_counter(ksn: bytes) -> int:
    """Return the transaction counter of a KSN of 10 bytes, 1–0x1FF800.

    Raises:
        ValueError: another length, or a counter that no device uses.
    Source: ANSI X9.24-1:2009, A.1 and A.2.
    """
    _check_length(ksn)
    return COUNTER.check(int.from_bytes(ksn[7:], "big") & _COUNTER_MASK)


def next_ksn(ksn: bytes) -> bytes:
    """Return the KSN of the device's next transaction; a counter of zero is where a new device starts.

    Raises:
        ValueError: another length, or the counter is exhausted: the device needs a new initial key.
    Source: ANSI X9.24-1:2009, A.2 (counters with more than 10 one bits are left out).
    """
    _check_length(ksn)
    counter = COUNTER.after(int.from_bytes(ksn[7:], "big") & _COUNTER_MASK)
    return ((int.from_bytes(ksn, "big") & ~_COUNTER_MASK) | counter).to_bytes(KSN_BYTES, "big")


def _one_way(register: int, left: int, right: int) -> int:
    # One half of the new key: the register under the old key's left half, masked before and after with its right half.
    encrypted = ClearTdesKey(left.to_bytes(8, "big")).encrypt((register ^ right).to_bytes(8, "big"))
    return int.from_bytes(encrypted, "big") ^ right


def _check_length(ksn: bytes) -> None:
    if len(ksn) != KSN_BYTES:
        raise ValueError(f"a key serial number of TDES DUKPT has {KSN_BYTES} bytes")


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
