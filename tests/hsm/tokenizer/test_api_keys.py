"""API keys at the tokenizer: real ones of the gateway's tables, what is remembered of them, and for how long."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from console.database_roles import GATEWAY, TOKENIZER
from gateway.keys import create_key, ensure_account, revoke_key, rotate_key
from hsm.tokenizer import api_keys
from hsm.tokenizer.api_keys import AWAY_S, KNOWN_S, UNKNOWN_S, ApiKey, KeyCheck, KeyRecord
from hsm.tokenizer.errors import ApiError
from hsm.vault.database import CONNECTIONS
from tests.conftest import Database
from tests.hsm.tokenizer.endpoint_calls import (
    ACCOUNT,
    FORM,
    KEY,
    NOW,
    OTHER_ACCOUNT,
    OTHER_SECRET,
    PUBLISHABLE,
    SECRET,
    Keys,
    post,
)
from tests.hsm.tokenizer.tokenizer_process import serving


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Checked:
    """A `KeyCheck` over keys in memory, on a clock that is set by hand."""

    def __init__(self) -> None:
        self.keys, self.clock, self.time = Keys(), Clock(), NOW
        self._check = KeyCheck(self.keys, lambda: self.time, self.clock)

    def __call__(self, key: str = PUBLISHABLE) -> ApiKey:
        return asyncio.run(self._check.check(f"Bearer {key}"))

    def status(self, key: str = PUBLISHABLE) -> int:
        """200, or that of the error."""
        try:
            self(key)
        except ApiError as error:
            return error.status
        return 200


@pytest.fixture
def checked() -> Checked:
    return Checked()


def test_a_key_says_whose_it_is(checked: Checked) -> None:
    assert (checked().account, checked().kind) == (ACCOUNT, "publishable")
    assert (checked(SECRET).account, checked(SECRET).kind) == (ACCOUNT, "secret")
    assert checked(OTHER_SECRET).account == OTHER_ACCOUNT
    assert len({checked().name, checked(SECRET).name, checked(OTHER_SECRET).name}) == 3
    assert PUBLISHABLE not in repr(checked())


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        ("", "You did not provide an API key"),
        ("Bearer", "You did not provide an API key"),
        ("Digest abc", "You did not provide an API key"),
        ("Basic !!", "You did not provide an API key"),
        ("Basic Og==", "You did not provide an API key"),
        ("Bearer pk_test_unknown", "Invalid API Key provided."),
        ("Bearer pk_live_123", "Invalid API Key provided."),
        ("Bearer pk_test_" + "x" * 500, "Invalid API Key provided."),
        ("Bearer pk_test_1' OR '1'='1", "Invalid API Key provided."),
    ],
)
def test_no_key_of_ours_is_401_in_stripes_shape(authorization: str, message: str) -> None:
    answer = post("/v1/tokens", data=FORM, headers={"Authorization": authorization} if authorization else {})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (401, "invalid_request_error")
    assert error["message"].startswith(message) and answer.headers["www-authenticate"].startswith("Bearer ")
    assert "unknown" not in answer.text


def test_a_revoked_key_works_for_thirty_seconds_more_at_most(checked: Checked) -> None:
    assert checked.status() == 200
    checked.keys.records.clear()
    checked.clock.now += KNOWN_S - 0.1
    assert (checked.status(), checked.keys.questions) == (200, 1)
    checked.clock.now += 0.2
    assert (checked.status(), checked.keys.questions) == (401, 2)
    assert KNOWN_S == 30.0


def test_a_new_key_works_after_five_seconds_at_most(checked: Checked) -> None:
    assert checked.status("pk_test_new") == 401
    checked.keys.add("pk_test_new", KeyRecord(ACCOUNT, "publishable"))
    checked.clock.now += UNKNOWN_S - 0.1
    assert checked.status("pk_test_new") == 401
    checked.clock.now += 0.2
    assert checked.status("pk_test_new") == 200
    assert UNKNOWN_S == 5.0


def test_an_end_is_kept_to_the_second_whatever_is_remembered(checked: Checked) -> None:
    checked.keys.add(PUBLISHABLE, KeyRecord(ACCOUNT, "publishable", NOW + timedelta(seconds=10)))
    assert checked.status() == 200
    checked.time += timedelta(seconds=10)
    with pytest.raises(ApiError) as ended:
        checked()
    assert (ended.value.status, ended.value.code) == (401, "api_key_expired")


def test_while_the_database_is_away_known_keys_hold_for_a_bounded_time(checked: Checked) -> None:
    assert checked.status() == 200
    checked.keys.away = True
    checked.clock.now += AWAY_S - 0.1
    assert checked.status() == 200
    assert checked.status("pk_test_other") == 503
    checked.clock.now += 0.2
    assert checked.status() == 503
    checked.keys.away = False
    assert checked.status() == 200


def test_what_was_no_key_is_none_while_the_database_is_away(checked: Checked) -> None:
    assert checked.status("pk_test_none") == 401
    checked.keys.away = True
    assert checked.status("pk_test_none") == 401
    checked.clock.now += UNKNOWN_S
    assert checked.status("pk_test_none") == 503


def test_many_guesses_take_no_memory_and_drive_out_no_merchant(
    checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "_MAX_UNKNOWN", 10)
    assert checked.status() == 200
    for number in range(50):
        assert checked.status(f"pk_test_{number}") == 401
    assert len(checked._check._unknown) == 10
    checked.keys.away = True
    assert checked.status() == 200


def test_the_gateways_keys_at_the_real_endpoint(database: Database, tmp_path: Path) -> None:
    """Keys as the gateway makes them, read through the view; there is no HSM, so 503 means that the key is good."""

    async def run(url: str) -> None:
        connection: Any = await asyncpg.connect(database.dsn(GATEWAY))
        try:
            for merchant in ("ONE", "TWO"):
                await ensure_account(connection, merchant, merchant)
            publishable = await create_key(connection, "ONE", "publishable")
            secret = await create_key(connection, "TWO")
            ended = await create_key(connection, "TWO")
            await revoke_key(connection, ended.id)
            rotated = await create_key(connection, "ONE")
            successor = await rotate_key(connection, rotated.id)

            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:

                async def status(key: str) -> tuple[int, str]:
                    answer = await client.post("/v1/tokens", data=FORM, headers={"Authorization": f"Bearer {key}"})
                    return answer.status_code, answer.json()["error"].get("code", "")

                for good in (publishable, secret, rotated, successor):
                    assert await status(good.key) == (503, "")
                assert await status(ended.key) == (401, "api_key_expired")
                assert await status(secret.key[:-1] + ("a" if secret.key[-1] != "a" else "b")) == (401, "")
        finally:
            await connection.close()

    with serving(tmp_path, database.dsn(TOKENIZER)) as process:
        asyncio.run(run(process.url))
        assert "sk_test_" not in process.log and "pk_test_" not in process.log


def test_without_a_database_nobody_gets_in(tmp_path: Path) -> None:
    with serving(tmp_path) as process:
        answer = httpx.post(f"{process.url}/v1/tokens", data=FORM, headers=KEY, trust_env=False)
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "api_error")
        assert answer.headers["retry-after"] == "1"


def test_the_keys_that_there_are_at_the_start_are_known_before_they_are_used() -> None:
    checked = Checked()
    check = checked._check
    assert check.known_holder(f"Bearer {SECRET}") == ""
    checked.keys.away = True
    asyncio.run(check.load())
    assert check.known_holder(f"Bearer {SECRET}") == ""
    checked.keys.away = False
    asyncio.run(check.load())
    assert check.known_holder(f"Bearer {SECRET}") == f"{ACCOUNT} secret"
    assert check.known_holder(f"Bearer {PUBLISHABLE}") == f"{ACCOUNT} publishable"
    assert check.known_holder("Bearer sk_test_guess") == check.known_holder("") == ""


def test_guesses_leave_database_connections_for_known_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all connections in use, the database would be taken for one that is away."""

    async def main() -> None:
        keys, clock = Keys(), Clock()
        check = KeyCheck(keys, lambda: NOW, clock)
        await check.check(f"Bearer {SECRET}")
        clock.now += KNOWN_S
        waiting, find = asyncio.Event(), keys.find
        busy = 0

        async def slow(digest: bytes) -> KeyRecord | None:
            nonlocal busy
            busy += 1
            await waiting.wait()
            busy -= 1
            return await find(digest)

        monkeypatch.setattr(keys, "find", slow)
        guesses = [asyncio.create_task(check.check(f"Bearer sk_test_{number}")) for number in range(50)]
        known = [asyncio.create_task(check.check(f"Bearer {SECRET}"))]
        await asyncio.sleep(0.01)
        assert busy == CONNECTIONS // 2 + 1
        waiting.set()
        assert (await known[0]).account == ACCOUNT
        assert {type(error) for error in await asyncio.gather(*guesses, return_exceptions=True)} == {ApiError}

    asyncio.run(main())
