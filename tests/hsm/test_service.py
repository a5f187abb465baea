"""The service without a socket: a token that is lost and comes back, and a bug that tells nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from hsm import server
from hsm.commands import GeneratedMac, GenerateMac, Screen
from hsm.config import HsmConfig
from hsm.engine import Engine
from hsm.metrics import Metrics
from hsm.service import Service
from hsm.vault.cards import CardCache, Numbers
from hsm.wire import Answer, Unavailable, encode_body
from tests.hsm.conftest import KEYS, until

MAC = encode_body(GenerateMac(key="zak-pos", data=b"x"))


class NoVault:
    """A vault that nobody asks."""

    available = True

    def resolve(self, _: object) -> None:
        raise AssertionError


def ask(service: Service, body: bytes) -> Answer:
    answers: list[Answer] = []
    service.handle(body, answers.append)
    [answer] = answers
    return answer


def test_a_lost_token_is_said_at_once_and_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_FIRST_PAUSE_S", 0.01)
    vault: Any = NoVault()
    keyholder = server.Keyholder(HsmConfig(keys=KEYS), tmp_path)
    keyring, _ = keyholder.open()
    cards, numbers = CardCache(10), Numbers()

    async def test() -> None:
        service = Service(Engine(keyring, cards, numbers), vault, Metrics())
        before = ask(service, MAC)
        assert isinstance(before, GeneratedMac)
        assert keyholder._token is not None
        keyholder._token.session.close()
        assert ask(service, MAC) == Unavailable("CMAC: SessionHandleInvalid")
        assert ask(service, MAC) == Unavailable("the token is away")
        (tmp_path / "hsm" / "keys.json").rename(tmp_path / "away")
        (tmp_path / "hsm" / "tokens").rename(tmp_path / "tokens")
        recovery = asyncio.create_task(server._reopen_token(service, keyholder, cards, numbers))
        await asyncio.sleep(0.05)
        assert service.token_lost.is_set()
        (tmp_path / "tokens").rename(tmp_path / "hsm" / "tokens")
        (tmp_path / "away").rename(tmp_path / "hsm" / "keys.json")
        await until(lambda: not service.token_lost.is_set())
        assert ask(service, MAC) == before
        recovery.cancel()

    with capture_logs() as logs:
        asyncio.run(test())
    keyholder.close()
    assert {"token_lost", "token_still_lost", "token_back"} <= {entry["event"] for entry in logs}


def test_a_bug_tells_its_place_and_nothing_else() -> None:
    vault: Any = NoVault()

    class Broken:
        def fingerprint(self, pan: str) -> bytes:
            raise ValueError(pan)

    keyring: Any = Broken()

    async def test() -> Answer:
        service = Service(Engine(keyring, CardCache(10), Numbers()), vault, Metrics())
        return ask(service, encode_body(Screen(pan="4242424242424242", trace_id="t1")))

    with capture_logs() as logs:
        answer = asyncio.run(test())
    assert answer == Unavailable("the HSM failed on this command")
    assert any(entry["event"] == "command_failed" and "fingerprint" in entry["where"] for entry in logs)
    assert "424242" not in str(logs)
