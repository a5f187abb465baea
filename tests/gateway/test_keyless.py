"""Callers without a valid key at the gateway: their allowed requests, their rate, and that nobody else pays for it."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from gateway import key_check, keys
from tests.gateway.conftest import Gateway
from tests.gateway.fake_switch import eventually
from tests.gateway.stubs import SECRET, Stub
from web.config import HttpConfig

INTENTS = "/v1/payment_intents"
SLOW = HttpConfig(keyless_per_s=0.01, keyless_burst=5)


@pytest.fixture
def limited(idle_gateway: Gateway) -> Gateway:
    """A gateway with five requests without a valid key for each address, and no more soon."""
    idle_gateway.start(http=SLOW)
    return idle_gateway


def _statuses(gateway: Gateway, path: str, count: int, key: str = "") -> list[int]:
    headers = {"Authorization": f"Bearer {key}" if key else ""}
    return [gateway.get(path, headers=headers).status_code for _ in range(count)]


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        (INTENTS, "", 401),
        (INTENTS, "sk_test_guess", 401),
        ("/healthz", "", 200),
        ("/metrics", "", 200),
        ("/v1/nothing", "sk_test_guess", 404),
    ],
)
def test_requests_without_a_valid_key_are_429_beyond_their_rate(
    path: str, key: str, status: int, limited: Gateway
) -> None:
    assert _statuses(limited, path, 8, key) == [status] * 5 + [429] * 3
    refused = limited.get(path, headers={"Authorization": ""})
    assert refused.json()["error"] == {
        "type": "invalid_request_error",
        "message": "Too many requests without a valid key from this address. Slow down.",
        "code": "rate_limit",
    }
    assert int(refused.headers["retry-after"]) >= 1
    assert limited.get(INTENTS).status_code == 200
    assert 'gateway_http_refused_total{reason="address_requests"} 4.0' in limited.get("/metrics").text


def test_a_merchant_is_served_beside_guesses_also_after_a_restart(limited: Gateway) -> None:
    """Without ever having called before: the keys that were made are known from the start."""
    for _ in range(2):
        assert _statuses(limited, INTENTS, 10, "sk_test_guess")[-1] == 429
        assert limited.get(INTENTS).status_code == 200
        assert _statuses(limited, f"{INTENTS}/pi_none", 1, limited.publishable_key) == [404]
        limited.stop()
        limited.start()


def test_a_key_that_was_made_meanwhile_is_served_beside_guesses(
    idle_gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_check, "_REFRESH_S", 0.05)
    idle_gateway.start(http=SLOW)
    assert _statuses(idle_gateway, INTENTS, 10, "sk_test_guess")[-1] == 429
    made = _run(idle_gateway, lambda connection: keys.create_key(connection, "DEMOSHOP")).key
    eventually(lambda: _statuses(idle_gateway, INTENTS, 1, made) == [200])


def test_guesses_at_client_secrets_are_429_and_cost_the_merchant_s_server_nothing(limited: Gateway) -> None:
    intent = limited.post(INTENTS, {"amount": 100, "currency": "eur"}).json()
    guessed = _statuses(limited, f"{INTENTS}/{intent['id']}?client_secret=wrong", 8, limited.publishable_key)
    assert guessed == [404] * 5 + [429] * 3
    assert _statuses(limited, f"{INTENTS}/{intent['id']}", 5, limited.secret_key) == [200] * 5
    assert _statuses(limited, "/healthz", 1) == [200]


def test_a_revoked_key_ends_at_once_and_then_counts_as_a_guess(limited: Gateway) -> None:
    made = _run(limited, lambda connection: keys.create_key(connection, "DEMOSHOP"))
    assert _statuses(limited, INTENTS, 10, made.key) == [200] * 10
    _run(limited, lambda connection: keys.revoke_key(connection, made.id))
    assert _statuses(limited, INTENTS, 8, made.key)[0] == 401
    assert _statuses(limited, INTENTS, 1, made.key) == [429]


def test_what_cannot_be_a_key_is_not_looked_up(limited: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(key_check, "caller_of", fails)
    for key in ("x" * 190, "sk_live_" + "a" * 24, "sk_test_", "sk_test_a b"):
        assert limited.get(INTENTS, headers={"Authorization": f"Bearer {key}"}).status_code == 401


def test_guesses_leave_database_connections_for_known_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool:
        def __init__(self) -> None:
            self.used = 0

        def acquire(self) -> Pool:
            return self

        async def __aenter__(self) -> Pool:
            self.used += 1
            return self

        async def __aexit__(self, *_: Any) -> None:
            self.used -= 1

    async def none(*_: Any) -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        pool = Pool()
        check = key_check.KeyCheck(pool, lookups=3)
        monkeypatch.setattr(key_check, "caller_of", none)
        guesses = [asyncio.create_task(check.caller(f"Bearer sk_test_{number}")) for number in range(50)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pool.used == 3
        for guess in guesses:
            guess.cancel()
        await asyncio.gather(*guesses, return_exceptions=True)

    asyncio.run(main())


def test_however_many_ask_whether_it_is_ready_the_tokenizer_is_asked_once(
    idle_gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.readiness.KEEP_S", 3600.0)
    asked = []

    def respond(path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        asked.append((path, headers.get("authorization")))
        return 200, b"{}"

    idle_gateway.tokens.close()
    idle_gateway.tokens = stub = Stub(respond)
    try:
        idle_gateway.start()
        assert set(_statuses(idle_gateway, "/readyz", 50)) <= {200, 503}
        assert asked == [("/readyz", f"Bearer {SECRET}")]
    finally:
        stub.close()


def _run(gateway: Gateway, work: Any) -> Any:
    async def main() -> Any:
        connection = await asyncpg.connect(gateway.dsn)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(main())
