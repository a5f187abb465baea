"""Keys inside a PKCS#11 token, as `hsm.algorithms.primitives` asks for them.

Handles of session objects go in; each operation is one PKCS#11 call of 9–20 µs (deriving: two, 150 µs). Called by the
key store, which makes the handles, and through the algorithms by the whole process, on its one PKCS#11 thread.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag
from pkcs11.constants import DEFAULT
from pkcs11.exceptions import PKCS11Error

from hsm.algorithms.primitives import AES_BLOCK_BYTES, DES_BLOCK_BYTES
from hsm.errors import TokenError
from hsm.keys.direct_calls import direct

# SoftHSM knows the length of a triple DES key and refuses one as an argument.
_DERIVED = {Attribute.VALUE_LEN: DEFAULT, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
# Looked up once: an attribute of an Enum costs as much as a call.
_DES3_ECB, _DES3_CBC, _DES3_CMAC = Mechanism.DES3_ECB, Mechanism.DES3_CBC, Mechanism.DES3_CMAC
_AES_ECB, _AES_CMAC, _SHA256_HMAC = Mechanism.AES_ECB, Mechanism.AES_CMAC, Mechanism.SHA256_HMAC
_DERIVED_USES = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT | MechanismFlag.SIGN | MechanismFlag.DERIVE


class TokenTdesKey:
    """A triple DES key in the token.

    Args:
        handle: of the key, 24 bytes; of a double-length one K1 K2 K1.
        single: of its left half three times over, where the key is used in halves.
        masked: of the key XOR a mask, by mask of 8 or more bytes, where it is used so.
        bits: 128 for a double-length key, 192 for a triple-length one; keys that protect key blocks need it.
    """

    def __init__(
        self,
        handle: Any,
        single: Any = None,
        masked: Mapping[bytes, Any] | None = None,
        bits: int | None = None,
    ) -> None:
        self._handle = handle
        self._single = None if single is None else TokenTdesKey(single, bits=64)
        self._masked = {mask: TokenTdesKey(part, bits=bits) for mask, part in (masked or {}).items()}
        self._bits = bits
        # Bound once: each of these is asked for thousands of times a second.
        self._encrypt, self._decrypt, self._sign = _operations(handle)

    @property
    def bits(self) -> int:
        if self._bits is None:
            raise ValueError("the length of this key is not known")
        return self._bits

    def encrypt(self, data: bytes) -> bytes:
        if not data or len(data) % DES_BLOCK_BYTES:
            raise _not_whole(DES_BLOCK_BYTES)
        try:
            result: bytes = self._encrypt(data, mechanism=_DES3_ECB)
        except PKCS11Error as error:
            raise _failed("encryption", error) from None
        return result

    def decrypt(self, data: bytes) -> bytes:
        if not data or len(data) % DES_BLOCK_BYTES:
            raise _not_whole(DES_BLOCK_BYTES)
        try:
            result: bytes = self._decrypt(data, mechanism=_DES3_ECB)
        except PKCS11Error as error:
            raise _failed("decryption", error) from None
        return result

    def encrypt_cbc(self, data: bytes, iv: bytes = bytes(8)) -> bytes:
        if not data or len(data) % DES_BLOCK_BYTES:
            raise _not_whole(DES_BLOCK_BYTES)
        try:
            result: bytes = self._encrypt(data, mechanism=_DES3_CBC, mechanism_param=iv)
        except PKCS11Error as error:
            raise _failed("encryption", error) from None
        return result

    def decrypt_cbc(self, data: bytes, iv: bytes = bytes(8)) -> bytes:
        if not data or len(data) % DES_BLOCK_BYTES:
            raise _not_whole(DES_BLOCK_BYTES)
        try:
            result: bytes = self._decrypt(data, mechanism=_DES3_CBC, mechanism_param=iv)
        except PKCS11Error as error:
            raise _failed("decryption", error) from None
        return result

    def cmac(self, data: bytes) -> bytes:
        try:
            result: bytes = self._sign(data, mechanism=_DES3_CMAC)
        except PKCS11Error as error:
            raise _failed("CMAC", error) from None
        return result

    def destroy(self) -> None:
        """Let the token forget the key and what was prepared with it."""
        _destroy(self._handle)
        for part in (self._single, *self._masked.values()):
            if part is not None:
                part.destroy()

    @property
    def single(self) -> TokenTdesKey:
        if self._single is None:
            raise ValueError("this key was not made to be used in halves")
        return self._single

    @contextmanager
    def derive(self, data: bytes) -> Iterator[TokenTdesKey]:
        if len(data) != 2 * DES_BLOCK_BYTES:
            raise ValueError("a key is derived from 16 bytes")
        left = data[:DES_BLOCK_BYTES]
        derived = _DerivedTdesKey(self._derived(data + left), lambda: self._derived(left * 3))
        try:
            yield derived
        finally:
            derived.destroy()

    def masked(self, mask: bytes) -> TokenTdesKey:
        masked = self._masked.get(mask)
        if masked is None:
            raise ValueError("this key was not made to be used with that mask")
        return masked

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


class _DerivedTdesKey(TokenTdesKey):
    """A derived key, whose left half is derived when it is asked for: half of them never are, and it takes 100 µs."""

    def __init__(self, handle: Any, left_half: Callable[[], Any]) -> None:
        super().__init__(handle, bits=128)
        self._left_half = left_half

    @property
    def single(self) -> TokenTdesKey:
        if self._single is None:
            self._single = TokenTdesKey(self._left_half(), bits=64)
        return self._single


class TokenAesKey:
    """An AES key in the token."""

    def __init__(self, handle: Any, bits: int) -> None:
        self._handle = handle
        self._bits = bits
        self._encrypt, self._decrypt, self._sign = _operations(handle)

    @property
    def bits(self) -> int:
        return self._bits

    def encrypt(self, data: bytes) -> bytes:
        if not data or len(data) % AES_BLOCK_BYTES:
            raise _not_whole(AES_BLOCK_BYTES)
        try:
            result: bytes = self._encrypt(data, mechanism=_AES_ECB)
        except PKCS11Error as error:
            raise _failed("encryption", error) from None
        return result

    def decrypt(self, data: bytes) -> bytes:
        if not data or len(data) % AES_BLOCK_BYTES:
            raise _not_whole(AES_BLOCK_BYTES)
        try:
            result: bytes = self._decrypt(data, mechanism=_AES_ECB)
        except PKCS11Error as error:
            raise _failed("decryption", error) from None
        return result

    def cmac(self, data: bytes) -> bytes:
        try:
            result: bytes = self._sign(data, mechanism=_AES_CMAC)
        except PKCS11Error as error:
            raise _failed("CMAC", error) from None
        return result

    def destroy(self) -> None:
        """Let the token forget the key."""
        _destroy(self._handle)


class TokenHmacKey:
    """A key for HMAC-SHA-256 in the token."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._sign = direct(handle, "sign")

    def hmac(self, data: bytes) -> bytes:
        try:
            result: bytes = self._sign(data, mechanism=_SHA256_HMAC)
        except PKCS11Error as error:
            raise _failed("HMAC", error) from None
        return result

    def destroy(self) -> None:
        """Let the token forget the key."""
        _destroy(self._handle)


TokenKey = TokenTdesKey | TokenAesKey | TokenHmacKey


def _operations(handle: Any) -> tuple[Any, Any, Any]:
    # A handle has the methods that the token lets its key do.
    encrypt, decrypt, sign = (
        direct(handle, name) if hasattr(handle, name) else _not_made_for_this for name in ("encrypt", "decrypt", "sign")
    )
    return encrypt, decrypt, sign


def _not_made_for_this(*_: object, **__: object) -> bytes:
    raise ValueError("this key was not made for this operation")


def _destroy(handle: Any) -> None:
    try:
        handle.destroy()
    except PKCS11Error as error:
        raise TokenError(f"destroying a key: {type(error).__name__}") from None


def _not_whole(block: int) -> ValueError:
    return ValueError(f"data is whole blocks of {block} bytes")


def _failed(what: str, error: PKCS11Error) -> TokenError:
    return TokenError(f"{what}: {type(error).__name__}")
