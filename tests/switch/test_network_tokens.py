"""Payments with network tokens through the whole switch: the issuer sees the card, a refusal is a decline."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from hsm.config import KeyConfig
from hsm.vault_commands import ChangeNetworkToken, GenerateTokenCryptogram, ProvisionNetworkToken, TokenCryptogram
from messages.message import Message
from switch.config import switch_config
from switch.errors import ConfigError
from tests.simulation.world import TABLE, World
from tests.switch.desk import VISA, in_world, purchase, told
from tests.switch.outage import heard

ELEMENT = 126
ACQUIRERS = [TABLE["acquirer"][0], {**TABLE["acquirer"][1], "surrogate": False, "token_cryptogram_element": ELEMENT}]
WORLD: dict[str, Any] = {
    "config": switch_config({**TABLE, "acquirer": ACQUIRERS}),
    "keys": (KeyConfig(name="token-cryptogram", usage="token-cryptogram", party="tokens"),),
}


async def provisioned(world: World, **restriction: str) -> str:
    token: Any = await world.hsm.ask(ProvisionNetworkToken(pan=VISA.pan, domain="acct_1", expiry="3012", **restriction))
    name: str = token.id
    return name


async def made(world: World, name: str) -> TokenCryptogram:
    answer: Any = await world.hsm.ask(GenerateTokenCryptogram(id=name, domain="acct_1"))
    return answer  # type: ignore[no-any-return]


def paying(cryptogram: TokenCryptogram, stan: str = "000001", **changes: str) -> Message:
    fields: dict[str, Any] = {"de2": cryptogram.dpan, "de14": cryptogram.expiry, "de22": "812"}
    element = {f"de{ELEMENT}": base64.b64encode(cryptogram.cryptogram).decode()}
    return purchase(stan, **{**fields, **element, **changes})


async def code(world: World, message: Message) -> str:
    answer = await told(world, message)
    assert answer is not None
    return answer.elements[39]


def test_the_issuer_sees_the_card_and_the_acquirer_the_token() -> None:
    async def script(world: World) -> None:
        cryptogram = await made(world, await provisioned(world, merchant="DEMOSHOP", channel="ecom"))
        answer = await told(world, paying(cryptogram))
        assert answer is not None and answer.elements[39] == "00"
        assert answer.elements.get(2, cryptogram.dpan) == cryptogram.dpan
        entry = world.issuers["alpha"].issuer.entries.entries()[0]
        assert entry.posted_minor == 2500
        stored = repr((world.journal._intents, world.journal._outcomes, world.journal._advices))
        assert "424242******4242" in stored
        assert VISA.pan not in stored and cryptogram.dpan not in stored
        assert base64.b64encode(cryptogram.cryptogram).decode() not in stored

    in_world(script, **WORLD)


def test_a_repeat_gets_the_stored_answer_and_a_replay_is_declined() -> None:
    async def script(world: World) -> None:
        cryptogram = await made(world, await provisioned(world))
        first = await told(world, paying(cryptogram))
        again = await told(world, Message("0201", paying(cryptogram).elements))
        assert first is not None and again is not None
        assert first.elements[39] == again.elements[39] == "00"
        assert first.elements[38] == again.elements[38]
        assert await code(world, paying(cryptogram, stan="000002")) == "63"
        assert len(world.issuers["alpha"].issuer.entries.entries()) == 1

    in_world(script, **WORLD)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({f"de{ELEMENT}": ""}, "63"),
        ({f"de{ELEMENT}": "not base64!"}, "63"),
        ({f"de{ELEMENT}": base64.b64encode(bytes(20)).decode()}, "63"),
        ({"de2": "9900010000000008"}, "14"),
        ({"de42": "OTHERSHOP".ljust(15)}, "57"),
        ({"de22": "071"}, "57"),
        ({"de22": ""}, "57"),
    ],
)
def test_refusals_are_declines(changes: dict[str, str], wanted: str) -> None:
    async def script(world: World) -> None:
        cryptogram = await made(world, await provisioned(world, merchant="DEMOSHOP", channel="ecom"))
        assert await code(world, paying(cryptogram, **changes)) == wanted
        assert world.issuers["alpha"].issuer.entries.entries() == []
        assert await code(world, paying(cryptogram, stan="000002")) == "00"

    in_world(script, **WORLD)


@pytest.mark.parametrize(("change", "wanted"), [("suspend", "62"), ("delete", "14")])
def test_a_token_out_of_use(change: str, wanted: str) -> None:
    async def script(world: World) -> None:
        name = await provisioned(world)
        cryptogram = await made(world, name)
        await world.hsm.ask(ChangeNetworkToken(id=name, domain="acct_1", change=change))
        assert await code(world, paying(cryptogram)) == wanted

    in_world(script, **WORLD)


def test_a_link_without_cryptograms_takes_no_network_tokens() -> None:
    async def script(world: World) -> None:
        cryptogram = await made(world, await provisioned(world))
        answer = await told(world, paying(cryptogram), link="pos")
        assert answer is None or answer.elements[39] == "63"

    in_world(script, **WORLD)


@pytest.mark.parametrize("number", [2, 39, 52, 129, 0])
def test_the_element_must_hold_a_cryptogram(number: int) -> None:
    acquirer = {**TABLE["acquirer"][0], "token_cryptogram_element": number}
    with pytest.raises(ConfigError, match=f"token_cryptogram_element {number} of iso87-ascii is"):
        switch_config({**TABLE, "acquirer": [acquirer]})


def test_the_number_of_a_token_in_the_chip_data_does_not_reach_the_issuer() -> None:
    """It is another card's than DE 2 there, and the cryptogram is not made of it."""

    async def script(world: World) -> None:
        cryptogram = await made(world, await provisioned(world))
        messages = heard(world, "alpha")
        chip = f"5A08{cryptogram.dpan}9F2608AABBCCDD112233445F2403{cryptogram.expiry}31"
        assert await code(world, paying(cryptogram, de55=chip)) == "00"
        assert (messages[0].elements[2], messages[0].elements[55]) == (VISA.pan, "9F2608AABBCCDD11223344")

    in_world(script, **WORLD)
