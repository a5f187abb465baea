"""Attacks on both HTTP fronts, real processes over real sockets: clients with a key are served meanwhile.

One table of attacks, each bounded in number and time, against gateway and tokenizer alike. During each of them a
merchant makes requests over new connections, all of which must be answered with 200, none late.
"""

from __future__ import annotations

import asyncio
import json
import re
import selectors
import shutil
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import count, cycle, product
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import pytest

import specs
from console.config import load_config
from console.supervisor import System, config_file
from tests.e2e.conftest import quick
from tests.e2e.shop import cardswitch
from tests.state import new_state
from web.config import HttpConfig

LIMITS = HttpConfig(
    max_connections=300,
    connections_per_address=150,
    connections_per_account=100,
    requests_per_account=20,
    header_timeout_s=3.0,
    body_timeout_s=8.0,
    send_timeout_s=2.0,
    keyless_per_s=20.0,
    keyless_burst=100,
)
ATTACK_S = 1.5
PATIENCE_S = 3.0  # for one answer; they take milliseconds, but other tests run on this machine
CARD = {"number": "4242424242424242", "exp_month": "12", "exp_year": "2031"}


class Front(NamedTuple):
    """One HTTP front: where it is, a request that is served, and its metrics' prefix."""

    port: int
    method: str
    path: str
    form: dict[str, str]
    metrics: str


class World(NamedTuple):
    """The running system: fronts by name, keys of the innocent and of the hostile merchant."""

    fronts: dict[str, Front]
    key: str
    hostile_key: str


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    state = new_state("e2e")
    replace = msgspec.structs.replace
    config = quick(load_config(Path(str(specs.__file__)).with_name("cardswitch.toml")))
    config = replace(
        config,
        merchant=(*config.merchant, replace(config.merchant[0], id="HOSTILE")),
        gateway=replace(config.gateway, http=LIMITS),
        tokenizer=replace(config.tokenizer, http=LIMITS),
    )
    try:
        with System.start(config, state, ports="free", longest_pause_s=0.5) as system:
            yield World(_fronts(system), _key(system, "DEMOSHOP"), _key(system, "HOSTILE"))
    finally:
        shutil.rmtree(state, ignore_errors=True)


def _key(system: System, merchant: str) -> str:
    done = cardswitch("gateway", "key", "create", merchant, "--json", config=config_file(system.config.state_path))
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["key"])


def _fronts(system: System) -> dict[str, Front]:
    port = {name: int(system.addresses()[name].rpartition(":")[2]) for name in ("gateway", "tokenizer")}
    card = {f"card[{name}]": value for name, value in CARD.items()}
    return {
        "gateway": Front(port["gateway"], "GET", "/v1/payment_intents", {}, "gateway_http"),
        "tokenizer": Front(port["tokenizer"], "POST", "/v1/tokens", card, "cardswitch_tokenizer_http"),
    }


