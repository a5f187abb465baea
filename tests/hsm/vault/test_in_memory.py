"""Network tokens of the HSM in memory: the rules of the process, for the simulation and the tests of the switch."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from hsm.commands import HsmRefused, NetworkTokenUse, Screen
from hsm.software import SoftwareHsm, SoftwareKey
from hsm.vault_commands import (
    ChangeNetworkToken,
    GenerateTokenCryptogram,
    ProvisionNetworkToken,
    ReadNetworkToken,
    Tokenize,
)
from tests.hsm.vault.counter import DOMAIN, OTHER, VISA


async def refusal(hsm: SoftwareHsm, request: Any) -> str:
    with pytest.raises(HsmRefused) as caught:
        await hsm.ask(request)
    return caught.value.code


def paying(dpan: str, cryptogram: bytes, **use: str) -> Screen:
    return Screen(pan=dpan, network_token=NetworkTokenUse(cryptogram=cryptogram, **use))


def test_life_and_payments() -> None:
    async def test() -> None:
        hsm = SoftwareHsm({"token-cryptogram": SoftwareKey("token-cryptogram", bytes(32))}, seed=1)
        card = await hsm.screen(Screen(pan=VISA, expiry="3012"))
        pm = await hsm.tokenize(Tokenize(pan=VISA, expiry="3111", kind="pm", domain=DOMAIN))
        assert await refusal(hsm, ProvisionNetworkToken(source=pm.id, domain=OTHER)) == "token_unknown"
        for source, expiry in ((pm.id, "3111"), (card.token, "3012"), (pm.surrogate, "3012")):
            token: Any = await hsm.ask(ProvisionNetworkToken(source=source, domain=DOMAIN, channel="ecom"))
            assert (token.card, token.expiry) == (card.token, expiry)
        generate = GenerateTokenCryptogram(id=token.id, domain=DOMAIN)
        first: Any = await hsm.ask(generate)
        second: Any = await hsm.ask(generate)
        assert await refusal(hsm, Screen(pan=token.dpan)) == "cryptogram_invalid"
        assert await refusal(hsm, paying(token.dpan, first.cryptogram)) == "domain_restricted"
        for _ in range(2):
            assert await hsm.screen(paying(token.dpan, second.cryptogram, channel="ecom", used_by="1")) == card
        for late in (first, second):
            request = paying(token.dpan, late.cryptogram, channel="ecom", used_by="2")
            assert await refusal(hsm, request) == "cryptogram_replayed"
        lower = GenerateTokenCryptogram(id=token.id, domain=DOMAIN, counter=2)
        assert await refusal(hsm, lower) == "cryptogram_replayed"
        third: Any = await hsm.ask(generate)
        for change, state in (("suspend", "suspended"), ("resume", "active"), ("delete", "deleted")):
            changed: Any = await hsm.ask(ChangeNetworkToken(id=token.id, domain=DOMAIN, change=change))
            assert changed.state == state
        assert await refusal(hsm, paying(token.dpan, third.cryptogram, channel="ecom")) == "network_token_deleted"
        read: Any = await hsm.ask(ReadNetworkToken(id=token.id, domain=DOMAIN))
        assert (read.state, read.counter, read.dpan) == ("deleted", 2, "")
        unknown = paying("9900010000000008", third.cryptogram, channel="ecom")
        assert await refusal(hsm, unknown) == "network_token_unknown"

    trio.run(test)
