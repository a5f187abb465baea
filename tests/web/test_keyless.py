"""Requests without a valid key: the number that an address may make, and the clients that do not pay for them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from web.addresses import Clients, Proxies
from web.config import HttpConfig
from web.keyless import KeylessLimit, KnownKeys, holder, valid_key
from web.metrics import HttpMetrics
from web.refusals import Refused

KEYS = {"Bearer server": ("acct_1", "secret"), "Bearer page": ("acct_1", "publishable")}


class Front:
    """An application as a front makes it: `/health` asks for no key, `/v1` for one, and shows one object."""

    def __init__(self, burst: int = 3, rate_per_s: float = 1.0) -> None:
        self.now = 0.0
        self.checked = 0
        self.known: dict[str, str] = {}
        self.answering = asyncio.Event()
        self.answering.set()
        self.registry = CollectorRegistry()
        limit = Middleware(
            KeylessLimit,
            config=HttpConfig(keyless_per_s=rate_per_s, keyless_burst=burst),
            clients=Clients(Proxies(everybody=True)),
            known_holder=lambda header: self.known.get(header, ""),
            metrics=HttpMetrics("test", self.registry),
            clock=lambda: self.now,
        )
        routes = [Route("/health", self.health), Route("/v1/{id}", self.show)]
        self.app = Starlette(routes=routes, middleware=[limit])

    async def health(self, request: Request) -> Response:
        return PlainTextResponse("ok")

    async def show(self, request: Request) -> Response:
        self.checked += 1
        await self.answering.wait()
        header = request.headers.get("authorization", "")
        if header not in KEYS:
            return JSONResponse({}, 401)
        account, kind = KEYS[header]
        self.known[header] = holder(account, kind)
        try:
            valid_key(request.scope, account, kind)
        except Refused as refused:
            return JSONResponse({}, refused.refusal.status)
        return JSONResponse({}, 200 if request.path_params["id"] == "there" else 404)

    @property
    def refused(self) -> float | None:
        return self.registry.get_sample_value("test_http_refused_total", {"reason": "address_requests"})


Ask = Callable[..., Awaitable[httpx.Response]]


def run(front: Front, script: Callable[[Ask], Awaitable[None]]) -> None:
    """`ask(path, header, address)` makes a request from that address."""

    async def main() -> None:
        transport = httpx.ASGITransport(app=front.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:

            async def ask(path: str, header: str = "", address: str = "192.0.2.1") -> httpx.Response:
                headers = {"X-Forwarded-For": address} | ({"Authorization": header} if header else {})
                return await client.get(path, headers=headers)

            await script(ask)

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/health", "/nothing", "/v1/there"], ids=["health", "404", "401"])
@pytest.mark.parametrize("header", ["", "Bearer guess"])
def test_beyond_a_burst_and_a_rate_requests_without_a_key_are_429(path: str, header: str) -> None:
    front = Front(burst=3, rate_per_s=0.5)

    async def script(ask: Ask) -> None:
        assert 429 not in [(await ask(path, header)).status_code for _ in range(3)]
        checked = front.checked
        refused = await ask(path, header)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "rate_limit")
        assert front.checked == checked, "a refusal costs no key check"
        assert front.refused == 1
        front.now += 2
        assert (await ask(path, header)).status_code != 429
        assert (await ask(path, header)).status_code == 429

    run(front, script)


def test_a_valid_key_is_served_however_many_strangers_share_its_address() -> None:
    front = Front(burst=3)

    async def script(ask: Ask) -> None:
        for key in KEYS:
            assert (await ask("/v1/there", key)).status_code == 200
        for number in range(50):
            await ask("/v1/there", f"Bearer guess{number}")
        assert (await ask("/v1/there", "Bearer guess")).status_code == 429
        for _ in range(20):
            assert [(await ask("/v1/there", key)).status_code for key in KEYS] == [200, 200]

    run(front, script)


def test_guesses_with_a_publishable_key_are_429_and_cost_only_that_key_at_that_address() -> None:
    front = Front(burst=3)

    async def script(ask: Ask) -> None:
        guesses = [(await ask("/v1/client-secret", "Bearer page")).status_code for _ in range(6)]
        assert guesses == [404, 404, 404, 429, 429, 429]
        assert front.checked == 3
        assert (await ask("/v1/there", "Bearer server")).status_code == 200
        assert (await ask("/health")).status_code == 200
        assert (await ask("/v1/there", "Bearer page", "192.0.2.2")).status_code == 200
        front.known.clear()  # as after a restart: the key is checked, and then it counts
        assert (await ask("/v1/there", "Bearer page")).status_code == 429

    run(front, script)


def test_a_secret_key_may_ask_for_what_is_not_there() -> None:
    front = Front(burst=3)

    async def script(ask: Ask) -> None:
        assert {(await ask("/v1/nothing", "Bearer server")).status_code for _ in range(20)} == {404}

    run(front, script)


def test_a_key_that_is_shown_to_nothing_that_checks_it_opens_no_way_around() -> None:
    front = Front(burst=3)

    async def script(ask: Ask) -> None:
        await ask("/v1/there", "Bearer page")
        statuses = [(await ask("/health", "Bearer page")).status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]

    run(front, script)


def test_a_key_that_ended_counts_like_any_guess() -> None:
    front = Front(burst=2)
    front.known["Bearer ended"] = holder("acct_1", "secret")

    async def script(ask: Ask) -> None:
        assert [(await ask("/v1/there", "Bearer ended")).status_code for _ in range(3)] == [401, 401, 429]

    run(front, script)


def test_addresses_are_counted_apart_and_a_64_of_ipv6_as_one() -> None:
    front = Front(burst=1)

    async def script(ask: Ask) -> None:
        assert (await ask("/health", "", "192.0.2.1")).status_code == 200
        assert (await ask("/health", "", "192.0.2.1")).status_code == 429
        assert (await ask("/health", "", "::ffff:192.0.2.1")).status_code == 429
        assert (await ask("/health", "", "192.0.2.2")).status_code == 200
        assert (await ask("/health", "", "2001:db8::1")).status_code == 200
        assert (await ask("/health", "", "2001:db8::ffff:7")).status_code == 429
        assert (await ask("/health", "", "2001:db8:0:1::1")).status_code == 200

    run(front, script)


def test_a_forged_forwarded_header_changes_nothing_where_no_proxy_is_trusted() -> None:
    limit = _limit(_answering(401), burst=1)

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=limit), base_url="http://front") as client:
            statuses = [
                (await client.get("/", headers={"X-Forwarded-For": f"198.51.100.{number}"})).status_code
                for number in range(3)
            ]
            assert statuses == [401, 429, 429]
            assert len(limit._buckets) == 1

    asyncio.run(main())


def test_requests_that_are_answered_at_once_are_all_counted() -> None:
    """Hundreds that came before the first was answered: the address is in debt for them."""
    front = Front(burst=10, rate_per_s=1.0)

    async def script(ask: Ask) -> None:
        front.answering.clear()
        guesses = [asyncio.create_task(ask("/v1/there", "Bearer guess")) for _ in range(200)]
        while front.checked < 200:  # noqa: ASYNC110
            await asyncio.sleep(0)
        front.answering.set()
        await asyncio.gather(*guesses)
        front.now += 5
        assert (await ask("/health")).status_code == 429
        front.now += 20
        assert (await ask("/health")).status_code == 200

    run(front, script)


def test_a_client_that_hangs_up_without_an_answer_has_made_a_request() -> None:
    async def gone(scope: Any, receive: Any, send: Any) -> None:
        raise ConnectionError

    limit = _limit(gone, burst=1)

    async def main() -> None:
        scope = {"type": "http", "headers": [], "client": ("192.0.2.1", 1)}
        with pytest.raises(ConnectionError):
            await limit(scope, _nothing, _nothing)
        assert limit._buckets.wait_s("192.0.2.1") > 0

    asyncio.run(main())


def test_one_line_a_second_says_how_many_were_refused_and_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.metrics._SUMMARY_S", 0.01)
    front = Front(burst=1)

    async def script(ask: Ask) -> None:
        with structlog.testing.capture_logs() as lines:
            for _ in range(30):
                await ask("/health")
            while not lines or sum(line["address_requests"] for line in lines) < 29:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert {(line["event"], line["address"]) for line in lines} == {("http_refused", "192.0.2.1")}

    run(front, script)


def test_without_the_middleware_a_valid_key_is_nothing_special() -> None:
    valid_key({}, "acct_1", "publishable")
    valid_key({"extensions": {}}, "acct_1", "secret")


@given(st.lists(st.integers(0, 9), max_size=60))
@example(list(range(100)))
def test_known_keys_are_bounded_and_the_latest_stay(numbers: list[int]) -> None:
    known = KnownKeys(max_keys=3)
    for number in numbers:
        known.remember(_digest(number), "acct_1 secret")
        assert known.holder(_digest(number)) and len(known) <= 3
    for number in numbers[-3:]:
        assert known.holder(_digest(number))
    for number in numbers:
        known.forget(_digest(number))
        assert not known.holder(_digest(number))


def _digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def _limit(app: Any, burst: int) -> KeylessLimit:
    return KeylessLimit(
        app,
        config=HttpConfig(keyless_per_s=0.01, keyless_burst=burst),
        clients=Clients(),
        known_holder=lambda _: "",
        metrics=HttpMetrics("test", CollectorRegistry()),
        clock=lambda: 0.0,
    )


def _answering(status: int) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Response(status_code=status)(scope, receive, send)

    return app


async def _nothing(*_: Any) -> dict[str, Any]:
    return {"type": "http.disconnect"}
