"""Card and chip commands with keys that the key store makes: the token and the other party's clear keys agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from hsm.algorithms.emv_cryptograms import application_cryptogram
from hsm.algorithms.emv_schemes import SCHEMES, ChipData, cryptogram_keys
from hsm.algorithms.mac import ALGORITHMS, calculate_mac, generate_mac
from hsm.algorithms.pinblock import encrypt_pin_block
from hsm.algorithms.primitives import TdesKey
from hsm.card_commands import (
    CardValue,
    Chip,
    GenerateCardValue,
    PinBlock,
    ProtectScript,
    VerifyCardValue,
    VerifyCryptogram,
)
from hsm.card_values import card_value_handlers
from hsm.config import HsmConfig, KeyConfig
from hsm.cryptograms import cryptogram_handlers
from hsm.keys.exchange import load_party_keys
from hsm.keys.holder import Keyholder
from hsm.keys.keyring import Keyring
from hsm.keys.permissions import Operation
from hsm.software import SoftwareKey, SoftwareKeyring

ROLES = ("cvk", "imk-dcvv", "imk-ac", "imk-smi", "imk-smc", "pin")
KEYS = (
    *(KeyConfig(role, role, "issuer") for role in ROLES),
    *(KeyConfig(algorithm, "mac", "issuer", algorithm) for algorithm in ALGORITHMS),
)
PAN, ATC, UNPREDICTABLE = "4242424242424242", b"\0\x1c", b"\1\2\3\4"


@dataclass
class Both:
    """The same keys in the token and in the clear."""

    token: Keyring
    clear: Keyring
    values: dict[str, bytes]

    def answers(self, request: Any) -> list[Any]:
        """Return the answer of both to a request."""
        handlers = [{**card_value_handlers(ring), **cryptogram_handlers(ring)} for ring in (self.token, self.clear)]
        return [own[type(request)](request, PAN) for own in handlers]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    state = tmp_path_factory.mktemp("stored")
    holder = Keyholder(HsmConfig(dual_control=False, keys=KEYS), state)
    keyring, _ = holder.open()
    values = load_party_keys(state / "exchange", "issuer")
    clear = {key.name: SoftwareKey(key.usage, values[key.name], key.algorithm) for key in KEYS}
    yield Both(keyring, SoftwareKeyring(clear, bytes(32), bytes(32)), values)
    holder.close()


@pytest.mark.parametrize(
    "wanted",
    [
        CardValue(kind="cvv", key="cvk", expiry="3012", service_code="201"),
        CardValue(kind="cvv2", key="cvk", expiry="3012"),
        CardValue(kind="icvv", key="cvk", expiry="3012"),
        CardValue(kind="dcvv", key="imk-dcvv", expiry="3012", service_code="201", atc="0028"),
        CardValue(kind="cavv", key="cvk", atn="7993", result_code="001"),
    ],
    ids=lambda wanted: wanted.kind,
)
def test_card_values(both: Both, wanted: CardValue) -> None:
    in_token, outside = both.answers(GenerateCardValue(card_value=wanted))
    assert in_token == outside
    assert all(answer.verified for answer in both.answers(VerifyCardValue(card_value=wanted, value=outside.value)))


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_cryptograms_and_scripts(both: Both, name: str) -> None:
    scheme, data = SCHEMES[name], bytes(range(40))
    imk: Any = both.clear.key("imk-ac", Operation.CRYPTOGRAM).key
    master: TdesKey = imk
    with cryptogram_keys(scheme, master, ChipData(PAN, "00", ATC, UNPREDICTABLE)) as keys:
        cryptogram = application_cryptogram(keys.cryptogram, data, scheme.padding)
    chip = Chip(scheme=name, atc=ATC, unpredictable=UNPREDICTABLE)
    request = VerifyCryptogram(key="imk-ac", chip=chip, data=data, cryptogram=cryptogram)
    answer = {"arc": b"00"} if 1 in scheme.arpc_methods else {"csu": bytes(4)}
    in_token, outside = both.answers(msgspec.structs.replace(request, **answer))
    assert in_token == outside and in_token.verified and in_token.arpc
    pin = PinBlock(block=encrypt_pin_block("1234", PAN, both.values["pin"]), key="pin")
    script = ProtectScript(
        mac_key="imk-smi",
        encryption_key="imk-smc",
        chip=chip,
        cryptogram=cryptogram,
        command=bytes.fromhex("8424000218"),
        pin=pin,
        ac_key="imk-ac" if scheme.pin_block == "visa" else "",
    )
    in_token, outside = both.answers(script)
    assert in_token == outside and len(in_token.data) >= 8


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.parametrize("length", [0, 8, 100])
def test_macs_of_every_algorithm(both: Both, algorithm: str, length: int) -> None:
    held = both.token.key(algorithm, Operation.MAC_GENERATE)
    mac = calculate_mac(held.attributes.usage, held.key, bytes(length))
    assert mac[:8] == generate_mac(both.values[algorithm], bytes(length), algorithm=algorithm)
