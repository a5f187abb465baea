"""Key blocks: a key with its attributes, bound together under a key block protection key (TR-31, X9.143).

A protection key (KBPK: a zone master key, in a token or in the clear), the text of a block and clear keys go in; the
clear key with its attributes comes out, or the text. The key inside and the two keys derived for the block are Python
bytes for the length of one call: no PKCS#11 token does this. Called by the key commands, by `hsm.keys.exchange` and by
simulators.

Versions B (TDES protection key) and D (AES) are written and read; A and C, the variants that X9.143 deprecates, are
only read.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TypeGuard

import msgspec

from hsm.algorithms.check_value import clear_key
from hsm.algorithms.clear_keys import ClearAesKey, ClearTdesKey
from hsm.algorithms.keyblock_header import (
    VERSIONS,
    BlockVersion,
    OptionalBlocks,
    check_attributes,
    check_hash,
    check_key_check_value,
    format_header,
    parse_header,
    read_hex,
    with_hash,
)
from hsm.algorithms.primitives import AES_BLOCK_BYTES, DES_BLOCK_BYTES, AesKey, TdesKey
from hsm.errors import KeyBlockError
from hsm.keys.attributes import KeyAttributes

# Keys are padded to the longest of their algorithm, so that a block does not reveal their length.
PADDED_KEY_BYTES = {"T": 24, "A": 32, "H": 64}
KEY_LENGTHS = {"T": (16, 24), "A": (16, 24, 32), "H": tuple(range(16, 65))}

# NIST SP 800-57 part 1, table 2: bits of security of TDES by key length.
_TDES_STRENGTH = {16: 80, 24: 112}
_ClearKey = ClearTdesKey | ClearAesKey
_VARIANT_ENCRYPTION = b"\x45" * 8
_VARIANT_AUTHENTICATION = b"\x4d" * 8
_LENGTH_BYTES = 2
_FOR_ENCRYPTION, _FOR_AUTHENTICATION = b"\x00\x00", b"\x00\x01"
# The name of the protection key in the derivation, by version and bytes. TR-31:2018, 5.3.2.1 and 5.3.2.3.
_KBPK_KINDS = {
    ("B", 16): b"\x00\x00",
    ("B", 24): b"\x00\x01",
    ("D", 16): b"\x00\x02",
    ("D", 24): b"\x00\x03",
    ("D", 32): b"\x00\x04",
}


class UnwrappedBlock(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a key block: `key` in the clear, its attributes, and further statements of the sender.

    `version_number` is 2 characters, `00` where the sender counts no versions; `optional_blocks` are (id, data) in
    their order, the padding block PB among them.
    """

    attributes: KeyAttributes
    key: bytes
    version_number: str = "00"
    optional_blocks: OptionalBlocks = ()

    def __repr__(self) -> str:
        return f"UnwrappedBlock({self.attributes.describe()!r})"


def unwrap_block(kbpk: TdesKey | AesKey, block: str) -> UnwrappedBlock:
    """Take a key out of a key block of version A, B, C or D.

    Args:
        kbpk: the protection key; TDES for A, B and C, AES for D. For A and C it is asked for `masked` of 8 bytes
            0x45 and of 8 bytes 0x4D.
        block: the whole block as it was received.
    Raises:
        KeyBlockError: the block is malformed, has codes that this HSM does not know, is not authentic under this key,
            holds a key of another length than its algorithm has, or a stronger one than `kbpk`. The text says which
            header field at which offset.
    Source: TR-31:2018, 5; ANSI X9.143-2021, 6 and 7.
    """
    header = parse_header(block)
    version = VERSIONS[header.version]
    _check_kind(kbpk, header.version, version)
    data = read_hex(block, header.length, len(block) - 2 * version.mac_bytes, "the encrypted key")
    mac = read_hex(block, len(block) - 2 * version.mac_bytes, len(block), "the MAC")
    if not data or len(data) % version.block_bytes:
        raise KeyBlockError(f"the encrypted key at offset {header.length} is not whole blocks")
    padded = _open(kbpk, header.version, block[: header.length].encode("ascii"), data, mac)
    bits, rest = int.from_bytes(padded[:_LENGTH_BYTES], "big"), padded[_LENGTH_BYTES:]
    length = bits // 8
    if bits % 8 or length > len(rest):
        raise KeyBlockError("the length of the key inside the block is not possible")
    attributes = KeyAttributes(
        usage=header.usage,
        algorithm=header.algorithm,
        mode=header.mode,
        exportability=header.exportability,
        length=length,
    )
    key = rest[:length]
    check_protection(kbpk, attributes)
    check_hash(header.algorithm, header.optional_blocks)
    check_key_check_value(header.algorithm, clear_key(header.algorithm, key), header.optional_blocks)
    return UnwrappedBlock(
        attributes=attributes,
        key=key,
        version_number=header.version_number,
        optional_blocks=header.optional_blocks,
    )


