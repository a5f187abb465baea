"""The link keys: made on first start, kept wrapped under the token's storage key, exported for the other party.

`state/hsm/keys.json` holds them wrapped, with version, usage and check value; `state/exchange/<party>.json` holds them
under the party's transport key. Out come session keys that can be used and not read. Called by
`hsm.keys.token_keyring`.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

from hsm.algorithms.primitives import Key
from hsm.config import KeyConfig
from hsm.errors import ConfigurationError, KeyStoreError, TokenError
from hsm.keys.attributes import ROLES
from hsm.keys.exchange import ExportedKey, PartyKeys, read_transport_key
from hsm.keys.keyring import HeldKey
from hsm.keys.softhsm import write_private
from hsm.keys.token import STORAGE_KEY, Token, token_errors
from hsm.keys.token_keys import TokenAesKey, TokenTdesKey

# TDES keys have 24 bytes: SoftHSM's double length and single DES do not work under OpenSSL 3.
_KINDS = {
    "TDES": (KeyType.DES3, None, MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT),
    "AES": (KeyType.AES, 256, MechanismFlag.SIGN),
}


class StoredKey(msgspec.Struct, frozen=True):
    """A link key at rest: `wrapped` is upper-case hex of the key under the storage key `under` (RFC 3394)."""

    name: str
    usage: str
    party: str
    algorithm: str
    version: int
    kcv: str
    under: str
    wrapped: str


class KeyStore:
    """The file and what is loaded from it.

    Args:
        token: where keys are made, wrapped and unwrapped.
        file: `state/hsm/keys.json`.
    Raises:
        KeyStoreError: the file is broken.
    """

    def __init__(self, token: Token, file: Path) -> None:
        self._token = token
        self._file = file
        self._stored: dict[str, StoredKey] = {}
        if file.exists():
            try:
                stored = msgspec.json.decode(file.read_bytes(), type=list[StoredKey])
            except (OSError, msgspec.DecodeError):
                raise KeyStoreError(f"{file}: not a key file") from None
            self._stored = {key.name: key for key in stored}

    def load(self, configured: Iterable[KeyConfig]) -> dict[str, HeldKey]:
        """Return the configured keys, made now where they are new.

        Raises:
            KeyStoreError: a key does not unwrap or has another check value than when it was made.
            ConfigurationError: a key was made for another usage than the configuration says.
        """
        loaded, made = {}, False
        for key in configured:
            stored = self._stored.get(key.name)
            if stored is None:
                stored = self._stored[key.name] = self._make(key)
                made = True
            elif (stored.usage, stored.party) != (key.usage, key.party):
                raise ConfigurationError(
                    f"key {key.name} was made for {stored.usage} with {stored.party},"
                    f" the configuration says {key.usage} with {key.party}: give the new key a new name"
                )
            attributes = next(iter(ROLES[key.usage].algorithms.values()))
            handle = _key(stored, self._unwrapped(stored))
            loaded[key.name] = HeldKey(key.name, stored.version, attributes, stored.kcv, handle)
        if made:
            write_private(self._file, msgspec.json.format(msgspec.json.encode(list(self._stored.values()))))
        return loaded

    def export(self, configured: Iterable[KeyConfig], directory: Path) -> None:
        """Write `<party>.json` for each party, and its transport key where there is none yet.

        A transport key that lies there is used: the party may have brought its own.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for party in sorted({key.party for key in configured}):
            stored = [self._stored[key.name] for key in configured if key.party == party]
            path = directory / f"{party}.json"
            if self._exported(path) == [(key.name, key.kcv) for key in stored]:
                continue
            transport_key = self._transport_key(directory / f"{party}.zmk")
            keys = tuple(
                ExportedKey(
                    key.name, key.usage, key.algorithm, key.kcv, self._rewrapped(key, transport_key), key.version
                )
                for key in stored
            )
            write_private(path, msgspec.json.format(msgspec.json.encode(PartyKeys(party, keys))))

    def _make(self, key: KeyConfig) -> StoredKey:
        algorithm = {"T": "TDES", "A": "AES"}[next(iter(ROLES[key.usage].algorithms.values())).algorithm]
        kind, length, uses = _KINDS[algorithm]
        with token_errors(f"making key {key.name}"):
            # Extractable only as this session object: wrapping asks for it. What is used is unwrapped without.
            fresh = self._token.session.generate_key(
                kind,
                length,
                store=False,
                capabilities=uses,
                template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: True},
            )
            wrapped = self._token.storage_key.wrap_key(fresh, mechanism=Mechanism.AES_KEY_WRAP)
            kcv = _check_value(fresh, algorithm)
            fresh.destroy()
        return StoredKey(key.name, key.usage, key.party, algorithm, 1, kcv, STORAGE_KEY, wrapped.hex().upper())

    def _unwrapped(self, stored: StoredKey, *, extractable: bool = False) -> Any:
        kind, _, uses = _KINDS[stored.algorithm]
        try:
            with token_errors(f"unwrapping key {stored.name}"):
                handle = self._token.storage_key.unwrap_key(
                    ObjectClass.SECRET_KEY,
                    kind,
                    bytes.fromhex(stored.wrapped),
                    mechanism=Mechanism.AES_KEY_WRAP,
                    store=False,
                    capabilities=uses,
                    template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: extractable},
                )
                kcv = _check_value(handle, stored.algorithm)
        except (TokenError, ValueError) as error:
            raise KeyStoreError(f"{self._file}: key {stored.name} does not unwrap: {error}") from None
        if not hmac.compare_digest(kcv, stored.kcv):
            raise KeyStoreError(f"{self._file}: key {stored.name} has check value {kcv}, expected {stored.kcv}")
        return handle

    def _rewrapped(self, stored: StoredKey, transport_key: Any) -> str:
        with token_errors(f"exporting key {stored.name}"):
            handle = self._unwrapped(stored, extractable=True)
            wrapped: bytes = transport_key.wrap_key(handle, mechanism=Mechanism.AES_KEY_WRAP)
            handle.destroy()
        return wrapped.hex().upper()

    def _transport_key(self, path: Path) -> Any:
        # The custodian on the other side holds it in the clear, so this is the one key that Python sees.
        if not path.exists():
            write_private(path, secrets.token_hex(32).upper().encode() + b"\n")
        with token_errors("loading a transport key"):
            return self._token.session.create_object(
                {
                    Attribute.CLASS: ObjectClass.SECRET_KEY,
                    Attribute.KEY_TYPE: KeyType.AES,
                    Attribute.VALUE: read_transport_key(path),
                    Attribute.TOKEN: False,
                    Attribute.WRAP: True,
                    Attribute.SENSITIVE: True,
                    Attribute.EXTRACTABLE: False,
                }
            )

    @staticmethod
    def _exported(path: Path) -> list[tuple[str, str]]:
        try:
            exported = msgspec.json.decode(path.read_bytes(), type=PartyKeys)
        except (OSError, msgspec.DecodeError):
            return []
        return [(key.name, key.kcv) for key in exported.keys]


def _key(stored: StoredKey, handle: Any) -> Key:
    return TokenTdesKey(handle) if stored.algorithm == "TDES" else TokenAesKey(handle, 256)


def _check_value(handle: Any, algorithm: str) -> str:
    if algorithm == "TDES":
        value: bytes = handle.encrypt(bytes(8), mechanism=Mechanism.DES3_ECB)
    else:
        value = handle.sign(bytes(16), mechanism=Mechanism.AES_CMAC)
    return value[:3].hex().upper()
