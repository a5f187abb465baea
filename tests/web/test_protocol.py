"""One connection at a stub transport: one read is handed on in several turns of the loop."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from uvicorn.server import ServerState

from web.config import HttpConfig
from web.metrics import HttpMetrics
from web.places import EXTENSION, Places
from web.protocol import GuardedProtocol

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class StubTransport(asyncio.Transport):
    """Keeps the bytes that are written, and whether input is read."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = b""
        self.reading = True
        self.reset = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self.reset:
            raise OSError(errno.ENOTCONN, "not connected")

    def close(self) -> None:
        return None

    abort = close


async def _length(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers with the length of the body."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    scope["extensions"][EXTENSION].end()
    text = str(length).encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def _connection() -> tuple[GuardedProtocol, StubTransport]:
    http, metrics = HttpConfig(), HttpMetrics("test", CollectorRegistry())
    place = Places(http, metrics).take("127.0.0.1", lambda: None)
    config = uvicorn.Config(_length, loop="none", http="httptools", ws="none", lifespan="off", log_config=None)
    config.load()
    protocol, transport = GuardedProtocol(place, http, 65_536, metrics, config, ServerState()), StubTransport()
    protocol.connection_made(transport)
    return protocol, transport


async def _turns(protocol: GuardedProtocol, transport: StubTransport, ending: bytes) -> int:
    """Number of turns of the loop until `ending` is written."""
    turns = 0
    while not transport.written.endswith(ending):
        turns += 1
        assert turns < 1_000, transport.written
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    return turns


def test_others_are_served_between_the_pieces_of_one_read() -> None:
    async def run() -> None:
        protocol, transport = _connection()
        chunks = b"10\r\n" + b"x" * 16 + b"\r\n"
        protocol.data_received(HEAD + chunks * 4_000 + b"0\r\n\r\n")
        waiting = [protocol._reader.waiting_bytes]
        # 256 chunks are a piece, and four pieces a turn; the head is the first.
        assert waiting[0] == len(chunks) * (4_000 - 3 * 256) + 5 and not transport.reading
        await asyncio.sleep(0)
        assert protocol._reader.waiting_bytes == len(chunks) * (4_000 - 7 * 256) + 5
        await _turns(protocol, transport, b"\r\n\r\n64000")
        assert transport.reading

    asyncio.run(run())


def test_bytes_that_come_between_two_turns_keep_their_order() -> None:
    async def run() -> None:
        protocol, transport = _connection()
        chunks = b"10\r\n" + b"x" * 16 + b"\r\n"
        protocol.data_received(HEAD + chunks * 2_000)
        before = protocol._reader.waiting_bytes
        protocol.data_received(chunks * 100 + b"0\r\n\r\n")
        assert protocol._reader.waiting_bytes == before + len(chunks) * 100 + 5 and not transport.reading
        await _turns(protocol, transport, b"\r\n\r\n33600")

    asyncio.run(run())


def test_what_waits_for_its_turn_is_bounded() -> None:
    async def run() -> None:
        protocol, transport = _connection()
        protocol.data_received(HEAD + (b"10\r\n" + b"x" * 16 + b"\r\n") * 2_000)
        for _ in range(20):
            protocol.data_received(b"x" * 262_144)
        assert transport.written.startswith(b"HTTP/1.1 400 ") and b"too many small chunks" in transport.written
        assert protocol._reader.waiting_bytes < 1_048_576
        protocol.connection_lost(None)

    asyncio.run(run())


def test_each_pipelined_request_has_a_turn_of_its_own() -> None:
    async def run() -> None:
        protocol, transport = _connection()
        protocol.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
        for most in range(1, 50):
            await asyncio.sleep(0)
            assert transport.written.count(b"HTTP/1.1 200") <= most
        assert await _turns(protocol, transport, b"0") >= 0

    asyncio.run(run())


def test_a_connection_that_is_reset_between_two_turns_is_refused_without_an_error() -> None:
    async def run() -> None:
        failures: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        protocol, transport = _connection()
        protocol.data_received(HEAD + b"10\r\n" + b"x" * 16 + b"\r\n" + b"1\r\nx\r\n" * 2_000)
        transport.reset = True
        for _ in range(5):
            await asyncio.sleep(0)
        assert protocol.ending and not failures
        protocol.connection_lost(None)

    asyncio.run(run())
