"""The HTTP server of the gateway and the tokenizer: uvicorn's, with an accept loop and connections under limits.

A listening socket and an ASGI application go in. Each connection takes its place before its TLS handshake, so that one
who never finishes it counts, too. `gateway.server` and `hsm.tokenizer.server` run it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from web.addresses import Proxies, client_name
from web.config import HttpConfig
from web.metrics import HttpMetrics
from web.places import EXTENSION, Place, Places
from web.protocol import GuardedProtocol
from web.refusals import Refused, response

_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 64
_TLS_SHUTDOWN_S = 5.0
_NO_FILES_PAUSE_S = 0.1
_NO_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = structlog.get_logger(__name__)


class HttpServer(uvicorn.Server):
    """The server; `await serve(sockets=[listening])` runs it until `stop`.

    Args:
        app: the ASGI application.
        http: the limits. max_body_bytes: of a request's body.
        metrics: where connections and refusals are counted.
        ready: called once, when clients can connect.
        tls: TLS settings; None: clear text.
        every_peer_is_proxy: only a reverse proxy reaches the socket.
        drain_s: time that requests in progress may take once it is stopped.
    """

    def __init__(
        self,
        app: ASGIApp,
        http: HttpConfig,
        *,
        max_body_bytes: int,
        metrics: HttpMetrics,
        ready: Callable[[], None],
        tls: ssl.SSLContext | None = None,
        every_peer_is_proxy: bool = False,
        drain_s: int = 5,
    ) -> None:
        super().__init__(_uvicorn_config(_ending(app), drain_s))
        self._http = http
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics
        self._ready = ready
        self._tls = tls
        self._proxies = Proxies(http.trusted_proxies, everybody=every_peer_is_proxy)
        self._places = Places(http, metrics)
        self._opening: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        _raise_file_limit(self._http.files_needed())
        self.servers = [_Listener(listening, self) for listening in sockets or []]  # type: ignore[misc]
        self.started = True
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: the front has handlers of its own, and uvicorn's raise the signal again."""
        yield

    def admit(self, connection: socket.socket, peer: Any) -> None:
        """Give a new connection its place, or turn it away."""
        self._metrics.accepted()
        host = str(peer[0]) if isinstance(peer, tuple) else ""
        try:
            place = self._places.take(client_name(host), _shut_down(connection), limited=not self._proxies.trusts(host))
        except Refused as refused:
            self._turn_away(connection, refused.reason)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.get_running_loop().create_task(self._open(connection, place))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def out_of_files(self) -> None:
        """The process can open no more files: make room for the next connection."""
        self._metrics.closed("no_files")
        self._places.make_room()

    async def _open(self, connection: socket.socket, place: Place) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: GuardedProtocol(
                    place, self._http, self._max_body_bytes, self._metrics, self.config, self.server_state
                ),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self._http.tls_handshake_timeout_s if self._tls else None,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_S if self._tls else None,
            )
        except (OSError, asyncio.CancelledError):  # ssl.SSLError and TimeoutError are OSErrors
            place.leave()
            connection.close()
            if self._tls is not None:
                self._metrics.closed("tls_failed")

    def _turn_away(self, connection: socket.socket, reason: str) -> None:
        self._metrics.refused(reason)
        with contextlib.suppress(OSError):
            connection.setblocking(False)
            if self._tls is None:
                connection.send(response(reason))
                connection.shutdown(socket.SHUT_WR)
                connection.recv(65_536)  # closing with bytes unread is a reset, which destroys the answer
        connection.close()


class _Listener:
    """Accepts connections; has what uvicorn needs of asyncio's server."""

    def __init__(self, listening: socket.socket, server: HttpServer) -> None:
        self._listening = listening
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._closed = False
        listening.setblocking(False)
        listening.listen(_BACKLOG)
        self._listen()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._listening)

    async def wait_closed(self) -> None:
        return None

    def _listen(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_FILES:
                    self._server.out_of_files()
                    self._loop.remove_reader(self._listening)
                    self._loop.call_later(_NO_FILES_PAUSE_S, self._listen)
                    return
                continue  # the client has gone already
            self._server.admit(connection, peer)


def _ending(app: ASGIApp) -> ASGIApp:
    """Wrap `app` so that the place of a request is free once it is done, not when its connection is gone."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        finally:
            scope["extensions"][EXTENSION].end()

    return application


def _uvicorn_config(app: ASGIApp, drain_s: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        interface="asgi3",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        # Else a client on this machine could choose the address that it is taken for.
        proxy_headers=False,
        timeout_graceful_shutdown=drain_s,
    )


def _shut_down(connection: socket.socket) -> Callable[[], None]:
    """Return what ends a connection whose TLS handshake is not done: the handshake fails, and its task cleans up."""

    def close() -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    return close


def _raise_file_limit(needed: int) -> None:
    """Raise the soft limit on open files to what the connections need, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if hard != resource.RLIM_INFINITY and hard < needed:
        log.warning("too_few_files", limit=hard, needed=needed, hint="raise nofile, or lower max_connections")
