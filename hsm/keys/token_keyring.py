"""`hsm.keys.keyring.Keyring` in a PKCS#11 token.

Names and data go in, results come out; keys stay in the token. Called by the engine, on the one thread that the
library may be used from. Each operation is one PKCS#11 call of 9–15 µs; the permissions of a key are decided here once,
when the keyring is made, so that a request for one costs a look into a dict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time

import msgspec
from pkcs11 import GCMParams, Mechanism
from pkcs11.exceptions import EncryptedDataInvalid, EncryptedDataLenRange, GeneralError, PKCS11Error

from hsm.commands import HsmRefused
from hsm.errors import CiphertextError, TokenError
from hsm.keys.direct_calls import direct
from hsm.keys.keyring import FINGERPRINT_BYTES, HeldKey, Sealed, usable
from hsm.keys.permissions import Operation, permitted
from hsm.keys.token import Token

_TAG_BITS = 128
_SHA256_HMAC, _AES_GCM = Mechanism.SHA256_HMAC, Mechanism.AES_GCM
# Operations on messages under way: they may have been made with the former version, or with the one that the other
# party already has. We make new messages with the version in force.
RECEIVING = frozenset(
    {
        Operation.PIN_DECRYPT,
        Operation.DUKPT_PIN,
        Operation.PVV_VERIFY,
        Operation.OFFSET_VERIFY,
        Operation.MAC_VERIFY,
        Operation.CARD_VALUE_VERIFY,
        Operation.DYNAMIC_CARD_VALUE,
        Operation.CRYPTOGRAM,
        Operation.TOKEN_CRYPTOGRAM_VERIFY,
        Operation.KEY_UNWRAP,
    }
)
FOREVER = float("inf")


class Version(msgspec.Struct, frozen=True):
    """A version with its status; a previous one is taken until `until`, and nothing new is made with the one in force
    from `refused_from` on (seconds since 1970)."""

    held: HeldKey
    status: str
    until: float = 0.0
    refused_from: float = FOREVER


class TokenKeyring:
    """The operations on the keys of an open token.

    Args:
        token: with the data keys and the fingerprint key.
        versions: of all other keys, by name.
        clock: seconds since 1970; grace times are held against it.
    """

    def __init__(
        self, token: Token, versions: Mapping[str, Sequence[Version]], *, clock: Callable[[], float] = time
    ) -> None:
        self._versions = {name: tuple(of_name) for name, of_name in versions.items()}
        self._clock = clock
        self._unseal = {name: direct(key, "decrypt") for name, key in token.data_keys.items()}
        self._data_key_name = token.data_key_name
        self._seal = direct(token.data_keys[token.data_key_name], "encrypt")
        self._fingerprint = direct(token.fingerprint_key, "sign")
        self._prepare()

    def key(self, name: str, operation: Operation) -> HeldKey:
        try:
            return self._in_force[name, operation]
        except KeyError:
            raise self._refusal(name, operation) from None

    def candidates(self, name: str, operation: Operation) -> Sequence[HeldKey]:
        if self._clock() >= self._good_until:
            self._prepare()
        try:
            return self._taken[name, operation]
        except KeyError:
            raise self._refusal(name, operation) from None

    def fingerprint(self, pan: str) -> bytes:
        try:
            mac: bytes = self._fingerprint(pan.encode(), mechanism=_SHA256_HMAC)
        except PKCS11Error as error:
            raise _lost("fingerprint", error) from None
        return mac[:FINGERPRINT_BYTES]

    def seal(self, clear: bytes, nonce: bytes, associated: bytes) -> Sealed:
        try:
            ciphertext = self._seal(clear, mechanism=_AES_GCM, mechanism_param=GCMParams(nonce, associated, _TAG_BITS))
        except PKCS11Error as error:
            raise _lost("encryption", error) from None
        return Sealed(self._data_key_name, nonce, ciphertext)

    def unseal(self, sealed: Sealed, associated: bytes) -> bytes:
        decrypt = self._unseal.get(sealed.key_version)
        if decrypt is None:
            raise CiphertextError(f"the token has no data key {sealed.key_version}")
        try:
            clear: bytes = decrypt(
                sealed.ciphertext,
                mechanism=_AES_GCM,
                mechanism_param=GCMParams(sealed.nonce, associated, _TAG_BITS),
            )
        except (GeneralError, EncryptedDataInvalid, EncryptedDataLenRange):
            # The first is SoftHSM's word for a tag that does not match; the session stays usable.
            raise CiphertextError(f"a ciphertext under {sealed.key_version} is not authentic") from None
        except PKCS11Error as error:
            raise _lost("decryption", error) from None
        return clear

    def _prepare(self) -> None:
        """Decide for all keys and operations, and until when that holds."""
        now = self._clock()
        self._in_force: dict[tuple[str, Operation], HeldKey] = {}
        self._taken: dict[tuple[str, Operation], tuple[HeldKey, ...]] = {}
        self._good_until = FOREVER
        for name, versions in self._versions.items():
            active = [version.held for version in versions if version.status == "active"]
            later = [version.refused_from for version in versions if version.refused_from > now]
            self._good_until = min(self._good_until, *later, FOREVER)
            over = any(version.status == "active" and version.refused_from <= now for version in versions)
            others = []
            for version in versions:
                if version.status == "previous" and version.until > now:
                    self._good_until = min(self._good_until, version.until)
                    others.append(version.held)
                elif version.status == "pending":
                    others.append(version.held)
            for operation in Operation:
                may = [held for held in active if permitted(operation, held.attributes)]
                if not may:
                    continue
                if over and operation not in RECEIVING:
                    continue
                self._in_force[name, operation] = may[0]
                if operation in RECEIVING:
                    may += [held for held in others if permitted(operation, held.attributes)]
                self._taken[name, operation] = tuple(may)

    def _refusal(self, name: str, operation: Operation) -> HsmRefused:
        versions = self._versions.get(name, ())
        active = {name: tuple(version.held for version in versions if version.status == "active")}
        try:
            usable(name, operation, active)
        except HsmRefused as refusal:
            return refusal
        return HsmRefused("key_expired", f"the cryptoperiod of key {name!r} is over: bring its next version")


def _lost(operation: str, error: PKCS11Error) -> TokenError:
    return TokenError(f"{operation}: {type(error).__name__}")
