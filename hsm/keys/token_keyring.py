"""`hsm.keys.keyring.Keyring` in a PKCS#11 token.

Names and data go in, results come out; keys stay in the token. Called by the engine, on the one thread that the
library may be used from. Each operation is one PKCS#11 call of 9–15 µs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pkcs11 import GCMParams, Mechanism
from pkcs11.exceptions import GeneralError, PKCS11Error

from hsm.errors import CiphertextError, TokenError
from hsm.keys.keyring import FINGERPRINT_BYTES, HeldKey, Sealed, usable
from hsm.keys.permissions import Operation
from hsm.keys.token import Token

_TAG_BITS = 128


class TokenKeyring:
    """The operations on the keys of an open token."""

    def __init__(self, token: Token, keys: Mapping[str, Sequence[HeldKey]]) -> None:
        self._keys = dict(keys)
        self._data_keys = token.data_keys
        self._data_key_name = token.data_key_name
        self._fingerprint_key = token.fingerprint_key

    def key(self, name: str, operation: Operation) -> HeldKey:
        return usable(name, operation, self._keys)[0]

    def candidates(self, name: str, operation: Operation) -> Sequence[HeldKey]:
        return usable(name, operation, self._keys)

    def fingerprint(self, pan: str) -> bytes:
        try:
            mac: bytes = self._fingerprint_key.sign(pan.encode(), mechanism=Mechanism.SHA256_HMAC)
        except PKCS11Error as error:
            raise _lost("fingerprint", error) from None
        return mac[:FINGERPRINT_BYTES]

    def seal(self, clear: bytes, nonce: bytes, associated: bytes) -> Sealed:
        try:
            ciphertext = self._data_keys[self._data_key_name].encrypt(
                clear, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, associated, _TAG_BITS)
            )
        except PKCS11Error as error:
            raise _lost("encryption", error) from None
        return Sealed(self._data_key_name, nonce, ciphertext)

    def unseal(self, sealed: Sealed, associated: bytes) -> bytes:
        key = self._data_keys.get(sealed.key_version)
        if key is None:
            raise CiphertextError(f"the token has no data key {sealed.key_version}")
        try:
            clear: bytes = key.decrypt(
                sealed.ciphertext,
                mechanism=Mechanism.AES_GCM,
                mechanism_param=GCMParams(sealed.nonce, associated, _TAG_BITS),
            )
        except GeneralError:  # SoftHSM's word for a tag that does not match; the session stays usable
            raise CiphertextError(f"a ciphertext under {sealed.key_version} is not authentic") from None
        except PKCS11Error as error:
            raise _lost("decryption", error) from None
        return clear


def _lost(operation: str, error: PKCS11Error) -> TokenError:
    return TokenError(f"{operation}: {type(error).__name__}")
