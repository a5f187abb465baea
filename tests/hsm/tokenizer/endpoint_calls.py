"""The tokenizer's application in memory: two merchants' keys, a clock that stands still, calls by httpx."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import httpx

from hsm.errors import VaultError
from hsm.software import SoftwareHsm
from hsm.tokenizer.api_keys import KeyCheck, KeyRecord
from hsm.tokenizer.config import TokenizerConfig
from hsm.tokenizer.server import create_app

PAN = "4242424242424242"
CARD = {"number": PAN, "exp_month": 12, "exp_year": 2030, "cvc": "123"}
FORM = {"card[number]": PAN, "card[exp_month]": "12", "card[exp_year]": "2030", "card[cvc]": "123"}
ACCOUNT, OTHER_ACCOUNT = "acct_0one", "acct_0two"
PUBLISHABLE, SECRET, OTHER_SECRET = "pk_test_123", "sk_test_123", "sk_test_456"
KEY = {"Authorization": f"Bearer {PUBLISHABLE}"}
SECRET_KEY = {"Authorization": f"Bearer {SECRET}"}
OTHER_KEY = {"Authorization": f"Bearer {OTHER_SECRET}"}
INTERNAL = {"Authorization": "Bearer secret"}
NOW = datetime(2026, 6, 15, tzinfo=UTC)

Test = Callable[[httpx.AsyncClient, SoftwareHsm], Awaitable[None]]


class Keys:
    """API keys in memory, in place of the gateway's; `questions` counts, `away` is a database that is gone."""

    def __init__(self) -> None:
        self.away = False
        self.questions = 0
        self.records: dict[bytes, KeyRecord] = {}
        self.add(PUBLISHABLE, KeyRecord(ACCOUNT, "publishable"))
        self.add(SECRET, KeyRecord(ACCOUNT, "secret"))
        self.add(OTHER_SECRET, KeyRecord(OTHER_ACCOUNT, "secret"))

    def add(self, key: str, record: KeyRecord) -> None:
        self.records[sha256(key.encode()).digest()] = record

    async def find(self, digest: bytes) -> KeyRecord | None:
        self.questions += 1
        if self.away:
            raise VaultError("away")
        return self.records.get(digest)

    async def valid(self, count: int) -> dict[bytes, KeyRecord]:
        if self.away:
            raise VaultError("away")
        return dict(list(self.records.items())[:count])


def run(
    test: Test, *, keys: Keys | None = None, client: tuple[str, int] = ("127.0.0.1", 5000), **settings: Any
) -> None:
    """Run `test` with a client of the application; `client` is its address, `settings` those of [tokenizer]."""
    hsm = SoftwareHsm()
    config = TokenizerConfig(**{"max_body_bytes": 2000, **settings})
    app = create_app(hsm, KeyCheck(keys or Keys(), lambda: NOW), "secret", config, lambda: NOW)

    async def main() -> None:
        transport = httpx.ASGITransport(app=app, client=client)
        async with httpx.AsyncClient(transport=transport, base_url="http://tokenizer") as made:
            await test(made, hsm)

    asyncio.run(main())


def call(method: str, path: str, *, headers: dict[str, str] = KEY, run_with: Any = None, **how: Any) -> httpx.Response:
    """One request to a fresh application; `run_with` are arguments of `run`."""
    answers: list[httpx.Response] = []

    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        answers.append(await client.request(method, path, headers=headers, **how))

    run(test, **(run_with or {}))
    return answers[0]


def post(path: str, **how: Any) -> httpx.Response:
    return call("POST", path, **how)
