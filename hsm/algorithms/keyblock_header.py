"""The header of a key block: sixteen characters and optional blocks, read and written (TR-31, X9.143).

The text of a block goes in, a `Header` comes out whose every code is known; and back. Called by
`hsm.algorithms.keyblock`, which does the cryptography. Every error names a header field and its offset.
"""

from __future__ import annotations

import re

import msgspec

from hsm.algorithms.check_value import check_value_matches
from hsm.algorithms.primitives import Key
from hsm.errors import KeyBlockError
from hsm.keys.attributes import ALGORITHMS, EXPORTABILITY, MODES, USAGES, KeyAttributes

OptionalBlocks = tuple[tuple[str, str], ...]

HEADER_CHARACTERS = 16
LONGEST_BLOCK = 9999
# An optional block's length with its id and itself fits into two hexadecimal digits up to here; longer ones carry
# `00`, the number of digit pairs, and that many.
LONGEST_SHORT = 0xFF
PADDING_ID = "PB"
HASH_ID = "HM"
SHA_256 = "21"


class BlockVersion(msgspec.Struct, frozen=True):
    """`cipher` of the protection key (T or A), its block and the MAC in bytes; A and C are not written."""

    cipher: str
    block_bytes: int
    mac_bytes: int
    writable: bool


# TR-31:2018, table 2; X9.143-2021, table 4.
VERSIONS = {
    "A": BlockVersion("T", 8, 4, writable=False),
    "B": BlockVersion("T", 8, 8, writable=True),
    "C": BlockVersion("T", 8, 4, writable=False),
    "D": BlockVersion("A", 16, 16, writable=True),
}


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A header of known codes; `length` is its own with its optional blocks, in characters."""

    version: str
    usage: str
    algorithm: str
    mode: str
    version_number: str
    exportability: str
    optional_blocks: OptionalBlocks
    length: int


# Offset, length and what it may be, of each field that is a code. X9.143-2021, table 1.
_CODES = {
    "key usage": (5, 2, USAGES),
    "algorithm": (7, 1, ALGORITHMS),
    "mode of use": (8, 1, MODES),
    "exportability": (11, 1, EXPORTABILITY),
}
# X9.143-2021 made the first reserved character the key context: 0 any, 1 storage only, 2 exchange only.
_CONTEXTS = ("0", "2")
_VERSION_NUMBER = re.compile(r"[0-9A-Z]{2}")
_COMPONENT = re.compile(r"c[0-9A-Z]")
_BLOCK_ID = re.compile(r"[0-9A-Z]{2}")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_UPPER_HEX = re.compile(r"(?:[0-9A-F]{2})*")


def parse_header(block: str) -> Header:
    """Read the header of a whole key block.

    Raises:
        KeyBlockError: a field is malformed, has a code that this HSM does not know, or does not fit the block.
    """
    if not block.isascii():
        raise KeyBlockError("a key block is ASCII text")
    if len(block) < HEADER_CHARACTERS:
        raise KeyBlockError(f"a key block has {HEADER_CHARACTERS} characters of header, here are {len(block)}")
    version = VERSIONS.get(block[0])
    if version is None:
        raise KeyBlockError(f"version at offset 0: {block[0]!r} is not one of {', '.join(VERSIONS)}")
    if not _decimal(block[1:5]) or int(block[1:5]) != len(block):
        raise KeyBlockError(f"length at offset 1: {block[1:5]!r}, the block has {len(block)} characters")
    for field, (offset, length, codes) in _CODES.items():
        _check_code(field, offset, block[offset : offset + length], codes)
    _check_version_number(block[9:11])
    if block[14] not in _CONTEXTS or block[15] != "0":
        raise KeyBlockError(f"key context and reserved at offset 14: {block[14:16]!r} is not for exchange")
    if not _decimal(block[12:14]):
        raise KeyBlockError(f"number of optional blocks at offset 12: {block[12:14]!r} is no number")
    end = len(block) - 2 * version.mac_bytes
    optional, length = _parse_optional(block, int(block[12:14]), end)
    if length % version.block_bytes:
        raise KeyBlockError(f"the optional blocks end at offset {length}, not at a multiple of {version.block_bytes}")
    return Header(
        version=block[0],
        usage=block[5:7],
        algorithm=block[7],
        mode=block[8],
        version_number=block[9:11],
        exportability=block[11],
        optional_blocks=optional,
        length=length,
    )


def format_header(
    attributes: KeyAttributes, version: str, version_number: str, optional_blocks: OptionalBlocks, encrypted_bytes: int
) -> str:
    """Return the header of a block whose encrypted part has `encrypted_bytes`; PB is added where it is needed.

    Raises:
        KeyBlockError: an optional block is malformed, or the whole block gets too long.
    """
    _check_version_number(version_number)
    rules = VERSIONS[version]
    optional, count = _format_optional(optional_blocks, rules.block_bytes)
    length = HEADER_CHARACTERS + len(optional) + 2 * (encrypted_bytes + rules.mac_bytes)
    if length > LONGEST_BLOCK:
        raise KeyBlockError(f"the block would have {length} characters, more than {LONGEST_BLOCK}")
    codes = attributes.usage + attributes.algorithm + attributes.mode + version_number + attributes.exportability
    return f"{version}{length:04d}{codes}{count:02d}00{optional}"


def check_attributes(attributes: KeyAttributes) -> None:
    """Raise KeyBlockError for a code that this HSM does not know."""
    for (field, (offset, _, codes)), code in zip(
        _CODES.items(),
        (attributes.usage, attributes.algorithm, attributes.mode, attributes.exportability),
        strict=True,
    ):
        _check_code(field, offset, code, codes)


def with_hash(algorithm: str, optional_blocks: OptionalBlocks) -> OptionalBlocks:
    """Return the optional blocks with HM, the hash, where the key is an HMAC key and they do not have it."""
    if algorithm != "H" or any(block_id == HASH_ID for block_id, _ in optional_blocks):
        return optional_blocks
    return ((HASH_ID, SHA_256), *optional_blocks)


def check_hash(algorithm: str, optional_blocks: OptionalBlocks) -> None:
    """Raise KeyBlockError for an HMAC key that is not said to be for SHA-256 (X9.143-2021, optional block HM)."""
    if algorithm == "H" and dict(optional_blocks).get(HASH_ID) != SHA_256:
        raise KeyBlockError(f"an HMAC key needs the optional block {HASH_ID} with {SHA_256} (SHA-256)")


def check_key_check_value(algorithm: str, key: Key, optional_blocks: OptionalBlocks) -> None:
    """Raise KeyBlockError where the sender gave the key's check value (optional block KC) and it is another."""
    stated = dict(optional_blocks).get("KC")
    if stated is None or algorithm == "H":
        return
    try:
        right = check_value_matches(stated[:2], algorithm, key, stated[2:])
    except ValueError:
        raise KeyBlockError("optional block KC is no check value") from None
    if not right:
        raise KeyBlockError("the key has another check value than optional block KC says")