def wrap_block(
    kbpk: TdesKey | AesKey,
    key: bytes,
    attributes: KeyAttributes,
    version: str,
    random_bytes: Callable[[int], bytes],
    optional_blocks: OptionalBlocks = (),
    *,
    version_number: str = "00",
) -> str:
    """Return the key block of a key.

    Args:
        kbpk: the protection key; TDES for B, AES for D, at least as strong as `key`.
        key: TDES 16 or 24 bytes, AES 16, 24 or 32, HMAC 16–64.
        attributes: the attributes of the key in the block; `length` is the key's.
        version: B or D.
        random_bytes: gives that many random bytes, for the padding (`secrets.token_bytes`, or the token's).
        optional_blocks: (id, data), kept in this order. PB is made anew; HM (the hash) is added for an HMAC key.
        version_number: 2 letters or digits; `00`: versions are not counted.
    Raises:
        KeyBlockError: another version, codes that are not known, a key that does not fit them, or a weaker `kbpk`.
    Source: TR-31:2018, 5.3 and 5.4; ANSI X9.143-2021, 7.
    """
    rules = VERSIONS.get(version)
    if rules is None or not rules.writable:
        raise KeyBlockError(f"version {version!r} is not written: use B under a TDES key, D under an AES key")
    _check_kind(kbpk, version, rules)
    check_attributes(attributes)
    if len(key) != attributes.length:
        raise KeyBlockError(f"the key has {len(key)} bytes, its attributes say {attributes.length}")
    check_protection(kbpk, attributes)
    content = (8 * len(key)).to_bytes(_LENGTH_BYTES, "big") + key
    hidden = _LENGTH_BYTES + PADDED_KEY_BYTES[attributes.algorithm]
    # A whole block more where it fits: the standard's own examples never leave a key without padding.
    size = (hidden // rules.block_bytes + 1) * rules.block_bytes
    padded = content + random_bytes(size - len(content))
    if len(padded) != size:
        raise ValueError("random_bytes gave another number of bytes")
    blocks = with_hash(attributes.algorithm, optional_blocks)
    check_hash(attributes.algorithm, blocks)
    header = format_header(attributes, version, version_number, blocks, size)
    encryption, authentication = _derived_keys(kbpk, version)
    mac = authentication.cmac(header.encode("ascii") + padded)
    encrypted = encryption.encrypt_cbc(padded, mac)
    return header + (encrypted + mac).hex().upper()


def _open(kbpk: TdesKey | AesKey, version: str, header: bytes, data: bytes, mac: bytes) -> bytes:
    """Return the padded key if the MAC is right: in B and D it covers what is decrypted, in A and C the ciphertext."""
    if VERSIONS[version].writable:
        encryption, authentication = _derived_keys(kbpk, version)
        padded = encryption.decrypt_cbc(data, mac)
        right = authentication.cmac(header + padded)
    else:
        assert _is_tdes(kbpk), "A and C take a TDES key"
        right = kbpk.masked(_VARIANT_AUTHENTICATION).encrypt_cbc(header + data)[-DES_BLOCK_BYTES:][: len(mac)]
        padded = kbpk.masked(_VARIANT_ENCRYPTION).decrypt_cbc(data, header[:DES_BLOCK_BYTES])
    if not hmac.compare_digest(right, mac):
        raise KeyBlockError("the MAC of the block is wrong: it is under another key, or it was altered")
    return padded


def _derived_keys(
    kbpk: TdesKey | AesKey, version: str
) -> tuple[ClearTdesKey | ClearAesKey, ClearTdesKey | ClearAesKey]:
    """Return the keys for encryption and for the MAC, each of the protection key's length.

    Source: TR-31:2018, 5.3.2.1 and 5.3.2.3: CMAC in counter mode (NIST SP 800-108) over counter, usage, separator,
    algorithm and length.
    """
    make, block = (ClearTdesKey, DES_BLOCK_BYTES) if version == "B" else (ClearAesKey, AES_BLOCK_BYTES)
    size = kbpk.bits // 8
    keys = []
    for usage in (_FOR_ENCRYPTION, _FOR_AUTHENTICATION):
        rest = usage + b"\x00" + _KBPK_KINDS[version, size] + kbpk.bits.to_bytes(2, "big")
        material = b"".join(kbpk.cmac(bytes([counter]) + rest) for counter in range(1, -(-size // block) + 1))
        keys.append(make(material[:size]))
    return keys[0], keys[1]


def _check_kind(kbpk: TdesKey | AesKey, version: str, rules: BlockVersion) -> None:
    if _is_tdes(kbpk) != (rules.cipher == "T"):
        cipher = "a TDES" if rules.cipher == "T" else "an AES"
        raise KeyBlockError(f"version at offset 0: blocks of version {version} are under {cipher} key")
    if _is_tdes(kbpk) and kbpk.bits // 8 not in _TDES_STRENGTH:
        raise KeyBlockError("single DES protects no keys")


def check_protection(kbpk: TdesKey | AesKey, attributes: KeyAttributes) -> None:
    """Raise KeyBlockError for a length that the algorithm does not have, or a key stronger than what protects it.

    Source: ANSI X9.24-1:2017, 7.5; PCI PIN Security requirement 13 (a key is at least as strong as what it encrypts).
    """
    length, algorithm = attributes.length, attributes.algorithm
    if length not in KEY_LENGTHS[algorithm]:
        raise KeyBlockError(f"algorithm at offset 7: a key of algorithm {algorithm} does not have {length} bytes")
    strength = _TDES_STRENGTH[length] if algorithm == "T" else min(8 * length, 256)
    protection = _TDES_STRENGTH[kbpk.bits // 8] if _is_tdes(kbpk) else kbpk.bits
    if strength > protection:
        raise KeyBlockError(f"the key in the block ({strength} bits of strength) is stronger than what protects it")


def _is_tdes(key: TdesKey | AesKey) -> TypeGuard[TdesKey]:
    return hasattr(key, "masked")
