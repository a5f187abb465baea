"""The HSM as asyncio tasks see it: many callers, one connection, pipelined.

`async with open_hsm(path) as hsm` gives an `hsm.vault_commands.VaultHsm` that connects again by itself. Called by the
tokenizer. The rules are those of `hsm.trio_client`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import structlog

from hsm.client import ClientProtocol, HsmCaller, Outcome
from hsm.commands import HsmRefused, HsmUnavailable
from hsm.errors import ProtocolError
from hsm.wire import Request

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


@asynccontextmanager
async def open_hsm(path: str | Path, *, max_in_flight: int = 1024, timeout_s: float = 2.0) -> AsyncIterator[AsyncioHsm]:
    """Connect to the HSM and stay connected for as long as the block runs; arguments as in `hsm.trio_client`."""
    hsm = AsyncioHsm(str(path), max_in_flight, timeout_s)
    tried = asyncio.Event()
    keeper = asyncio.create_task(hsm._stay_connected(tried))
    try:
        await tried.wait()
        yield hsm
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        hsm._close("the HSM client was closed")


class _Connection(asyncio.Protocol):
    """One connection: bytes to the client's protocol, answers to the futures that wait."""

    def __init__(self, timeout_s: float) -> None:
        self.protocol = ClientProtocol(timeout_s)
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.waiters: dict[int, asyncio.Future[Outcome]] = {}
        self.transport: asyncio.Transport
        self._unsent: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports do not derive from it

    def data_received(self, data: bytes) -> None:
        try:
            for number, answer in self.protocol.receive(data):
                future = self.waiters.pop(number, None)
                if future is not None and not future.done():
                    future.set_result(answer)
        except ProtocolError as error:
            self.fail(str(error))
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(str(exc) if exc else "closed by the HSM")

    def send(self, data: bytes) -> None:
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(data)

    def fail(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        for future in self.waiters.values():
            if not future.done():
                future.set_result(HsmUnavailable(f"the connection to the HSM was lost: {reason}"))
        self.waiters.clear()

    def _flush(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        if not self.transport.is_closing():
            self.transport.write(data)


class AsyncioHsm(HsmCaller):
    """The commands over the unix socket; made by `open_hsm`."""

    def __init__(self, path: str, max_in_flight: int, timeout_s: float) -> None:
        self._path = path
        self._max_in_flight = max_in_flight
        self._timeout_s = timeout_s
        self._connection: _Connection | None = None

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def ask(self, request: Request) -> Outcome:
        connection = self._connection
        if connection is None:
            raise HsmUnavailable("not connected to the HSM")
        if len(connection.waiters) >= self._max_in_flight:
            raise HsmRefused("overloaded", f"{self._max_in_flight} requests wait for the HSM")
        number, data = connection.protocol.send(request)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        connection.waiters[number] = future
        connection.send(data)
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await future
        except TimeoutError:
            raise HsmUnavailable(f"no answer from the HSM in {self._timeout_s} s") from None
        finally:
            connection.waiters.pop(number, None)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _stay_connected(self, tried: asyncio.Event) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                _, connection = await asyncio.get_running_loop().create_unix_connection(
                    lambda: _Connection(self._timeout_s), self._path
                )
            except OSError as error:
                if not tried.is_set():
                    log.warning("hsm_lost", socket=self._path, reason=error.strerror or type(error).__name__)
            else:
                log.info("hsm_connected", socket=self._path)
                self._connection, pause_s = connection, _FIRST_PAUSE_S
                tried.set()
                reason = await connection.lost
                self._connection = None
                log.warning("hsm_lost", socket=self._path, reason=reason)
            tried.set()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _close(self, reason: str) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.fail(reason)
            connection.transport.close()
