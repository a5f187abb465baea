"""HTTP connections that cannot be held for nothing: uvicorn's protocol with limits on number, time and headers.

Sockets in, ASGI calls out, as with uvicorn itself, which has no limit for a client that sends its headers a byte a
minute, or without an end. `hsm.tokenizer.server` makes one for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from hsm.tokenizer.clients import client_name

_MAX_HEAD_BYTES = 32_768
_HANDSHAKE_S = 10.0
_FAREWELL_S = 5.0
_REASONS = {408: "Request Timeout", 431: "Request Header Fields Too Large", 503: "Service Unavailable"}


class Guard:
    """How many connections are open, in all and of one address.

    Args:
        total, per_address: at most; `per_address` is None where all come from one proxy.
        request_timeout_s: for the whole of a request to arrive.
    """

    def __init__(self, total: int, per_address: int | None, request_timeout_s: float) -> None:
        self.request_timeout_s = request_timeout_s
        self._total = total
        self._per_address = per_address
        self._open: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Count a connection; False where it is one too many. `leave` is owed either way."""
        self._open[address] += 1
        return self._open.total() <= self._total and (
            self._per_address is None or self._open[address] <= self._per_address
        )

    def leave(self, address: str) -> None:
        self._open[address] -= 1
        if self._open[address] <= 0:
            del self._open[address]


class GuardedProtocol(HttpToolsProtocol):
    """One connection under a `Guard`."""

    def __init__(self, guard: Guard, config: uvicorn.Config, server_state: ServerState) -> None:
        super().__init__(config=config, server_state=server_state, app_state={})
        self._guard = guard
        self._address = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = client_name(self.client[0] if self.client is not None else "")
        # Whoever connects and says nothing is late, too.
        self._start_deadline()
        if not self._guard.enter(self._address):
            self._refuse(503)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_deadline()
        self._guard.leave(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self._refuse(431)

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._start_deadline()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._end_deadline()
        super().on_message_complete()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_later()

    def _start_deadline(self) -> None:
        self._end_deadline()
        self._deadline = self.loop.call_later(self._guard.request_timeout_s, self._refuse, 408)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: int) -> None:
        """Answer in our own words, if nothing has been said yet, and hang up."""
        if not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
                kind = "api_error" if status == 503 else "invalid_request_error"
                body = f'{{"error": {{"type": "{kind}", "message": "{_REASONS[status]}."}}}}'
                self.transport.write(
                    f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
                )
            self.transport.close()
        self._abort_later()

    def _abort_later(self) -> None:
        # close() waits until all is written, which a client that reads nothing never lets happen.
        self.loop.call_later(_FAREWELL_S, self.transport.abort)


class GuardedServer(uvicorn.Server):
    """uvicorn's server with guarded connections, told to stop by us: its own handlers raise the signal again.

    Args:
        tls: what to speak TLS with; None: clear text.
        ready: called once, when callers can connect.
    """

    def __init__(
        self, config: uvicorn.Config, guard: Guard, tls: ssl.SSLContext | None, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._guard = guard
        self._tls = tls
        self._ready = ready

    def stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                lambda: GuardedProtocol(self._guard, self.config, self.server_state),
                sock=listening,
                ssl=self._tls,
                backlog=self.config.backlog,
                ssl_handshake_timeout=None if self._tls is None else _HANDSHAKE_S,
                ssl_shutdown_timeout=None if self._tls is None else _FAREWELL_S,
            )
            for listening in sockets or []
        ]
        self.started = True
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
