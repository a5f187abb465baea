"""The vault's commands in the real process: SoftHSM, sockets, PostgreSQL, and a process that is killed."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from console.database_roles import OWNER
from hsm.asyncio_client import open_hsm
from hsm.commands import Dispatch, HsmRefused, NetworkTokenUse, Screen
from hsm.config import HsmConfig, KeyConfig
from hsm.key_commands import RetireKey, Rewrap, Rewrapped, RotateKey
from hsm.key_uses import USES
from hsm.vault_commands import (
    CardNumber,
    ChangeNetworkToken,
    DeleteCard,
    Detokenize,
    GenerateTokenCryptogram,
    ImportCards,
    ProveDeletion,
    ProvisionNetworkToken,
    ResolveToken,
    Tokenize,
)
from tests.conftest import Database
from tests.e2e.leaks import Secrets, files_of, rows_of
from tests.hsm.conftest import KEYS, HsmProcess

VISA, MASTERCARD, GOLD = "4242424242424242", "5555555555554444", "4000000000000002"
CONFIG = HsmConfig(
    dual_control=False,
    keys=(*KEYS, KeyConfig("token-cryptogram", "token-cryptogram", "tokens")),
    network_token_bin="99000177",
)


class Running:
    """A process, and one connection that may send everything."""

    def __init__(self, state: Path, dsn: str) -> None:
        self._state, self._dsn = state, dsn
        self.process = HsmProcess(state, dsn, CONFIG)

    def restart(self, number: int = signal.SIGKILL) -> None:
        self.process.stop(number)
        self.process = HsmProcess(self._state, self._dsn, CONFIG)

    def run(self, test: Callable[[Callable[[Any], Awaitable[Any]]], Awaitable[None]]) -> None:
        async def connected() -> None:
            async with open_hsm(self.process.socket, timeout_s=10.0) as hsm:
                await test(hsm.ask)

        asyncio.run(connected())


@pytest.fixture
def running(tmp_path: Path, database: Database) -> Any:
    one = Running(tmp_path / "state", database.dsn("cardswitch_vault"))
    yield one
    one.process.stop()


async def refusal(answer: Awaitable[Any]) -> str:
    with pytest.raises(HsmRefused) as caught:
        await answer
    return caught.value.code


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def audited(state: Path) -> list[dict[str, Any]]:
    """The audit's records of uses, in their order."""
    lines = b"".join(content(path) for path in sorted((state / "hsm" / "audit").glob("0*"))).splitlines()
    return [record for line in lines if "command" in (record := json.loads(line))]


def paying(dpan: str, cryptogram: bytes, used_by: str = "") -> Screen:
    use = NetworkTokenUse(cryptogram=cryptogram, merchant="DEMOSHOP", channel="ecom", used_by=used_by)
    return Screen(pan=dpan, network_token=use)


def test_a_payment_with_a_network_token_and_a_kill(running: Running) -> None:
    kept: dict[str, Any] = {}

    async def before(ask: Callable[[Any], Awaitable[Any]]) -> None:
        card = await ask(Screen(pan=VISA, expiry="3012"))
        pm = await ask(Tokenize(pan=VISA, expiry="3012", kind="pm", domain="acct_1"))
        token = await ask(ProvisionNetworkToken(source=pm.id, domain="acct_1", merchant="DEMOSHOP", channel="ecom"))
        assert token.dpan.startswith("99000177")
        assert await refusal(ask(Screen(pan=token.dpan))) == "cryptogram_invalid"
        made = await ask(GenerateTokenCryptogram(id=token.id, domain="acct_1"))
        screened = await ask(paying(made.dpan, made.cryptogram, "payment 1"))
        assert screened == card
        assert (await ask(Dispatch(token=screened.token))).pan == VISA
        other_shop = Screen(pan=made.dpan, network_token=NetworkTokenUse(cryptogram=made.cryptogram, merchant="X"))
        assert await refusal(ask(other_shop)) == "domain_restricted"
        kept.update(token=token, made=made, card=card)

    async def after(ask: Callable[[Any], Awaitable[Any]]) -> None:
        token, made = kept["token"], kept["made"]
        assert await refusal(ask(paying(made.dpan, made.cryptogram, "payment 2"))) == "cryptogram_replayed"
        assert await ask(paying(made.dpan, made.cryptogram, "payment 1")) == kept["card"]
        fresh = await ask(GenerateTokenCryptogram(id=token.id, domain="acct_1"))
        assert fresh.counter == made.counter + 1
        await ask(ChangeNetworkToken(id=token.id, domain="acct_1", change="suspend"))
        assert await refusal(ask(paying(made.dpan, fresh.cryptogram))) == "network_token_suspended"
        await ask(ChangeNetworkToken(id=token.id, domain="acct_1", change="resume"))
        assert await ask(paying(made.dpan, fresh.cryptogram)) == kept["card"]

    running.run(before)
    running.restart()
    running.run(after)
    running.process.stop()
    keys = {record["command"]: record["keys"] for record in audited(running.process.state) if record["keys"]}
    assert keys["generate_token_cryptogram"] == ["token-cryptogram/1", "pan/1"]
    assert keys["provision_network_token"] == ["fingerprint/1", "pan/1"]
    assert keys["screen"] == ["token-cryptogram/1", "fingerprint/1"]


