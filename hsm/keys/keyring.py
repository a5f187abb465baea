"""The keys by name, checked against what they may do; and the vault's own operations.

`hsm.keys.token_keyring.TokenKeyring` holds keys of a PKCS#11 token, `hsm.software.SoftwareKeyring` clear ones; the
contract tests hold both to this page. Operations on keys are written once, over `hsm.algorithms.primitives`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from hsm.algorithms.primitives import Key
from hsm.commands import HsmRefused
from hsm.keys.attributes import KeyAttributes
from hsm.keys.permissions import Operation, permitted

NONCE_BYTES = 12
FINGERPRINT_BYTES = 16


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """A ciphertext with the name of its key version and its nonce; the GCM tag is the last 16 bytes."""

    key_version: str
    nonce: bytes
    ciphertext: bytes


class HeldKey(msgspec.Struct, frozen=True):
    """One version of a key, ready for use: `key` does the operations and never shows its value."""

    name: str
    version: int
    attributes: KeyAttributes
    kcv: str
    key: Key

    def __repr__(self) -> str:
        return f"HeldKey({self.name!r}, version {self.version}, {self.attributes.usage}, KCV {self.kcv})"


class Keyring(Protocol):
    """Raises HsmRefused for a key that is unknown or may not do an operation, TokenError where the token failed."""

    def key(self, name: str, operation: Operation) -> HeldKey:
        """Return the version of the key `name` that is in force."""

    def candidates(self, name: str, operation: Operation) -> Sequence[HeldKey]:
        """Return the version in force and, for a while after an exchange, the one before it.

        A message that was under way may have been made with either. Only for decrypting and verifying.
        """

    def fingerprint(self, pan: str) -> bytes:
        """Return 16 bytes that are the same for the same PAN and reveal nothing about it."""

    def seal(self, clear: bytes, nonce: bytes, associated: bytes) -> Sealed:
        """Encrypt under the newest data key."""

    def unseal(self, sealed: Sealed, associated: bytes) -> bytes:
        """Decrypt; CiphertextError where the ciphertext is not what `seal` gave."""


_LIKE_A_NAME = re.compile(r"(?!.*\d{7})(?![0-9A-Fa-f]{16})[A-Za-z][\w-]{0,47}", re.ASCII)


def unknown_key(name: str) -> HsmRefused:
    """Return the refusal for a key that is not there; repeats the name only where it can be no card number or key."""
    shown = repr(name) if _LIKE_A_NAME.fullmatch(name) else f"as asked ({len(name)} characters, none of our names)"
    return HsmRefused("key_unknown", f"no key named {shown}")


def usable(name: str, operation: Operation, keys: Mapping[str, Sequence[HeldKey]]) -> Sequence[HeldKey]:
    """Return the versions of the key `name`, the one in force first, if they may do `operation`.

    Raises:
        HsmRefused: `key_unknown` or `key_usage`.
    """
    held = keys.get(name)
    if not held:
        raise unknown_key(name) if name else HsmRefused("key_unknown", f"no key named to {operation.value}")
    attributes = held[0].attributes
    if not permitted(operation, attributes):
        raise HsmRefused("key_usage", f"key {name!r} ({attributes.describe()}) may not {operation.value}")
    return held
