"""Keys in the clear, as `hsm.algorithms.primitives` asks for them, on `cryptography`.

Simulators and tests hold the other end of a key with them, the software HSM all of its keys, and the HSM process those
that exist for one operation (DUKPT transaction keys). Python's bytes cannot be wiped: let go of them soon.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import cycle

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC


class ClearTdesKey:
    """A DES key of 8 (single), 16 or 24 bytes.

    Raises:
        ValueError: another length.
    """

    def __init__(self, value: bytes) -> None:
        if len(value) not in (8, 16, 24):
            raise ValueError("a DES key has 8, 16 or 24 bytes")
        self._value = value
        self._algorithm = TripleDES({8: value * 3, 16: value + value[:8]}.get(len(value), value))

    def __repr__(self) -> str:
        return "ClearTdesKey(…)"

    @property
    def bits(self) -> int:
        return 8 * len(self._value)

    def encrypt(self, data: bytes) -> bytes:
        return self._crypt(modes.ECB(), data, encrypt=True)

    def decrypt(self, data: bytes) -> bytes:
        return self._crypt(modes.ECB(), data, encrypt=False)

    def encrypt_cbc(self, data: bytes, iv: bytes = bytes(8)) -> bytes:
        return self._crypt(modes.CBC(iv), data, encrypt=True)

    def decrypt_cbc(self, data: bytes, iv: bytes = bytes(8)) -> bytes:
        return self._crypt(modes.CBC(iv), data, encrypt=False)

    def cmac(self, data: bytes) -> bytes:
        mac = CMAC(self._algorithm)
        mac.update(data)
        return mac.finalize()

    @property
    def single(self) -> ClearTdesKey:
        return ClearTdesKey(self._value[:8])

    @contextmanager
    def derive(self, data: bytes) -> Iterator[ClearTdesKey]:
        if len(data) != 16:
            raise ValueError("a key is derived from 16 bytes")
        yield ClearTdesKey(self.encrypt(data))

    def masked(self, mask: bytes) -> ClearTdesKey:
        if len(mask) not in (8, len(self._value)):
            raise ValueError("a mask has 8 bytes or the length of the key")
        return ClearTdesKey(bytes(left ^ right for left, right in zip(self._value, cycle(mask), strict=False)))

    def _crypt(self, mode: modes.ECB | modes.CBC, data: bytes, *, encrypt: bool) -> bytes:
        cipher = Cipher(self._algorithm, mode)
        context = cipher.encryptor() if encrypt else cipher.decryptor()
        return context.update(data) + context.finalize()


class ClearAesKey:
    """An AES key of 16, 24 or 32 bytes; ValueError for another length."""

    def __init__(self, value: bytes) -> None:
        self._algorithm = AES(value)

    def __repr__(self) -> str:
        return "ClearAesKey(…)"

    @property
    def bits(self) -> int:
        return self._algorithm.key_size

    def encrypt(self, data: bytes) -> bytes:
        encryptor = Cipher(self._algorithm, modes.ECB()).encryptor()
        return encryptor.update(data) + encryptor.finalize()

    def decrypt(self, data: bytes) -> bytes:
        decryptor = Cipher(self._algorithm, modes.ECB()).decryptor()
        return decryptor.update(data) + decryptor.finalize()

    def encrypt_cbc(self, data: bytes, iv: bytes = bytes(16)) -> bytes:
        encryptor = Cipher(self._algorithm, modes.CBC(iv)).encryptor()
        return encryptor.update(data) + encryptor.finalize()

    def decrypt_cbc(self, data: bytes, iv: bytes = bytes(16)) -> bytes:
        decryptor = Cipher(self._algorithm, modes.CBC(iv)).decryptor()
        return decryptor.update(data) + decryptor.finalize()

    def cmac(self, data: bytes) -> bytes:
        mac = CMAC(self._algorithm)
        mac.update(data)
        return mac.finalize()


class ClearHmacKey:
    """A key of 16–64 bytes for HMAC-SHA-256; ValueError for another length."""

    def __init__(self, value: bytes) -> None:
        if not 16 <= len(value) <= 64:
            raise ValueError("an HMAC key has 16 to 64 bytes")
        self._value = value

    def __repr__(self) -> str:
        return "ClearHmacKey(…)"

    def hmac(self, data: bytes) -> bytes:
        return hmac.digest(self._value, data, sha256)
