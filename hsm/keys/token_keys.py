"""Keys inside a PKCS#11 token, as `hsm.algorithms.primitives` asks for them.

Handles of session objects go in; each operation is one PKCS#11 call of 9–20 µs (deriving: two, 150 µs). Called by the
key store, which makes the handles, and through the algorithms by the whole process, on its one PKCS#11 thread.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag
from pkcs11.constants import DEFAULT
from pkcs11.exceptions import PKCS11Error

from hsm.algorithms.primitives import AES_BLOCK_BYTES, DES_BLOCK_BYTES
from hsm.errors import TokenError

# SoftHSM knows the length of a triple DES key and refuses to be told.
_DERIVED = {Attribute.VALUE_LEN: DEFAULT, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
_DERIVED_USES = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT | MechanismFlag.SIGN | MechanismFlag.DERIVE


class TokenTdesKey:
    """A triple DES key in the token.

    Args:
        handle: of the key, 24 bytes; of a double-length one K1 K2 K1.
        single: of its left half three times over, where the key is used in halves.
        masked: of the key XOR a mask, by mask of 8 or more bytes, where it is used so.
        bits: 128 for a double-length key, 192 for a triple-length one; what protects key blocks needs it.
    """

    def __init__(
        self,
        handle: Any,
        single: Any = None,
        masked: Mapping[bytes, Any] | None = None,
        bits: int | None = None,
    ) -> None:
        self._handle = handle
        self._bits = bits
        self._single = single
        self._masked = dict(masked or {})

    @property
    def bits(self) -> int:
        if self._bits is None:
            raise ValueError("this key was not told its length")
        return self._bits

    def encrypt(self, data: bytes) -> bytes:
        return _whole(self._handle.encrypt, data, DES_BLOCK_BYTES, Mechanism.DES3_ECB)

    def decrypt(self, data: bytes) -> bytes:
        return _whole(self._handle.decrypt, data, DES_BLOCK_BYTES, Mechanism.DES3_ECB)

    def encrypt_cbc(self, data: bytes, iv: bytes = bytes(8)) -> bytes:
        return _whole(self._handle.encrypt, data, DES_BLOCK_BYTES, Mechanism.DES3_CBC, iv)

    def decrypt_cbc(self, data: bytes, iv: bytes = bytes(8)) -> bytes:
        return _whole(self._handle.decrypt, data, DES_BLOCK_BYTES, Mechanism.DES3_CBC, iv)

    def cmac(self, data: bytes) -> bytes:
        return _call("CMAC", self._handle.sign, data, Mechanism.DES3_CMAC)

    @property
    def single(self) -> TokenTdesKey:
        if self._single is None:
            raise ValueError("this key was not made to be used in halves")
        return TokenTdesKey(self._single)

    @contextmanager
    def derive(self, data: bytes) -> Iterator[TokenTdesKey]:
        if len(data) != 2 * DES_BLOCK_BYTES:
            raise ValueError("a key is derived from 16 bytes")
        left = data[:DES_BLOCK_BYTES]
        handles = []
        try:
            for halves in (data + left, left * 3):
                handles.append(self._derived(halves))
            yield TokenTdesKey(*handles)
        finally:
            for handle in handles:
                _destroy(handle)

    def masked(self, mask: bytes) -> TokenTdesKey:
        handle = self._masked.get(mask)
        if handle is None:
            raise ValueError("this key was not made to be used with that mask")
        return TokenTdesKey(handle)

    def _derived(self, data: bytes) -> Any:
        # The mechanism's parameter is CK_KEY_DERIVATION_STRING_DATA, which python-pkcs11 passes on as bytes.
        buffer = ctypes.create_string_buffer(data, len(data))
        parameter = struct.pack("@PN", ctypes.addressof(buffer), len(data))
        try:
            return self._handle.derive_key(
                KeyType.DES3,
                8 * len(data),
                mechanism=Mechanism.DES3_ECB_ENCRYPT_DATA,
                mechanism_param=parameter,
                capabilities=_DERIVED_USES,
                template=_DERIVED,
            )
        except PKCS11Error as error:
            raise TokenError(f"deriving a key: {type(error).__name__}") from None


class TokenAesKey:
    """An AES key in the token."""

    def __init__(self, handle: Any, bits: int) -> None:
        self._handle = handle
        self._bits = bits

    @property
    def bits(self) -> int:
        return self._bits

    def encrypt(self, data: bytes) -> bytes:
        return _whole(self._handle.encrypt, data, AES_BLOCK_BYTES, Mechanism.AES_ECB)

    def decrypt(self, data: bytes) -> bytes:
        return _whole(self._handle.decrypt, data, AES_BLOCK_BYTES, Mechanism.AES_ECB)

    def cmac(self, data: bytes) -> bytes:
        return _call("CMAC", self._handle.sign, data, Mechanism.AES_CMAC)


class TokenHmacKey:
    """A key for HMAC-SHA-256 in the token."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def hmac(self, data: bytes) -> bytes:
        return _call("HMAC", self._handle.sign, data, Mechanism.SHA256_HMAC)


def _destroy(handle: Any) -> None:
    try:
        handle.destroy()
    except PKCS11Error as error:
        raise TokenError(f"destroying a derived key: {type(error).__name__}") from None


def _whole(operation: Any, data: bytes, block: int, mechanism: Mechanism, iv: bytes | None = None) -> bytes:
    if not data or len(data) % block:
        raise ValueError(f"data is whole blocks of {block} bytes")
    return _call(mechanism.name, operation, data, mechanism, iv)


def _call(what: str, operation: Any, data: bytes = b"", mechanism: Mechanism | None = None, iv: Any = None) -> bytes:
    try:
        result: bytes = operation(data, mechanism=mechanism, mechanism_param=iv)
    except PKCS11Error as error:
        raise TokenError(f"{what}: {type(error).__name__}") from None
    return result
