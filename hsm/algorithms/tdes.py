"""Triple DES on single blocks, and key check values.

Keys of 16 or 24 bytes and data of whole blocks go in, blocks and check values come out. Called by the software HSM,
the simulators and the tests; in the HSM process the token does this work.
"""

from __future__ import annotations

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

BLOCK_BYTES = 8


def tdes_encrypt(key: bytes, data: bytes) -> bytes:
    """Encrypt whole blocks, ECB.

    Args:
        key: 16 bytes (K1 K2 K1) or 24 bytes.
        data: a multiple of 8 bytes.
    Raises:
        ValueError: another length.
    Source: NIST SP 800-67 rev. 2, section 3.
    """
    encryptor = _cipher(key).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def tdes_decrypt(key: bytes, data: bytes) -> bytes:
    """Decrypt whole blocks, ECB; arguments and errors as in `tdes_encrypt`."""
    decryptor = _cipher(key).decryptor()
    return decryptor.update(data) + decryptor.finalize()


def tdes_check_value(key: bytes) -> bytes:
    """Return the key check value: the first 3 bytes of a zero block under the key.

    Source: ANSI X9.24-1:2017, annex A (the "legacy" method).
    """
    return tdes_encrypt(key, bytes(BLOCK_BYTES))[:3]


def aes_check_value(key: bytes) -> bytes:
    """Return the key check value of an AES key: the first 3 bytes of the CMAC over a zero block.

    Source: ANSI X9.24-1:2017, annex A (the CMAC method).
    """
    cmac = CMAC(AES(key))
    cmac.update(bytes(16))
    return cmac.finalize()[:3]


def _cipher(key: bytes) -> Cipher[modes.ECB]:
    if len(key) not in (16, 24):
        raise ValueError("a triple DES key has 16 or 24 bytes")
    return Cipher(TripleDES(key + key[:8] if len(key) == 16 else key), modes.ECB())
