"""/metrics, /healthz and /readyz of one worker over plain HTTP/1.1.

A worker runs it beside its links. Healthy: the process answers. Ready: the journal and the HSM answer and an issuer
is signed on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import structlog
import trio

from messages.address import address_of
from switch.errors import WireError

log = structlog.get_logger("switch.health")

MAX_REQUEST_BYTES = 8192
TIMEOUT_S = 5.0
MAX_CONNECTIONS = 32

Page = tuple[int, str, bytes]  # status, content type, body
Check = Callable[[], Awaitable[dict[str, bool]]]

STATUS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
METRICS = "text/plain; version=1.0.0; charset=utf-8"


class HealthServer:
    """Serves the three pages.

    Args:
        exposition: makes the body of /metrics.
        ready: name → whether it is well; all must be for 200.
    """

    def __init__(self, exposition: Callable[[], bytes], ready: Check) -> None:
        self._exposition = exposition
        self._ready = ready
        self._slots = trio.Semaphore(MAX_CONNECTIONS)

    async def listen(self, address: str) -> tuple[str, list[trio.SocketListener]]:
        """Take the port. Raises WireError."""
        host, port = address_of(address)
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise WireError(f"cannot listen on {address}: {error.strerror or error}") from error
        bound = listeners[0].socket.getsockname()
        return f"{bound[0]}:{bound[1]}", listeners

    async def run(self, listeners: list[trio.SocketListener]) -> None:
        """Serve until cancelled."""
        await trio.serve_listeners(self._connection, listeners)

    async def _connection(self, stream: trio.SocketStream) -> None:
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:  # each has a place for TIMEOUT_S at most: further ones are closed, and may come again
            await trio.aclose_forcefully(stream)
            return
        try:
            async with stream:
                with trio.move_on_after(TIMEOUT_S):
                    head = await _head(stream)
                    status, kind, body = await self.page(head)
                    reply = (
                        f"HTTP/1.1 {status} {STATUS[status]}\r\nContent-Type: {kind}\r\n"
                        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                    )
                    await stream.send_all(reply.encode() + body)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except Exception:
            log.exception("health_page_failed")
        finally:
            self._slots.release()

    async def page(self, head: bytes) -> Page:
        """The page for a request's first line."""
        parts = head.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3:
            return 400, TEXT, b"bad request\n"
        if parts[0] != b"GET":
            return 405, TEXT, b"GET only\n"
        match parts[1].partition(b"?")[0]:
            case b"/healthz":
                return 200, TEXT, b"ok\n"
            case b"/metrics":
                return 200, METRICS, self._exposition()
            case b"/readyz":
                checks = await self._ready()
                return 200 if all(checks.values()) else 503, JSON, msgspec.json.encode(checks) + b"\n"
        return 404, TEXT, b"no such page: /metrics /healthz /readyz\n"


async def _head(stream: trio.SocketStream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MAX_REQUEST_BYTES:
        data = await stream.receive_some(4096)
        if not data:
            break
        head += data
    return head