def read_hex(block: str, start: int, end: int, what: str) -> bytes:
    """Return the bytes of upper-case hexadecimal digits in `block[start:end]`.

    Raises:
        KeyBlockError: other characters. Lower case is one of them: each block has one spelling.
    """
    text = block[start:end]
    if not _UPPER_HEX.fullmatch(text):
        raise KeyBlockError(f"{what} at offset {start} is not upper-case hexadecimal")
    return bytes.fromhex(text)


def _check_code(field: str, offset: int, code: str, known: dict[str, str]) -> None:
    if code not in known:
        raise KeyBlockError(f"{field} at offset {offset}: {code!r} is not one of {', '.join(known)}")


def _check_version_number(number: str) -> None:
    if _COMPONENT.fullmatch(number):
        raise KeyBlockError(f"key version number at offset 9: {number!r} says that this is a component of a key")
    if not _VERSION_NUMBER.fullmatch(number):
        raise KeyBlockError(f"key version number at offset 9: {number!r} is not 2 digits or upper-case letters")


def _decimal(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _parse_optional(block: str, count: int, end: int) -> tuple[OptionalBlocks, int]:
    found: dict[str, str] = {}
    offset = HEADER_CHARACTERS
    for number in range(1, count + 1):
        block_id = block[offset : offset + 2]
        if not _BLOCK_ID.fullmatch(block_id):
            raise KeyBlockError(f"optional block {number} at offset {offset}: no id of 2 upper-case letters or digits")
        length, data_at = _optional_length(block, block_id, offset)
        if length < data_at - offset or offset + length > end:
            raise KeyBlockError(f"optional block {block_id} at offset {offset}: its length does not fit")
        data = block[data_at : offset + length]
        if not _PRINTABLE.fullmatch(data):
            raise KeyBlockError(f"optional block {block_id} at offset {offset}: a character that is not printable")
        if block_id in found:
            raise KeyBlockError(f"optional block {block_id} at offset {offset}: there is one already")
        if block_id == PADDING_ID and number != count:
            raise KeyBlockError(f"optional block {block_id} at offset {offset}: padding comes last")
        found[block_id] = data
        offset += length
    return tuple(found.items()), offset


def _optional_length(block: str, block_id: str, offset: int) -> tuple[int, int]:
    """Return the length of an optional block with its id, and where its data begins."""
    where = f"length of optional block {block_id}"
    digits = read_hex(block, offset + 2, offset + 4, where)
    if len(digits) != 1:
        raise KeyBlockError(f"{where} at offset {offset + 2} is cut off")
    if digits[0]:
        return digits[0], offset + 4
    pairs = read_hex(block, offset + 4, offset + 6, where)
    size = 2 * pairs[0] if pairs else 0
    extended = read_hex(block, offset + 6, offset + 6 + size, where)
    if not size or 2 * len(extended) != size:
        raise KeyBlockError(f"{where} at offset {offset + 4} is cut off")
    return int.from_bytes(extended, "big"), offset + 6 + size


def _format_optional(optional_blocks: OptionalBlocks, block_bytes: int) -> tuple[str, int]:
    kept = [(block_id, data) for block_id, data in optional_blocks if block_id != PADDING_ID]
    if len({block_id for block_id, _ in kept}) != len(kept):
        raise KeyBlockError("two optional blocks have the same id")
    text = "".join(_format_block(block_id, data) for block_id, data in kept)
    count = len(kept)
    if len(text) % block_bytes:
        padding = -(len(text) + 4) % block_bytes
        text += _format_block(PADDING_ID, "0" * padding)
        count += 1
    if count > 99:
        raise KeyBlockError(f"{count} optional blocks, at most 99 are possible")
    return text, count


def _format_block(block_id: str, data: str) -> str:
    if not _BLOCK_ID.fullmatch(block_id):
        raise KeyBlockError("the id of an optional block is 2 upper-case letters or digits")
    if not _PRINTABLE.fullmatch(data):
        raise KeyBlockError(f"optional block {block_id}: a character that is not printable")
    if len(data) + 4 <= LONGEST_SHORT:
        return f"{block_id}{len(data) + 4:02X}{data}"
    if len(data) + 10 > LONGEST_BLOCK:
        raise KeyBlockError(f"optional block {block_id} is longer than a key block can be")
    return f"{block_id}0002{len(data) + 10:04X}{data}"
