"""Keys shared with another party, as files under a transport key.

The HSM writes `<party>.json` on first start: each key wrapped under the party's transport key. `<party>.zmk` is that
transport key in hexadecimal, which the party's custodian would hold. Simulators, standing for the other party, read
their keys with `load_party_keys`; the clear keys then live in their memory, as they would at an issuer's.
"""

from __future__ import annotations

import hmac
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from hsm.algorithms.tdes import aes_check_value, tdes_check_value
from hsm.errors import KeyStoreError

CHECK_VALUES = {"TDES": tdes_check_value, "AES": aes_check_value}


class ExportedKey(msgspec.Struct, frozen=True):
    """A key under a transport key: `kcv` and `wrapped` are upper-case hex, `algorithm` TDES or AES."""

    name: str
    usage: str
    algorithm: str
    kcv: str
    wrapped: str
    version: int = 1


class PartyKeys(msgspec.Struct, frozen=True):
    """The content of `<party>.json`."""

    party: str
    keys: tuple[ExportedKey, ...] = ()


def load_party_keys(directory: Path, party: str) -> dict[str, bytes]:
    """Return the clear keys that the HSM exported for `party`, by name.

    Args:
        directory: where `<party>.json` and `<party>.zmk` are.
        party: the party's name, as in `[[key]] party`.
    Raises:
        KeyStoreError: a file is missing or broken, a key does not unwrap, or its check value differs.
    Source: RFC 3394 for the wrapping.
    """
    transport_key = read_transport_key(directory / f"{party}.zmk")
    path = directory / f"{party}.json"
    try:
        exported = msgspec.json.decode(path.read_bytes(), type=PartyKeys)
    except (OSError, msgspec.DecodeError) as error:
        raise KeyStoreError(f"{path}: {_reason(error)}") from None
    return {key.name: _unwrapped(key, transport_key, path) for key in exported.keys}


def read_transport_key(path: Path) -> bytes:
    """Return the transport key in a `.zmk` file: 64 hex digits, AES-256.

    Raises:
        KeyStoreError: no such file, or something else in it.
    """
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except OSError as error:
        raise KeyStoreError(f"{path}: {_reason(error)}") from None
    except ValueError:
        key = b""
    if len(key) != 32:
        raise KeyStoreError(f"{path}: expected 64 hexadecimal digits")
    return key


def _unwrapped(key: ExportedKey, transport_key: bytes, path: Path) -> bytes:
    check_value = CHECK_VALUES.get(key.algorithm)
    if check_value is None:
        raise KeyStoreError(f"{path}: key {key.name}: unknown algorithm {key.algorithm!r}")
    try:
        clear = aes_key_unwrap(transport_key, bytes.fromhex(key.wrapped))
        kcv = check_value(clear).hex().upper()
    except (InvalidUnwrap, ValueError):
        raise KeyStoreError(f"{path}: key {key.name} does not unwrap under {path.stem}.zmk") from None
    if not hmac.compare_digest(kcv, key.kcv):
        raise KeyStoreError(f"{path}: key {key.name} has check value {kcv}, expected {key.kcv}")
    return clear


def _reason(error: Exception) -> str:
    return error.strerror or "cannot be read" if isinstance(error, OSError) else "not a key file"
