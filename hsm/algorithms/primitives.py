"""The operations that payment algorithms need of a key: block operations, MACs and derivation, never its value.

Algorithms take these protocols, so the same code runs over keys inside a PKCS#11 token (`hsm.keys.token_keys`) and over
clear keys (`hsm.algorithms.clear_keys`: simulators, tests, keys that live for one operation). Implementations raise
ValueError for data of another length, and `hsm.errors.TokenError` where a token failed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

DES_BLOCK_BYTES = 8
AES_BLOCK_BYTES = 16


class TdesKey(Protocol):
    """A DES key of double (K1 K2 K1) or triple length. Source of the cipher: NIST SP 800-67 rev. 2."""

    @property
    def bits(self) -> int:
        """128 (double length) or 192, counting parity bits; ValueError where the length of the key is not known."""

    def encrypt(self, data: bytes) -> bytes:
        """Encrypt whole blocks of 8 bytes, ECB."""

    def decrypt(self, data: bytes) -> bytes:
        """Decrypt whole blocks of 8 bytes, ECB."""

    def encrypt_cbc(self, data: bytes, iv: bytes = bytes(8)) -> bytes:
        """Encrypt whole blocks, CBC, without padding."""

    def decrypt_cbc(self, data: bytes, iv: bytes = bytes(8)) -> bytes:
        """Decrypt whole blocks, CBC, without padding."""

    def cmac(self, data: bytes) -> bytes:
        """Return the 8-byte CMAC of data of any length (NIST SP 800-38B)."""

    @property
    def single(self) -> TdesKey:
        """The left 8 bytes as a single DES key; ValueError where this key was not made to be used in halves."""

    def derive(self, data: bytes) -> AbstractContextManager[TdesKey]:
        """Return the double-length key that `data`, 16 bytes, becomes under this key in ECB; gone after the block."""

    def masked(self, mask: bytes) -> TdesKey:
        """Return this key XOR `mask` (8 bytes, repeated over the key, or the key's length).

        Raises:
            ValueError: this key was not made to be used with that mask.
        """


class AesKey(Protocol):
    """An AES key of 128, 192 or 256 bits."""

    @property
    def bits(self) -> int:
        """128, 192 or 256."""

    def encrypt(self, data: bytes) -> bytes:
        """Encrypt whole blocks of 16 bytes, ECB."""

    def decrypt(self, data: bytes) -> bytes:
        """Decrypt whole blocks of 16 bytes, ECB."""

    def cmac(self, data: bytes) -> bytes:
        """Return the 16-byte CMAC of data of any length (NIST SP 800-38B)."""


class HmacKey(Protocol):
    """A key of 16–64 bytes for HMAC-SHA-256 (RFC 2104, FIPS 198-1)."""

    def hmac(self, data: bytes) -> bytes:
        """Return 32 bytes."""


Key = TdesKey | AesKey | HmacKey
