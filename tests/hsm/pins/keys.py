"""Keys of the PIN tests, as a keyring over clear keys, and what the other end of each key does with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hsm.algorithms.clear_keys import ClearAesKey, ClearTdesKey
from hsm.algorithms.pin_verification import generate_offset, generate_pvv
from hsm.algorithms.pinblock import PinKey, seal_pin
from hsm.card_commands import (
    Ibm3624,
    PinBlock,
    TranslatePin,
    VisaPvv,
)
from hsm.commands import HsmRefused
from hsm.keys.attributes import ROLES, KeyAttributes
from hsm.keys.keyring import HeldKey, usable
from hsm.keys.permissions import Operation
from hsm.pins import Handler

PAN, OTHER_PAN = "4242424242424242", "4000000000000002"
ANSI_BDK = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
X9_BDK = bytes.fromhex("FEDCBA9876543210F1F1F1F1F1F1F1F1")
PVK = bytes.fromhex("4CA2161637D0133E5E151AEA45DA2A12")
OLD_ZPK, ZPK_24, ZPK_AES = bytes(range(48, 72)), bytes(range(24, 48)), bytes(range(32))


def shape(role: str, algorithm: str, length: int, mode: str = "") -> KeyAttributes:
    attributes = ROLES[role].algorithms[algorithm]
    return msgspec.structs.replace(attributes, length=length, mode=mode or attributes.mode)


# Name, role, attributes and value; a name that comes again is the next version.
KEYS = [
    ("zpk-in", "pin", shape("pin", "TDES", 24), OLD_ZPK),
    ("zpk-in", "pin", shape("pin", "TDES", 24), ZPK_24),
    ("zpk-out", "pin", shape("pin", "TDES", 16), ANSI_BDK[::-1]),
    ("zpk-aes", "pin", shape("pin", "AES", 32), ZPK_AES),
    ("zpk-aes-out", "pin", shape("pin", "AES", 16), ZPK_AES[:16]),
    ("zpk-encrypt", "pin", shape("pin", "TDES", 24, "E"), ZPK_24[::-1]),
    ("zpk-decrypt", "pin", shape("pin", "TDES", 24, "D"), ZPK_24[1:] + b"\1"),
    ("bdk", "bdk", shape("bdk", "TDES", 16), ANSI_BDK),
    ("bdk-aes", "bdk", shape("bdk", "AES", 16), X9_BDK),
    ("bdk-aes-256", "bdk", shape("bdk", "AES", 32), X9_BDK * 2),
    ("pvk", "pvk", shape("pvk", "TDES", 16), PVK),
    ("pvk-verify", "pvk", shape("pvk", "TDES", 16, "V"), PVK[::-1]),
    ("pvk-generate", "pvk", shape("pvk", "TDES", 16, "G"), PVK[8:] + PVK[:8]),
    ("ibm3624", "ibm3624", shape("ibm3624", "TDES", 16), PVK[4:] + PVK[:4]),
    ("ibm3624-verify", "ibm3624", shape("ibm3624", "TDES", 16, "V"), PVK[2:] + PVK[:2]),
    ("ibm3624-generate", "ibm3624", shape("ibm3624", "TDES", 16, "G"), PVK[6:] + PVK[:6]),
    ("zak", "mac", shape("mac", "AES-CMAC", 32), ZPK_AES[::-1]),
]
VALUES = {name: value for name, _, _, value in KEYS}
# Tables of an installation: the usual decimalization table, and one that turns it round.
TABLES = ("0123456789012345", "9876543210987654")
TDES_KSN, AES_KSN = bytes.fromhex("FFFF9876543210E00001"), bytes.fromhex("123456789012345600000001")
ZEROS = PinBlock(block=bytes(8), key="zpk-in")


class ClearKeyring:
    """As much of a keyring as PINs need, over clear keys; the newest version first."""

    def __init__(self) -> None:
        self._keys: dict[str, list[HeldKey]] = {}
        for name, _, attributes, value in KEYS:
            key = ClearTdesKey(value) if attributes.algorithm == "T" else ClearAesKey(value)
            versions = self._keys.setdefault(name, [])
            versions.insert(0, HeldKey(name, len(versions) + 1, attributes, "", key))

    def key(self, name: str, operation: Operation) -> HeldKey:
        return usable(name, operation, self._keys)[0]

    def candidates(self, name: str, operation: Operation) -> list[HeldKey]:
        return list(usable(name, operation, self._keys))


def clear_key(name: str) -> PinKey:
    return ClearAesKey(VALUES[name]) if "aes" in name else ClearTdesKey(VALUES[name])


def pin_block(number: int = 0, pin: str = "1234", pan: str = PAN, name: str = "") -> PinBlock:
    name = name or ("zpk-aes" if number == 4 else "zpk-in")
    return PinBlock(block=seal_pin(number, pin, pan, clear_key(name), os.urandom), key=name, format=number)


def refusal(work: Callable[[], object]) -> HsmRefused:
    with pytest.raises(HsmRefused) as caught:
        work()
    return caught.value


def translated(
    handlers: dict[type, Handler], pin: PinBlock, key_out: str, format_out: int = 0, pan: str = PAN
) -> bytes:
    answer: Any = handlers[TranslatePin](TranslatePin(pin=pin, key_out=key_out, format_out=format_out), pan)
    return bytes(answer.pin_block)


PVV = VisaPvv(key="pvk", key_index=1, pvv=generate_pvv(ClearTdesKey(PVK), PAN, "1234", 1))
OFFSET = Ibm3624(key="ibm3624", offset=generate_offset(ClearTdesKey(VALUES["ibm3624"]), PAN, "1234"))
METHODS = pytest.mark.parametrize("method", [PVV, OFFSET], ids=["pvv", "ibm3624"])
