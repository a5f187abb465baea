"""The operations that need a key, by name: what the engine asks of a token or of its stand-in in memory.

`hsm.keys.token_keyring.TokenKeyring` does them in a PKCS#11 token, `hsm.software.SoftwareKeyring` in memory; the
contract tests hold both to this page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

import msgspec

from hsm.commands import HsmRefused

NONCE_BYTES = 12
FINGERPRINT_BYTES = 16


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """A ciphertext with the name of its key version and its nonce; the GCM tag is the last 16 bytes."""

    key_version: str
    nonce: bytes
    ciphertext: bytes


class Keyring(Protocol):
    """Raises HsmRefused for a key that is unknown or used against its usage, TokenError where the token failed."""

    def mac(self, key: str, data: bytes) -> bytes:
        """Return the 8-byte AES-CMAC under a key of usage `mac`."""

    def translate_pin(self, key_in: str, key_out: str, block: bytes, pan: str) -> bytes:
        """Return the 8-byte format 0 block under another key of usage `pin`; PinBlockError where it is none."""

    def fingerprint(self, pan: str) -> bytes:
        """Return 16 bytes that are the same for the same PAN and tell nothing about it."""

    def seal(self, clear: bytes, nonce: bytes, associated: bytes) -> Sealed:
        """Encrypt under the newest data key."""

    def unseal(self, sealed: Sealed, associated: bytes) -> bytes:
        """Decrypt; CiphertextError where the ciphertext is not what `seal` gave."""


class UsedKey(Protocol):
    """A key that says what it is for."""

    @property
    def usage(self) -> str: ...


Found = TypeVar("Found", bound=UsedKey)


def key_for(usage: str, name: str, keys: Mapping[str, Found]) -> Found:
    """Return the key `name` if it may do `usage`.

    Raises:
        HsmRefused: `key_unknown` or `key_usage`.
    """
    key = keys.get(name)
    if key is None:
        raise HsmRefused("key_unknown", f"no key named {name!r}" if name else "no key named for this operation")
    if key.usage != usage:
        raise HsmRefused("key_usage", f"key {name!r} is for {key.usage}, not for {usage}")
    return key
