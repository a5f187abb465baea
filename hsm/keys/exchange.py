"""Keys shared with another party, as files in the place of its custodians.

`<party>.json` holds the party's keys as key blocks (X9.143, version D) under its zone master key; `<party>.zmk` is that
master key in hexadecimal, as a custodian on the other side would hold it. The key store writes both where keys are
provisioned by themselves; simulators and `cardswitch send`, standing for the other party, read their keys with
`load_party_keys`: the clear keys then live in their memory, as they would at an issuer's. Files of earlier versions,
with keys wrapped by RFC 3394 instead, are still read.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from hsm.algorithms.check_value import clear_check_value
from hsm.algorithms.clear_keys import ClearAesKey
from hsm.algorithms.keyblock import unwrap_block, wrap_block
from hsm.algorithms.primitives import AesKey
from hsm.errors import KeyBlockError, KeyStoreError
from hsm.keys.attributes import ALGORITHMS, KeyAttributes
from hsm.keys.softhsm import write_private

BLOCK_VERSION = "D"
ZMK_BYTES = 32
_CODES = {name: code for code, name in ALGORITHMS.items()}


class ExportedKey(msgspec.Struct, frozen=True):
    """A key under a zone master key: `usage` is its role, `algorithm` TDES, AES or HMAC-SHA-256, `kcv` upper-case hex.

    `block` is the key block; `wrapped` is upper-case hex of RFC 3394 in files of earlier versions, which have no block.
    """

    name: str
    usage: str
    algorithm: str
    kcv: str
    wrapped: str = ""
    version: int = 1
    block: str = ""

    def __repr__(self) -> str:
        return f"ExportedKey({self.name!r}, version {self.version}, KCV {self.kcv})"


class PartyKeys(msgspec.Struct, frozen=True):
    """The content of `<party>.json`."""

    party: str
    keys: tuple[ExportedKey, ...] = ()


def load_party_keys(directory: Path, party: str) -> dict[str, bytes]:
    """Return the clear keys that the HSM exported for `party`, by name; TDES keys have the length they were made with.

    Args:
        directory: where `<party>.json` and `<party>.zmk` are.
        party: the party's name, as in `[[key]] party`.
    Raises:
        KeyStoreError: a file is missing or broken, a key does not unwrap, or its check value differs.
    Source: ANSI X9.143-2021, 7 (version D); RFC 3394 for files of earlier versions.
    """
    zmk = load_party_zmk(directory, party)
    path = directory / f"{party}.json"
    try:
        exported = msgspec.json.decode(path.read_bytes(), type=PartyKeys)
    except (OSError, msgspec.DecodeError) as error:
        raise KeyStoreError(f"{path}: {_reason(error)}") from None
    return {key.name: _unwrapped(key, zmk, path) for key in exported.keys}


def load_party_zmk(directory: Path, party: str) -> bytes:
    """Return the zone master key in `<party>.zmk`: 64 hex digits, AES-256.

    Raises:
        KeyStoreError: no such file, or something else in it.
    """
    return read_transport_key(directory / f"{party}.zmk")


def make_party_zmk(directory: Path, party: str, random_bytes: Callable[[int], bytes]) -> bytes:
    """Return the party's zone master key, written to `<party>.zmk` (mode 0600) now where there is none yet.

    One that lies there is used: the party may have brought its own.

    Raises:
        KeyStoreError: the file there is no key, or the directory cannot be written.
    """
    path = directory / f"{party}.zmk"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            write_private(path, random_bytes(ZMK_BYTES).hex().upper().encode() + b"\n")
    except OSError as error:
        raise KeyStoreError(f"{path}: {_reason(error)}") from None
    return read_transport_key(path)


def export_key(
    zmk: AesKey,
    key: bytes,
    attributes: KeyAttributes,
    random_bytes: Callable[[int], bytes],
    *,
    name: str,
    role: str,
    kcv: str,
    version: int = 1,
) -> ExportedKey:
    """Return a key as the party's file holds it.

    Args:
        zmk: the party's zone master key, in the token or in the clear, AES-256.
        key: the clear key; it lives for this call.
        attributes, name, role, kcv, version: of the key.
        random_bytes: as in `hsm.algorithms.keyblock.wrap_block`.
    Raises:
        KeyBlockError: the key does not fit its attributes.
    """
    block = wrap_block(zmk, key, attributes, BLOCK_VERSION, random_bytes)
    return ExportedKey(name, role, ALGORITHMS[attributes.algorithm], kcv, version=version, block=block)


def write_party_keys(directory: Path, party: str, keys: Iterable[ExportedKey]) -> None:
    """Replace `<party>.json` (mode 0600), durable when this returns.

    Raises:
        KeyStoreError: the directory cannot be written.
    """
    path = directory / f"{party}.json"
    content = msgspec.json.format(msgspec.json.encode(PartyKeys(party, tuple(keys))))
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, content)
    except OSError as error:
        raise KeyStoreError(f"{path}: {_reason(error)}") from None


def exported_keys(directory: Path, party: str) -> tuple[ExportedKey, ...]:
    """Return what `<party>.json` holds, without unwrapping; nothing where there is no such file or it is broken."""
    try:
        return msgspec.json.decode((directory / f"{party}.json").read_bytes(), type=PartyKeys).keys
    except (OSError, msgspec.DecodeError):
        return ()


def read_transport_key(path: Path) -> bytes:
    """Return the zone master key in a `.zmk` file: 64 hex digits, AES-256.

    Raises:
        KeyStoreError: no such file, or something else in it.
    """
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except OSError as error:
        raise KeyStoreError(f"{path}: {_reason(error)}") from None
    except ValueError:
        key = b""
    if len(key) != ZMK_BYTES:
        raise KeyStoreError(f"{path}: expected 64 hexadecimal digits")
    return key


def _unwrapped(key: ExportedKey, zmk: bytes, path: Path) -> bytes:
    code = _CODES.get(key.algorithm)
    if code is None:
        raise KeyStoreError(f"{path}: key {key.name}: unknown algorithm {key.algorithm!r}")
    try:
        if key.block:
            found = unwrap_block(ClearAesKey(zmk), key.block)
            if found.attributes.algorithm != code:
                raise KeyStoreError(f"{path}: key {key.name} is no {key.algorithm} key")
            clear = found.key
        else:
            clear = aes_key_unwrap(zmk, bytes.fromhex(key.wrapped))
        kcv = clear_check_value(code, clear)
    except KeyBlockError as error:
        raise KeyStoreError(f"{path}: key {key.name} does not unwrap under {path.stem}.zmk: {error}") from None
    except (InvalidUnwrap, ValueError):
        raise KeyStoreError(f"{path}: key {key.name} does not unwrap under {path.stem}.zmk") from None
    if not hmac.compare_digest(kcv, key.kcv):
        raise KeyStoreError(f"{path}: key {key.name} has check value {kcv}, expected {key.kcv}")
    return clear


def _reason(error: Exception) -> str:
    return error.strerror or "cannot be read" if isinstance(error, OSError) else "not a key file"
