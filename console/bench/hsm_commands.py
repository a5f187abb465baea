"""Commands of `cardswitch bench hsm`: the keys it configures, and requests for each command, over cards of the vault.

Clear keys, as the party at their other end holds them, and cards go in; requests come out, right ones: blocks open,
values and cryptograms verify. Called by `console.bench.hsm`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec

from hsm.algorithms import dukpt_aes, dukpt_tdes
from hsm.algorithms.card_value import card_value
from hsm.algorithms.clear_keys import ClearAesKey, ClearTdesKey
from hsm.algorithms.emv_cryptograms import application_cryptogram
from hsm.algorithms.emv_schemes import SCHEMES, ChipData, cryptogram_keys
from hsm.algorithms.mac import generate_mac
from hsm.algorithms.pin_verification import default_validation_data, generate_offset, generate_pvv
from hsm.algorithms.pinblock import seal_pin
from hsm.card_commands import (
    CardValue,
    Chip,
    GenerateCardValue,
    Ibm3624,
    PinBlock,
    ProtectScript,
    TranslatePin,
    VerifyCardValue,
    VerifyCryptogram,
    VerifyPin,
    VisaPvv,
)
from hsm.commands import Dispatch, GenerateMac, MacCheck, MacTemplate, Screen
from hsm.config import KeyConfig
from hsm.vault_commands import ResolveToken, Tokenize

PARTY = "bench"
KEYS = (
    KeyConfig("zpk-in", "pin", PARTY),
    KeyConfig("zpk-out", "pin", PARTY),
    KeyConfig("zpk-aes-in", "pin", PARTY, "AES"),
    KeyConfig("zpk-aes-out", "pin", PARTY, "AES"),
    KeyConfig("zak", "mac", PARTY),
    KeyConfig("zak-retail", "mac", PARTY, "ISO9797-1-ALG3"),
    KeyConfig("zak-hmac", "mac", PARTY, "HMAC-SHA-256"),
    KeyConfig("bdk", "bdk", PARTY),
    KeyConfig("bdk-aes", "bdk", PARTY, "AES"),
    KeyConfig("cvk", "cvk", PARTY),
    KeyConfig("pvk", "pvk", PARTY),
    KeyConfig("ibm3624", "ibm3624", PARTY),
    KeyConfig("imk-ac", "imk-ac", PARTY),
    KeyConfig("imk-smi", "imk-smi", PARTY),
    KeyConfig("imk-smc", "imk-smc", PARTY),
)
MESSAGE = bytes(range(48, 48 + 64)) * 4  # as long as an authorization with its elements
PIN = "1234"
TRACE_ID = "0123456789abcdef" * 2
EXPIRY = "3012"


class BenchCard(msgspec.Struct, frozen=True):
    """A card that the vault knows."""

    pan: str
    token: str


class BenchCommand(msgspec.Struct, frozen=True):
    """One line of the table: requests to send in turn; `cards` are theirs, for the bare calls."""

    name: str
    what: str
    requests: list[Any]
    pans: list[str]


class Requests:
    """Makes the requests.

    Args:
        keys: clear, by name.
        cards: some hundreds.
    """

    def __init__(self, keys: dict[str, bytes], cards: list[BenchCard]) -> None:
        self._keys = keys
        self._cards = cards
        self._tdes = {name: ClearTdesKey(value) for name, value in keys.items() if len(value) in (16, 24)}

    def commands(self, new_pans: list[str], tokens: list[str]) -> list[BenchCommand]:
        """Return all of them.

        Args:
            new_pans: of cards that the vault does not know.
            tokens: `pm_…` to resolve.
        """
        made = [
            self._made("dispatch", "composite: number, PIN 0→0, CMAC", self._dispatch),
            self._made("dispatch_number", "number only", lambda card, _: Dispatch(token=card.token)),
            self._made("screen", "verify CMAC, know the card", self._screen),
            self._made("mac", "CMAC, AES", lambda *_: GenerateMac(key="zak", data=MESSAGE)),
            self._made("mac_retail", "ISO 9797-1 algorithm 3", lambda *_: GenerateMac(key="zak-retail", data=MESSAGE)),
            self._made("mac_hmac", "HMAC-SHA-256", lambda *_: GenerateMac(key="zak-hmac", data=MESSAGE)),
        ]
        for format_in, format_out in ((0, 0), (1, 0), (3, 0), (0, 4), (4, 0), (4, 4)):
            what = f"PIN format {format_in}→{format_out}"
            made.append(
                self._made(f"translate_pin_{format_in}_{format_out}", what, self._translate(format_in, format_out))
            )
        made += [
            self._made("translate_pin_dukpt", "PIN, TDES DUKPT→zone key", self._dukpt),
            self._made("translate_pin_dukpt_aes", "PIN, AES DUKPT→zone key", self._dukpt_aes),
            self._made("verify_pin_pvv", "PIN against PVV", self._pvv),
            self._made("verify_pin_3624", "PIN against 3624 offset", self._offset),
            self._made("card_value", "make a CVV2", self._card_value),
            self._made("verify_card_value", "verify a CVV2", self._verify_card_value),
            self._made("verify_cryptogram", "ARQC and ARPC, Visa CVN 18", self._cryptogram("visa-cvn18")),
            self._made("verify_cryptogram_10", "ARQC and ARPC, Visa CVN 10", self._cryptogram("visa-cvn10")),
            self._made("protect_script", "script MAC and encryption", self._script),
            BenchCommand("tokenize", "a new card", [Tokenize(pan=pan, expiry=EXPIRY) for pan in new_pans], new_pans),
            BenchCommand("resolve", "a pm_…", [ResolveToken(id=token) for token in tokens], []),
        ]  # fmt: skip
        return made

    def _made(self, name: str, what: str, make: Callable[[BenchCard, int], Any]) -> BenchCommand:
        requests = [make(card, number) for number, card in enumerate(self._cards)]
        return BenchCommand(name, what, requests, [card.pan for card in self._cards])

    def _dispatch(self, card: BenchCard, _: int) -> Dispatch:
        return Dispatch(
            token=card.token,
            pin_block=self._block(card, 0).block,
            pin_key_in="zpk-in",
            pin_key_out="zpk-out",
            mac=MacTemplate(key="zak", data=MESSAGE, pan_at=20, pin_at=100, pin_hex=True),
            trace_id=TRACE_ID,
        )

    def _screen(self, card: BenchCard, _: int) -> Screen:
        return Screen(
            pan=card.pan, mac=MacCheck("zak", MESSAGE, generate_mac(self._keys["zak"], MESSAGE)), trace_id=TRACE_ID
        )

    def _block(self, card: BenchCard, number: int) -> PinBlock:
        name = "zpk-aes-in" if number == 4 else "zpk-in"
        key = ClearAesKey(self._keys[name]) if number == 4 else self._tdes[name]
        return PinBlock(block=seal_pin(number, PIN, card.pan, key, os.urandom), key=name, format=number)

    def _translate(self, format_in: int, format_out: int) -> Callable[[BenchCard, int], TranslatePin]:
        key_out = "zpk-aes-out" if format_out == 4 else "zpk-out"
        return lambda card, _: TranslatePin(
            pin=self._block(card, format_in), key_out=key_out, format_out=format_out, token=card.token
        )

    def _dukpt(self, card: BenchCard, number: int) -> TranslatePin:
        ksn = bytes.fromhex("FFFF9876543210E00000")[:7] + (0xE00000 + 1 + number).to_bytes(3, "big")
        key = dukpt_tdes.pin_key(self._tdes["bdk"], ksn)
        block = seal_pin(0, PIN, card.pan, key, os.urandom)
        return TranslatePin(pin=PinBlock(block=block, key="bdk", ksn=ksn), key_out="zpk-out", token=card.token)

    def _dukpt_aes(self, card: BenchCard, number: int) -> TranslatePin:
        ksn = bytes.fromhex("1234567890123456") + (1 + number).to_bytes(4, "big")
        bdk = ClearAesKey(self._keys["bdk-aes"])
        key = dukpt_aes.working_key(bdk, ksn, dukpt_aes.Usage.PIN_ENCRYPTION, f"AES-{bdk.bits}")
        block = seal_pin(4, PIN, card.pan, key, os.urandom)
        pin = PinBlock(block=block, key="bdk-aes", format=4, ksn=ksn)
        return TranslatePin(pin=pin, key_out="zpk-aes-out", format_out=4, token=card.token)

    def _pvv(self, card: BenchCard, _: int) -> VerifyPin:
        pvv = generate_pvv(self._tdes["pvk"], card.pan, PIN, 1)
        return VerifyPin(pin=self._block(card, 0), method=VisaPvv(key="pvk", pvv=pvv), token=card.token)

    def _offset(self, card: BenchCard, _: int) -> VerifyPin:
        data, table = default_validation_data(card.pan), "0123456789012345"
        offset = generate_offset(self._tdes["ibm3624"], data, PIN, table)
        return VerifyPin(pin=self._block(card, 0), method=Ibm3624(key="ibm3624", offset=offset), token=card.token)

    def _card_value(self, card: BenchCard, _: int) -> GenerateCardValue:
        return GenerateCardValue(card_value=CardValue(kind="cvv2", key="cvk", expiry=EXPIRY), token=card.token)

    def _verify_card_value(self, card: BenchCard, _: int) -> VerifyCardValue:
        value = card_value(self._tdes["cvk"], card.pan, EXPIRY, "000")
        kind = CardValue(kind="cvv2", key="cvk", expiry=EXPIRY)
        return VerifyCardValue(card_value=kind, value=value, token=card.token)

    def _cryptogram(self, name: str) -> Callable[[BenchCard, int], VerifyCryptogram]:
        scheme, data = SCHEMES[name], bytes(range(37))

        def make(card: BenchCard, number: int) -> VerifyCryptogram:
            atc = (number + 1).to_bytes(2, "big")
            with cryptogram_keys(scheme, self._tdes["imk-ac"], ChipData(card.pan, "01", atc)) as keys:
                arqc = application_cryptogram(keys.cryptogram, data, scheme.padding)
            return VerifyCryptogram(
                key="imk-ac",
                chip=Chip(scheme=name, psn="01", atc=atc),
                data=data,
                cryptogram=arqc,
                arc=b"00" if 1 in scheme.arpc_methods else b"",
                csu=b"" if 1 in scheme.arpc_methods else bytes(4),
                token=card.token,
            )

        return make

    def _script(self, card: BenchCard, number: int) -> ProtectScript:
        return ProtectScript(
            mac_key="imk-smi",
            encryption_key="imk-smc",
            chip=Chip(scheme="visa-cvn22", psn="01", atc=(number + 1).to_bytes(2, "big")),
            cryptogram=os.urandom(8),
            command=bytes.fromhex("04DA9F5814"),
            confidential=b"limits",
            token=card.token,
        )
