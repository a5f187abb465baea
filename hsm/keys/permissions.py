"""Which key may do what: one table of operations by usage and mode of use, asked before any key is used.

The keyring calls `permitted`; the tests walk the whole table against every usage. Source: X9.143-2021, tables 6 and 8.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from hsm.keys.attributes import KeyAttributes


class Operation(Enum):
    """A command's operation with one key; the value names it in refusals and in the audit."""

    PIN_DECRYPT = "decrypt a PIN block"
    PIN_ENCRYPT = "encrypt a PIN block"
    DUKPT_PIN = "derive a DUKPT PIN key"
    PVV_GENERATE = "generate a PVV"
    PVV_VERIFY = "verify a PVV"
    OFFSET_GENERATE = "generate a 3624 offset"
    OFFSET_VERIFY = "verify a 3624 offset"
    MAC_GENERATE = "generate a MAC"
    MAC_VERIFY = "verify a MAC"
    CARD_VALUE_GENERATE = "generate a card verification value"
    CARD_VALUE_VERIFY = "verify a card verification value"
    DYNAMIC_CARD_VALUE = "derive a dynamic card value key"
    CRYPTOGRAM = "derive an application cryptogram key"
    SCRIPT_CONFIDENTIALITY = "derive a script encryption key"
    SCRIPT_INTEGRITY = "derive a script MAC key"
    TOKEN_CRYPTOGRAM_GENERATE = "generate a network token cryptogram"
    TOKEN_CRYPTOGRAM_VERIFY = "verify a network token cryptogram"
    KEY_WRAP = "wrap a key"
    KEY_UNWRAP = "unwrap a key"

    # Members are singletons; Enum's own hash is a Python function, asked for on each use of a key.
    __hash__ = object.__hash__


class Permission(msgspec.Struct, frozen=True):
    """The usages, modes and algorithms that an operation takes."""

    usages: frozenset[str]
    modes: frozenset[str]


def _takes(usages: str, modes: str) -> Permission:
    return Permission(frozenset(usages.split()), frozenset(modes))


_MACS = "M1 M3 M6 M7"
PERMISSIONS = {
    Operation.PIN_DECRYPT: _takes("P0", "BDN"),
    Operation.PIN_ENCRYPT: _takes("P0", "BEN"),
    Operation.DUKPT_PIN: _takes("B0", "XN"),
    Operation.PVV_GENERATE: _takes("V2", "CGN"),
    Operation.PVV_VERIFY: _takes("V2", "CVN"),
    Operation.OFFSET_GENERATE: _takes("V1", "CGN"),
    Operation.OFFSET_VERIFY: _takes("V1", "CVN"),
    Operation.MAC_GENERATE: _takes(_MACS, "CGN"),
    Operation.MAC_VERIFY: _takes(_MACS, "CVN"),
    Operation.CARD_VALUE_GENERATE: _takes("C0", "CGN"),
    Operation.CARD_VALUE_VERIFY: _takes("C0", "CVN"),
    Operation.DYNAMIC_CARD_VALUE: _takes("E6", "XN"),
    Operation.CRYPTOGRAM: _takes("E0", "XN"),
    Operation.SCRIPT_CONFIDENTIALITY: _takes("E1", "XN"),
    Operation.SCRIPT_INTEGRITY: _takes("E2", "XN"),
    Operation.TOKEN_CRYPTOGRAM_GENERATE: _takes("10", "CGN"),
    Operation.TOKEN_CRYPTOGRAM_VERIFY: _takes("10", "CVN"),
    Operation.KEY_WRAP: _takes("K0 K1", "BEN"),
    Operation.KEY_UNWRAP: _takes("K0 K1", "BDN"),
}


def permitted(operation: Operation, attributes: KeyAttributes) -> bool:
    """Whether a key with these attributes may do `operation`."""
    rule = PERMISSIONS[operation]
    return attributes.usage in rule.usages and attributes.mode in rule.modes