class Attack:
    """An attacker: connections from addresses of its choice, and an end in time."""

    def __init__(self, front: Front, world: World) -> None:
        self.front = front
        self.key = world.hostile_key
        self.ends_at = time.monotonic() + ATTACK_S
        self.began = threading.Event()
        self._writers: list[asyncio.StreamWriter] = []

    def goes_on(self) -> bool:
        return time.monotonic() < self.ends_at

    async def connect(self, number: int = 0, address: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection from `address`; without one each 50 numbers have an address of their own."""
        source = (address or f"127.0.1.{1 + number // 50}", 0)
        connection = await asyncio.open_connection("127.0.0.1", self.front.port, local_addr=source)
        self._writers.append(connection[1])
        return connection

    async def hold(self, count: int, beginning: bytes, drop: bytes = b"") -> None:
        """`count` connections that send `beginning`, then `drop` now and then."""

        async def one(number: int) -> None:
            with suppress(OSError):
                _, writer = await self.connect(number)
                writer.write(beginning)
                while self.goes_on():
                    if drop:
                        writer.write(drop)
                        await writer.drain()
                    await asyncio.sleep(0.3)

        await asyncio.gather(*(one(number) for number in range(count)))

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


async def endless_header(attack: Attack) -> None:
    """100 MB of one header line, or as much as is taken."""
    piece = b"a" * 1_000_000
    while attack.goes_on():
        with suppress(OSError):
            _, writer = await attack.connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
            for _ in range(100):
                writer.write(piece)
                await writer.drain()
        await asyncio.sleep(0.2)


async def silent_connections(attack: Attack) -> None:
    await attack.hold(700, b"")


async def silent_connections_of_one_address(attack: Attack) -> None:
    for _ in range(LIMITS.connections_per_address + 50):  # and fewer than all places
        with suppress(OSError):
            await attack.connect()
    await asyncio.sleep(max(0.0, attack.ends_at - time.monotonic()))


async def connections_again_and_again(attack: Attack) -> None:
    number = 0
    while attack.goes_on() or number < 2 * LIMITS.max_connections:
        number += 1
        with suppress(OSError):
            await attack.connect(number % 700)
        await asyncio.sleep(0.001)


async def slow_headers(attack: Attack) -> None:
    await attack.hold(500, b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a")


def _post(attack: Attack, key: str = "") -> bytes:
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    path = "/v1/payment_intents" if attack.front.method == "GET" else attack.front.path
    return f"POST {path} HTTP/1.1\r\nHost: a\r\n{authorization}Content-Length: 9000\r\n\r\n".encode()


async def slow_bodies(attack: Attack) -> None:
    await attack.hold(500, _post(attack), b"a")


async def slow_bodies_of_a_merchant(attack: Attack) -> None:
    await attack.hold(250, _post(attack, attack.key), b"a")


async def slow_chunks(attack: Attack) -> None:
    await attack.hold(250, _post(attack).replace(b"Content-Length: 9000", b"Transfer-Encoding: chunked"), b"1\r\na\r\n")


async def small_chunks_and_long_blanks(attack: Attack) -> None:
    """Bodies in chunks of one byte, and header lines of 16,000 blanks that end in a zero byte."""
    chunks = _post(attack).replace(b"Content-Length: 9000", b"Transfer-Encoding: chunked") + b"1\r\n \r\n" * 21_000
    blanks = b"GET / HTTP/1.1\r\nHost: a\r\nX:" + b" " * 16_000 + b"\x00\r\n\r\n"

    async def one(number: int, data: bytes) -> None:
        while attack.goes_on():
            with suppress(OSError):
                reader, writer = await attack.connect(number)
                writer.write(data)
                await writer.drain()
                await asyncio.wait_for(reader.read(), 1.0)
            await asyncio.sleep(0.05)

    await asyncio.gather(*(one(number, chunks if number else blanks) for number in range(4)))


async def unread_answers(attack: Attack) -> None:
    """Requests one after the other, and not an answer read."""
    request = f"{attack.front.method} /healthz HTTP/1.1\r\nHost: a\r\nX: {'a' * 8000}\r\n\r\n".encode()

    async def one(number: int) -> None:
        with suppress(OSError):
            reader, writer = await attack.connect(number)
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            while attack.goes_on():
                writer.write(request)
                await writer.drain()
                await asyncio.sleep(0.05)

    await asyncio.gather(*(one(number) for number in range(100)))


async def pipelines(attack: Attack) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    await attack.hold(60, request * 200, request * 20)


async def _ask_again_and_again(attack: Attack, address: str, requests: Iterator[bytes]) -> None:
    """Requests on twenty connections of one address, each as soon as the one before is answered."""

    async def one() -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await attack.connect(address=address)
            sent = 0
            while attack.goes_on() or sent < 20:
                sent += 1
                writer.write(next(requests))
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: ([0-9]+)", head.lower())
                assert length is not None, head
                await reader.readexactly(int(length[1]))

    await asyncio.gather(*(one() for _ in range(20)))


async def guessed_keys(attack: Attack) -> None:
    """From the merchant's own address: a stranger behind the same router."""
    path = "/v1/payment_intents" if attack.front.method == "GET" else attack.front.path
    head = f"{attack.front.method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nAuthorization: Bearer sk_test_"
    await _ask_again_and_again(attack, "127.0.0.1", (f"{head}{n}\r\n\r\n".encode() for n in count()))


async def pages_without_a_key(attack: Attack) -> None:
    """Health pages and addresses that are not there."""
    paths = cycle(("/healthz", "/readyz", "/metrics", "/v1/nothing", "/.env"))
    await _ask_again_and_again(
        attack, "127.0.1.1", (f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for path in paths)
    )


Kind = Callable[[Attack], Awaitable[None]]
# Kinds of attack, some of them at once, and one line of the metrics that has grown after them, where one must.
ATTACKS: tuple[tuple[tuple[Kind, ...], str], ...] = (
    ((endless_header, unread_answers), '_refused_total{reason="header_too_long"}'),
    ((silent_connections,), '_connections_closed_total{reason="made_room"}'),
    ((silent_connections_of_one_address,), '_connections_closed_total{reason="made_room"}'),
    ((connections_again_and_again,), '_connections_closed_total{reason="made_room"}'),
    ((slow_headers,), '_connections_closed_total{reason="made_room"}'),
    ((slow_bodies,), '_connections_closed_total{reason="made_room"}'),
    ((slow_bodies_of_a_merchant,), '_refused_total{reason="account_requests"}'),
    ((slow_chunks, pipelines), ""),
    ((small_chunks_and_long_blanks,), '_refused_total{reason="chunks_too_many"}'),
    ((guessed_keys,), '_refused_total{reason="address_requests"}'),
    ((pages_without_a_key,), '_refused_total{reason="address_requests"}'),
)
NAMES = ["+".join(kind.__name__ for kind in kinds) for kinds, _ in ATTACKS]


@contextmanager
def under(attack: Callable[[Attack], Awaitable[None]], front: Front, world: World) -> Iterator[Attack]:
    """The attack goes on in a thread of its own."""
    one = Attack(front, world)

    async def run() -> None:
        try:
            await asyncio.gather(attack(one), _begin(one))
        finally:
            one.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        one.began.wait(10)
        yield one
    finally:
        one.ends_at = 0.0
        thread.join(20)
        assert not thread.is_alive()


async def _begin(attack: Attack) -> None:
    await asyncio.sleep(0.3)
    attack.began.set()


def request(client: httpx.Client, front: Front) -> tuple[int, float]:
    """Status and seconds of one request that a merchant makes."""
    started = time.monotonic()
    url = f"http://127.0.0.1:{front.port}{front.path}"
    status = client.request(front.method, url, data=front.form or None).status_code
    return status, time.monotonic() - started


def served(front: Front, key: str) -> tuple[int, float]:
    """The same over a new connection."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(trust_env=False, timeout=PATIENCE_S * 2, headers=headers) as client:
        return request(client, front)


def counted(world: World, line: str) -> dict[str, float]:
    """A line of the metrics by front."""
    time.sleep(0.15)  # the page may be a moment old
    found = {}
    for name, front in world.fronts.items():
        headers = {"Authorization": f"Bearer {world.key}"}
        page = httpx.get(f"http://127.0.0.1:{front.port}/metrics", headers=headers, trust_env=False, timeout=5).text
        begins = f"{front.metrics}{line} "
        found[name] = sum(float(text.removeprefix(begins)) for text in page.splitlines() if text.startswith(begins))
    return found


@pytest.mark.parametrize(
    ("kinds", "metric"), ATTACKS, ids=["+".join(k.__name__ for k in kinds) for kinds, _ in ATTACKS]
)
def test_a_merchant_is_served_during(kinds: tuple[Kind, ...], metric: str, world: World) -> None:
    """Both fronts are attacked at once."""
    before = counted(world, metric) if metric else {}
    answers: dict[str, list[tuple[int, float]]] = {name: [] for name in world.fronts}
    with ExitStack() as stack:
        headers = {"Authorization": f"Bearer {world.key}"}
        kept = stack.enter_context(httpx.Client(trust_env=False, headers=headers, timeout=10))
        attacks = [stack.enter_context(under(kind, front, world)) for kind in kinds for front in world.fronts.values()]
        while any(one.goes_on() for one in attacks) or len(answers["gateway"]) < 10:
            for name, front in world.fronts.items():
                answers[name] += [served(front, world.key), request(kept, front)]
            time.sleep(0.02)
    for name, given in answers.items():
        assert {status for status, _ in given} == {200}, name
        slowest = sorted(seconds for _, seconds in given)[int(len(given) * 0.99) - 1]
        assert slowest < PATIENCE_S, f"{name}: {len(given)} answers, p99 {slowest:.3f} s"
    if metric:
        after = counted(world, metric)
        assert all(after[name] > before[name] for name in world.fronts), (before, after)


def raw(front: Front, data: bytes, seconds: float = 8.0) -> bytes:
    """The bytes until the other end closes."""
    received = b""
    # From an address that no attack had: requests without a key are counted by it.
    source = ("127.0.2.1", 0)
    with socket.create_connection(("127.0.0.1", front.port), timeout=seconds, source_address=source) as connection:
        connection.sendall(data)
        with suppress(ConnectionError):
            while piece := connection.recv(65_536):
                received += piece
    return received


SHAPES = (
    (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    (b"BREW /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    (b"GET /healthz HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 200 + b"\r\n", 431),
    (b"POST /v1/tokens HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413),
    (b"POST /v1/tokens HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /v1/tokens HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    (b"POST /v1/tokens HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n", 417),
    (b"GET /healthz HTTP/1.1\nHost: a\n\n", 400),
    (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a", 408),
    (b"GET /v1/nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
    (b"PUT /v1/tokens HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 405),
    (b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
)


def test_each_refusal_is_one_answer_in_the_shape_of_the_api(world: World) -> None:
    """All at once, at both fronts: one of them takes its time. `tests/web/test_request_reader.py` has more of them."""
    cases = [(front, data, status) for front in world.fronts.values() for data, status in SHAPES]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda case: raw(case[0], case[1]), cases))
    for (front, data, status), answer in zip(cases, answers, strict=True):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode()), (front.metrics, data[:100], answer)
        assert answer.count(b"HTTP/1.1 ") == 1, (front.metrics, data[:100], answer)
        assert json.loads(body)["error"]["type"] == "invalid_request_error", (front.metrics, data[:100])


PATHS = (b"/v1/charges/", b"/v1/tokens/", b"/healthz/", b"//evil.example/", b"/fields/", b"/v1/charges?limit=1")
HOSTS = (b"evil.example", b"evil.example:99", b"[::1]", b"a%0d%0ax", b"")


@pytest.mark.parametrize("name", ["gateway", "tokenizer"])
def test_no_answer_redirects_or_repeats_the_host(name: str, world: World) -> None:
    lines = b"GET %b HTTP/1.1\r\nHost: %b\r\nAuthorization: Bearer %b\r\nConnection: close\r\n\r\n"
    for path, host in product(PATHS, HOSTS):
        answer = raw(world.fronts[name], lines % (path, host, world.key.encode()))
        head = answer.partition(b"\r\n\r\n")[0].lower()
        assert b"location:" not in head and not head.startswith(b"http/1.1 3"), (path, host, answer)
        assert b"evil.example" not in answer and not head.startswith(b"http/1.1 5"), (path, host, answer)


BODIES = (
    ("application/json", b'{"a":' * 2_000 + b"1" + b"}" * 2_000),
    ("application/json", b"[" * 16_000),
    ("application/json", b'{"metadata": {"a": ' + b"9" * 5_000 + b"}}"),
    ("application/json", b'{"amount": NaN}'),
    ("application/json", b'{"amount": 1, "amount": 2}'),
    ("application/json", b'\xef\xbb\xbf{"amount": 1}'),
    ("application/json", b'{"a": "\xff"}'),
    ("application/json", b'{"metadata": {"a": "\\ud800"}}'),
    ("application/x-www-form-urlencoded", b"a" + b"[b]" * 5_000 + b"=1"),
    ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % number for number in range(1_500))),
    ("application/x-www-form-urlencoded", b"amount=1&amount=2"),
    ("application/x-www-form-urlencoded", b"a=%ff"),
)


@pytest.mark.parametrize("name", ["gateway", "tokenizer"])
def test_a_body_that_is_deep_or_ambiguous_is_400(name: str, world: World) -> None:
    """`tests/web/test_bodies.py` has more of them."""
    path = "/v1/payment_intents" if name == "gateway" else "/v1/tokens"
    url = f"http://127.0.0.1:{world.fronts[name].port}{path}"
    with httpx.Client(headers={"Authorization": f"Bearer {world.key}"}, trust_env=False) as client:
        for kind, body in BODIES:
            answer = client.post(url, content=body, headers={"Content-Type": kind})
            assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error"), body[:100]


@pytest.mark.parametrize("name", ["gateway", "tokenizer"])
def test_what_follows_a_body_is_no_request_in_disguise(name: str, world: World) -> None:
    """Upgrades, trailers and expectations leave the next request where it is."""
    front = world.fronts[name]
    last = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    for first in (
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"POST /no HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nGET /",
        b"POST /no HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nGET /\r\n0\r\nHost: b\r\n\r\n",
        b"GET http://evil.example/healthz HTTP/1.1\r\nHost: b\r\n\r\n",
        b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        answer = raw(front, first + last)
        assert answer.count(b"HTTP/1.1 ") == 2 and b"HTTP/1.1 200 OK" in answer.partition(b"HTTP/1.1")[2], answer
    # A client that waits for 100 Continue and gets its answer instead: nobody may read on.
    refused = raw(front, b"POST /v1/tokens HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 50\r\n\r\n")
    assert refused.count(b"HTTP/1.1 ") == 1 and b"100 Continue" not in refused


@pytest.mark.parametrize("name", ["gateway", "tokenizer"])
def test_an_expectation_is_met_for_a_valid_key(name: str, world: World) -> None:
    front = world.fronts[name]
    path = b"/v1/payment_intents" if name == "gateway" else b"/v1/tokens"
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\nExpect: 100-continue\r\nContent-Length: 3\r\n"
    with socket.create_connection(("127.0.0.1", front.port), timeout=10) as connection:
        connection.sendall(head % (path, world.key.encode()) + b"\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(b"a=b")
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("name", ["gateway", "tokenizer"])
def test_an_account_gets_429_where_it_has_too_many_requests(name: str, world: World) -> None:
    front = world.fronts[name]
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(LIMITS.requests_per_account + 1):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", front.port), timeout=5))
            connection.sendall(_post(Attack(front, world), world.hostile_key))
            selector.register(connection, selectors.EVENT_READ)
        # All but one wait for their body.
        answered = [key.fileobj for key, _ in selector.select(5)]
        assert len(answered) == 1
        answer = answered[0].recv(4096)  # type: ignore[union-attr]
        assert answer.startswith(b"HTTP/1.1 429 ") and b"retry-after: 1" in answer.lower()
        assert served(front, world.key)[0] == 200