def test_a_data_key_is_rotated_rewrapped_and_destroyed(running: Running) -> None:
    async def test(ask: Callable[[Any], Awaitable[Any]]) -> None:
        stored = await ask(ImportCards(cards=(CardNumber(VISA, "3012"), CardNumber(MASTERCARD, "3107"))))
        token = await ask(ProvisionNetworkToken(pan=VISA, domain="acct_1", expiry="3012"))
        await ask(RotateKey(name="pan"))
        assert (await ask(Detokenize(id=stored.cards[0].token, purpose="clearing"))).pan == VISA
        assert (await ask(ImportCards(cards=(CardNumber(GOLD, "3012"),)))).cards[0].last4 == "0002"
        assert await refusal(ask(RetireKey(name="pan", version=1)))
        assert await ask(Rewrap(limit=2)) == Rewrapped(2, 1)
        assert await ask(Rewrap(limit=2)) == Rewrapped(1, 0)
        await ask(RetireKey(name="pan", version=1))
        for card, pan in zip(stored.cards, (VISA, MASTERCARD), strict=True):
            assert (await ask(Detokenize(id=card.token, purpose="clearing"))).pan == pan
            assert (await ask(Dispatch(token=card.token))).pan == pan
        assert (await ask(GenerateTokenCryptogram(id=token.id, domain="acct_1"))).dpan == token.dpan

    running.run(test)
    running.restart(signal.SIGTERM)
    running.run(lambda ask: ask(Screen(pan=VISA)))


def test_an_erased_card_and_a_proof_that_outlives_the_process(running: Running, database: Database) -> None:
    secrets = Secrets()
    secrets.add_number("visa", VISA)
    kept: dict[str, Any] = {}

    async def before(ask: Callable[[Any], Awaitable[Any]]) -> None:
        token = await ask(Tokenize(pan=VISA, expiry="3012", kind="pm", domain="acct_1"))
        card = await ask(Screen(pan=VISA))
        nt = await ask(ProvisionNetworkToken(pan=VISA, domain="acct_1", expiry="3012"))
        made = await ask(GenerateTokenCryptogram(id=nt.id, domain="acct_1"))
        secrets.add_number("network token", nt.dpan)
        proof = await ask(DeleteCard(id=token.id, reason="data_subject_request", by="officer ada"))
        assert await refusal(ask(Dispatch(token=card.token))) == "card_unknown"
        assert await refusal(ask(Screen(pan=token.surrogate, surrogate=True))) == "card_unknown"
        assert await refusal(ask(ResolveToken(id=token.id, domain="acct_1"))) == "token_unknown"
        assert await refusal(ask(paying(nt.dpan, made.cryptogram))) == "network_token_deleted"
        again = await ask(Screen(pan=VISA))
        assert again.token != card.token and again.fingerprint == card.fingerprint
        kept.update(proof=proof, card=card)

    async def after(ask: Callable[[Any], Awaitable[Any]]) -> None:
        proof = await ask(ProveDeletion(id=kept["card"].token))
        assert (proof.record, proof.seal, proof.problems) == (kept["proof"].record, kept["proof"].seal, ())

    assert USES[DeleteCard].lasting
    running.run(before)
    running.restart()  # at once: the audit is on the disk before the proof leaves
    running.run(after)

    async def rows() -> dict[str, list[bytes]]:
        connection: Any = await asyncpg.connect(database.dsn(OWNER))
        try:
            return await rows_of(connection)
        finally:
            await connection.close()

    for name, found in asyncio.run(rows()).items():
        assert not secrets.found_in(b"\n".join(found)), name
    files = {path: content(path) for path in files_of(running.process.state)}
    assert any(b"delete_card" in data for data in files.values()), "the audit is among them"
    assert not [path for path, data in files.items() if secrets.found_in(data)]
