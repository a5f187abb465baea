"""A whole gateway for a test: real PostgreSQL, uvicorn on a free port in a thread, a scripted switch, a tokenizer."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
import requests
import stripe

from console.database_roles import GATEWAY
from gateway import keys
from gateway.config import GatewayConfig
from gateway.server import serve_gateway
from tests.conftest import Database
from tests.gateway.fake_switch import FakeSwitch
from tests.gateway.stubs import SECRET, Sink, Stub, tokenizer

QUICK = GatewayConfig(
    listen="127.0.0.1:0",
    answer_timeout_s=0.25,
    repeats=2,
    repeat_cap_s=0.3,
    request_timeout_s=3.0,
    claim_s=0.5,
    webhook_timeout_s=1.0,
    webhook_backoff_s=0.05,
    webhook_tries=3,
    webhook_networks=("127.0.0.0/8",),
    pool=6,
)


class Gateway:
    """A running gateway with the keys of a merchant; `stop` and `start` make a restart."""

    def __init__(self, dsn: str, switch: FakeSwitch, tokens: Stub, folder: Path) -> None:
        self.dsn = dsn
        self.switch = switch
        self.tokens = tokens
        self.url = ""
        self.mac: Any = None  # that of the link, where the switch is on another machine
        self.config = msgspec.structs.replace(QUICK, sealing_keys=str(folder / "sealing.keys"))
        self.account, self.secret_key, self.publishable_key = asyncio.run(_make_keys(dsn))
        self._thread: threading.Thread | None = None
        self._clients: list[Any] = []

    def start(self, **changes: Any) -> None:
        self.config = msgspec.structs.replace(self.config, **changes)
        said: queue.Queue[Any] = queue.Queue()

        async def run() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            await serve_gateway(
                self.config,
                dsn=self.dsn,
                switch_address=self.switch.address,
                dialect="iso87-ascii",
                tokenizer_url=self.tokens.url,
                internal_secret=SECRET,
                mac=self.mac,
                ready=said.put,
                stop=self._stop,
            )

        def work() -> None:
            try:
                asyncio.run(run())
            except BaseException as error:
                said.put(error)
                raise

        self._thread = threading.Thread(target=work)
        self._thread.start()
        answer = said.get(timeout=10)
        assert isinstance(answer, str), answer
        self.url = answer

    def wait_ready(self) -> None:
        from tests.gateway.fake_switch import eventually

        eventually(lambda: self.get("/readyz").status_code == 200)

    def stop(self) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(15)
            assert not self._thread.is_alive()
            self._thread = None

    def close(self) -> None:
        self.stop()
        for client in self._clients:
            client.close()

    def stripe(self, key: str | None = None) -> stripe.StripeClient:
        """The official client with only the base address changed."""
        session = requests.Session()
        session.trust_env = False
        http = stripe.RequestsClient(session=session)
        self._clients.append(http)
        return stripe.StripeClient(
            key or self.secret_key, base_addresses={"api": self.url}, http_client=http, max_network_retries=0
        )

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.secret_key}", **options.pop("headers", {})}
        with httpx.Client(base_url=self.url, trust_env=False, timeout=10) as client:
            return client.request(method, path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, data: Any = None, **options: Any) -> httpx.Response:
        return self.request("POST", path, data=data, **options)

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        async def run() -> list[dict[str, Any]]:
            connection = await asyncpg.connect(self.dsn)
            try:
                return [dict(row) for row in await connection.fetch(sql, *values)]
            finally:
                await connection.close()

        return asyncio.run(run())


async def _make_keys(dsn: str) -> tuple[str, str, str]:
    connection = await asyncpg.connect(dsn)
    try:
        account = await keys.ensure_account(
            connection, "DEMOSHOP", "Café Déjà-vu", city="Köln", country="DE", mcc="5814"
        )
        secret = await keys.create_key(connection, "DEMOSHOP")
        publishable = await keys.create_key(connection, "DEMOSHOP", "publishable")
        return account, secret.key, publishable.key
    finally:
        await connection.close()


@pytest.fixture
def switch() -> Iterator[FakeSwitch]:
    fake = FakeSwitch()
    yield fake
    fake.close()


@pytest.fixture
def idle_gateway(database: Database, switch: FakeSwitch, tmp_path: Path) -> Iterator[Gateway]:
    """Not started yet."""
    tokens = tokenizer()
    running = Gateway(database.dsn(GATEWAY), switch, tokens, tmp_path)
    try:
        yield running
    finally:
        running.close()
        tokens.close()


@pytest.fixture
def gateway(idle_gateway: Gateway) -> Gateway:
    idle_gateway.start()
    idle_gateway.wait_ready()
    return idle_gateway


@pytest.fixture
def sink() -> Iterator[Callable[..., Sink]]:
    made: list[Sink] = []

    def make(*statuses: int) -> Sink:
        made.append(Sink(*statuses))
        return made[-1]

    yield make
    for one in made:
        one.close()
