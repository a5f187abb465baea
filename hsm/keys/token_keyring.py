"""`hsm.keys.keyring.Keyring` in a PKCS#11 token.

Names and data go in, results come out; keys stay in the token. Called by the engine, on the one thread that the
library may be used from. Each operation is one PKCS#11 call of 9–15 µs.
"""

from __future__ import annotations

from collections.abc import Mapping

from pkcs11 import GCMParams, Mechanism
from pkcs11.exceptions import GeneralError, PKCS11Error

from hsm.algorithms.mac import MAC_BYTES
from hsm.algorithms.pinblock import decode_pin_block
from hsm.algorithms.tdes import BLOCK_BYTES
from hsm.errors import CiphertextError, PinBlockError, TokenError
from hsm.keys.keyring import FINGERPRINT_BYTES, Sealed, key_for
from hsm.keys.store import LinkKey
from hsm.keys.token import Token

_TAG_BITS = 128


class TokenKeyring:
    """The operations on the keys of an open token."""

    def __init__(self, token: Token, link_keys: Mapping[str, LinkKey]) -> None:
        self._link_keys = dict(link_keys)
        self._data_keys = token.data_keys
        self._data_key_name = token.data_key_name
        self._fingerprint_key = token.fingerprint_key

    def mac(self, key: str, data: bytes) -> bytes:
        handle = key_for("mac", key, self._link_keys).handle
        try:
            mac: bytes = handle.sign(data, mechanism=Mechanism.AES_CMAC)
        except PKCS11Error as error:
            raise _lost("CMAC", error) from None
        return mac[:MAC_BYTES]

    def translate_pin(self, key_in: str, key_out: str, block: bytes, pan: str) -> bytes:
        """Translate; the clear block lives in this method alone."""
        source = key_for("pin", key_in, self._link_keys).handle
        target = key_for("pin", key_out, self._link_keys).handle
        if len(block) != BLOCK_BYTES:
            raise PinBlockError("a PIN block has 8 bytes")
        try:
            clear = source.decrypt(block, mechanism=Mechanism.DES3_ECB)
            decode_pin_block(clear, pan)
            translated: bytes = target.encrypt(clear, mechanism=Mechanism.DES3_ECB)
        except PKCS11Error as error:
            raise _lost("PIN translation", error) from None
        return translated

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
