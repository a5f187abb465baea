"""Connections that are held for nothing, headers without an end, one address too often: against a real process."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hsm.tokenizer.server import internal_secret
from tests.hsm.tokenizer.tokenizer_process import TokenizerProcess, serving
from web.config import HttpConfig

TIMEOUT_S = 0.5


@pytest.fixture
def tokenizer(tmp_path: Path) -> Iterator[TokenizerProcess]:
    http = HttpConfig(header_timeout_s=TIMEOUT_S, body_timeout_s=TIMEOUT_S, connections_per_address=4)
    with serving(tmp_path, http=http, max_body_bytes=1000) as process:
        yield process


def connect(tokenizer: TokenizerProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", tokenizer.port), timeout=5)


def rest(connection: socket.socket) -> bytes:
    """The bytes until the other side hangs up."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            received += piece
    return received


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"POST /v1/tok",
        b"POST /v1/tokens HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        b"POST /internal/resolve HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer SECRET\r\nContent-Length: 100\r\n\r\n{",
    ],
    ids=["nothing", "a line", "headers", "a body"],
)
def test_who_sends_too_slowly_is_hung_up_on(beginning: bytes, tokenizer: TokenizerProcess) -> None:
    started = time.monotonic()
    with connect(tokenizer) as connection:
        connection.sendall(beginning.replace(b"SECRET", internal_secret(tokenizer.state).encode()))
        answer = rest(connection)
        assert answer.startswith(b"HTTP/1.1 408 ") and answer.count(b"HTTP/1.1") == 1, answer
    assert time.monotonic() - started < TIMEOUT_S + 4


def test_a_byte_now_and_then_does_not_help(tokenizer: TokenizerProcess) -> None:
    started = time.monotonic()
    with connect(tokenizer) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        while time.monotonic() - started < 5:
            connection.sendall(b"x")
            time.sleep(TIMEOUT_S / 10)
    assert TIMEOUT_S * 0.9 < time.monotonic() - started < 4.5


def test_the_time_starts_again_with_each_request(tokenizer: TokenizerProcess) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    with connect(tokenizer) as connection:
        for _ in range(4):
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 ")
            time.sleep(TIMEOUT_S * 0.6)  # more than the limit in all


@pytest.mark.parametrize("headers", [b"X-Long: " + b"x" * 80_000, b"X-Many: x\r\n" * 8_000], ids=["long", "many"])
def test_headers_without_an_end(headers: bytes, tokenizer: TokenizerProcess) -> None:
    with connect(tokenizer) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /healthz HTTP/1.1\r\n" + headers)
        assert rest(connection).startswith(b"HTTP/1.1 431 ")


def test_no_more_connections_of_one_address_than_set(tokenizer: TokenizerProcess) -> None:
    held = [connect(tokenizer) for _ in range(4)]
    # The oldest silent connection of the address makes room for one that says something.
    assert httpx.get(f"{tokenizer.url}/healthz", trust_env=False).status_code == 200
    assert rest(held[0]) == b""
    for connection in held:
        connection.close()


def test_nobody_on_this_machine_can_say_to_be_another(tmp_path: Path) -> None:
    """uvicorn itself would trust X-Forwarded-For of every client on loopback."""
    with (
        serving(tmp_path, internal_networks=("192.0.2.0/24",)) as process,
        httpx.Client(base_url=process.url, trust_env=False) as client,
    ):
        assert client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 404


def test_behind_a_proxy_the_last_address_counts(tmp_path: Path) -> None:
    with (
        serving(
            tmp_path, behind_proxy=True, url="https://tokens.example", internal_networks=("192.0.2.0/24",)
        ) as process,
        httpx.Client(base_url=process.url, trust_env=False) as client,
    ):
        for forwarded, status in (("192.0.2.1", 200), ("192.0.2.1, 198.51.100.1", 404), ("junk, 192.0.2.1", 200)):
            assert client.get("/metrics", headers={"X-Forwarded-For": forwarded}).status_code == status
        assert client.get("/metrics").status_code == 404
        secure = client.get("/healthz", headers={"X-Forwarded-Proto": "https"}).headers
        assert "strict-transport-security" in secure
        assert "strict-transport-security" not in client.get("/healthz").headers
