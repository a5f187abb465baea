"""EMV application cryptograms (ARQC, TC, AAC) and the issuer's answer to them (ARPC).

A session key (or a card's key, where the scheme has no session) and chip data go in, cryptograms come out. Called by
`hsm.cryptograms` on the issuer's side and by simulators on the card's; which key and padding a scheme takes is in
`hsm.algorithms.emv_schemes`.
"""

from __future__ import annotations

from hsm.algorithms.mac import retail_mac
from hsm.algorithms.primitives import DES_BLOCK_BYTES, TdesKey

CRYPTOGRAM_BYTES = 8
MAX_DATA_BYTES = 1024


def application_cryptogram(key: TdesKey, data: bytes, padding: int) -> bytes:
    """Return the cryptogram, 8 bytes.

    Args:
        data: the card's input of the cryptogram, 1–1024 bytes, not padded.
        padding: 1 or 2, the padding method of ISO 9797-1.
    Raises:
        ValueError: data of another length, or another padding method.
    Source: EMV 4.3 Book 2, 8.1.2 and A1.2.1.
    """
    if not 1 <= len(data) <= MAX_DATA_BYTES:
        raise ValueError("the data of a cryptogram has 1 to 1024 bytes")
    if padding not in (1, 2):
        raise ValueError("the padding methods of cryptograms are 1 and 2")
    return retail_mac(key, data, padding)


def arpc_method_1(key: TdesKey, cryptogram: bytes, arc: bytes) -> bytes:
    """Return the ARPC, 8 bytes, of a cryptogram of 8 bytes and the authorisation response code, 2 bytes.

    Raises:
        ValueError: another length.
    Source: EMV 4.3 Book 2, 8.2.1.
    """
    check_cryptogram(cryptogram)
    if len(arc) != 2:
        raise ValueError("an authorisation response code has 2 bytes")
    code = int.from_bytes(arc.ljust(DES_BLOCK_BYTES, b"\0"), "big")
    return key.encrypt((int.from_bytes(cryptogram, "big") ^ code).to_bytes(DES_BLOCK_BYTES, "big"))


def arpc_method_2(key: TdesKey, cryptogram: bytes, csu: bytes, proprietary: bytes = b"") -> bytes:
    """Return the ARPC, 4 bytes, of a cryptogram of 8 bytes, the card status update, 4 bytes, and 0–8 bytes of
    proprietary authentication data.

    Raises:
        ValueError: another length.
    Source: EMV 4.3 Book 2, 8.2.2.
    """
    check_cryptogram(cryptogram)
    if len(csu) != 4:
        raise ValueError("a card status update has 4 bytes")
    if len(proprietary) > 8:
        raise ValueError("proprietary authentication data has 0 to 8 bytes")
    return retail_mac(key, cryptogram + csu + proprietary, 2)[:4]


def check_cryptogram(cryptogram: bytes) -> None:
    """Raise ValueError unless a cryptogram has 8 bytes."""
    if len(cryptogram) != CRYPTOGRAM_BYTES:
        raise ValueError("a cryptogram has 8 bytes")
