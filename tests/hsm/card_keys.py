"""Keyrings of known keys for the tests of card commands: clear ones, and the same keys in a SoftHSM token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from pkcs11 import Attribute, KeyType, ObjectClass

from hsm.algorithms.clear_keys import ClearAesKey, ClearTdesKey
from hsm.algorithms.primitives import TdesKey
from hsm.config import HsmConfig
from hsm.keys.attributes import ROLES, KeyAttributes
from hsm.keys.keyring import HeldKey, usable
from hsm.keys.permissions import Operation
from hsm.keys.token import Token
from hsm.keys.token_keys import TokenTdesKey


class KnownKeyring:
    """The part of `hsm.keys.keyring.Keyring` that finds keys: by name role and versions, the one in force first."""

    def __init__(self, keys: Mapping[str, tuple[str, Sequence[TdesKey]]]) -> None:
        self._keys = {
            name: tuple(
                HeldKey(name, len(versions) - index, ROLES[role].algorithms["TDES"], "", key)
                for index, key in enumerate(versions)
            )
            for name, (role, versions) in keys.items()
        }
        # A key block may bring an AES key of a usage whose commands are made of triple DES.
        self._keys |= {
            f"{role}-aes": (HeldKey(f"{role}-aes", 1, _aes(role), "", ClearAesKey(bytes(32))),)
            for role, _ in keys.values()
        }
        self.used: list[tuple[str, Operation]] = []

    def key(self, name: str, operation: Operation) -> HeldKey:
        self.used.append((name, operation))
        return usable(name, operation, self._keys)[0]

    def candidates(self, name: str, operation: Operation) -> Sequence[HeldKey]:
        self.used.append((name, operation))
        return usable(name, operation, self._keys)

    def fingerprint(self, pan: str) -> bytes:
        raise NotImplementedError

    def seal(self, clear: bytes, nonce: bytes, associated: bytes) -> Any:
        raise NotImplementedError

    def unseal(self, sealed: Any, associated: bytes) -> bytes:
        raise NotImplementedError


def _aes(role: str) -> KeyAttributes:
    return msgspec.structs.replace(ROLES[role].algorithms["TDES"], algorithm="A", length=32)


def token_key(session: Any, value: bytes) -> TokenTdesKey:
    """Put a double or triple-length key into the token as the key store does: whole, and its left half three times."""
    whole = value + value[:8] if len(value) == 16 else value
    return TokenTdesKey(_object(session, whole), _object(session, value[:8] * 3))


def _object(session: Any, value: bytes) -> Any:
    return session.create_object(
        {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.DES3,
            Attribute.VALUE: value,
            Attribute.TOKEN: False,
            Attribute.ENCRYPT: True,
            Attribute.DECRYPT: True,
            Attribute.SIGN: True,
            Attribute.DERIVE: True,
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
        }
    )


@contextmanager
def key_maker(kind: str, directory: Path) -> Iterator[Callable[[bytes], TdesKey]]:
    """Yield what makes keys of their values: clear ones (`memory`), or in a SoftHSM token of its own (`token`)."""
    if kind == "memory":
        yield ClearTdesKey
        return
    token = Token(HsmConfig(), directory / "hsm")
    try:
        yield partial(token_key, token.session)
    finally:
        token.close()
