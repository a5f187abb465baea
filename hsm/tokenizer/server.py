"""The tokenization endpoint: card data comes in over HTTP, a token goes out; the gateway resolves tokens here.

Merchants' pages and servers call /v1/tokens and /v1/payment_methods, as they would call Stripe's; the card fields of
/fields do so for pages that shall not see a card; the gateway calls /internal/resolve with a secret of this
installation. Stands on the card-data side: it reaches the HSM's socket, and one view with the digests of API keys.
`cardswitch tokenizer` calls `serve_tokenizer` under `uvloop.run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hsm.asyncio_client import open_hsm
from hsm.errors import ConfigurationError
from hsm.keys.softhsm import write_private
from hsm.process import forbid_dumps
from hsm.tokenizer.api_keys import KeyCheck, StoredKeys
from hsm.tokenizer.certificates import Certificate
from hsm.tokenizer.config import TokenizerConfig
from hsm.tokenizer.endpoint import TokenEndpoint
from hsm.tokenizer.field_pages import FieldPages
from hsm.tokenizer.headers import BrowserHeaders
from hsm.vault.database import Database
from hsm.vault_commands import VaultHsm
from messages.address import address_of
from web.keyless import KeylessLimit
from web.metrics import HttpMetrics
from web.server import HttpServer

log = structlog.get_logger(__name__)

SECRET_FILE = "tokenizer.secret"
_DRAIN_S = 3
_DATABASE_TIMEOUT_S = 2.0


def utc_now() -> datetime:
    """Return the time by the system's clock, aware."""
    return datetime.now(UTC)


def create_app(
    hsm: VaultHsm,
    keys: KeyCheck,
    internal_secret: str,
    config: TokenizerConfig,
    now: Callable[[], datetime] = utc_now,
    registry: CollectorRegistry | None = None,
    http_metrics: HttpMetrics | None = None,
) -> Starlette:
    """Return the ASGI application.

    Args:
        hsm: a connected client, e.g. of `hsm.asyncio_client.open_hsm`.
        keys: checks API keys.
        internal_secret: the bearer secret of /internal/resolve.
        config: `[tokenizer]`.
        now: the time that expiry dates and the ends of keys are held against.
        registry: the registry of /metrics; None: one of its own.
        http_metrics: the metrics of the HTTP server; None: some of its own.
    """
    endpoint = TokenEndpoint(hsm, keys, internal_secret, config, now, registry)
    pages = FieldPages(config.origins)
    answers = endpoint.answers
    app = Starlette(
        routes=[
            Route("/v1/tokens", answers("token", endpoint.create_token), methods=["POST"]),
            Route("/v1/tokens/{id}", answers("token_read", endpoint.read_token), methods=["GET"]),
            Route("/v1/payment_methods", answers("payment_method", endpoint.create_payment_method), methods=["POST"]),
            Route("/fields", pages.page, methods=["GET"]),
            Route("/fields.js", pages.loader, methods=["GET"]),
            Route("/internal/resolve", answers("resolve", endpoint.resolve), methods=["POST"]),
            Route("/healthz", endpoint.healthz),
            Route("/readyz", endpoint.readyz),
            Route("/metrics", endpoint.metrics),
        ],
        middleware=[
            # The first is the outermost: a refusal of the second is readable for pages, and a preflight costs nothing.
            Middleware(BrowserHeaders, origins=config.origins, behind_proxy=config.behind_proxy),
            Middleware(
                KeylessLimit,
                config=config.http,
                clients=endpoint.clients,
                known_holder=endpoint.known_holder,
                metrics=http_metrics or HttpMetrics("cardswitch_tokenizer", CollectorRegistry()),
            ),
        ],
        exception_handlers={HTTPException: _http_error},
    )
    # A redirect would be an absolute address made of the request's Host.
    app.router.redirect_slashes = False
    return app


async def serve_tokenizer(
    config: TokenizerConfig,
    *,
    state_directory: Path,
    dsn: str,
    ready: Callable[[], None],
    hsm_socket: str = "hsm-tokenizer.sock",
) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the certificate again.

    Args:
        config: `[tokenizer]`.
        state_directory: where the HSM's socket and `tokenizer.secret` are.
        dsn: of the role cardswitch_tokenizer.
        ready: called once, when callers can connect; whether the HSM answers is for /readyz to say.
        hsm_socket: the one of the caller `tokenizer`, relative to the state directory.
    Raises:
        ConfigurationError: the address or the certificate cannot be used.
    """
    forbid_dumps()
    problems = config.problems()
    if problems:
        raise ConfigurationError("; ".join(problems))
    certificate = Certificate(config.certificate, config.private_key) if config.certificate else None
    listening = _bind(config.listen)
    secret = internal_secret(state_directory)
    if "*" in config.origins and not config.on_loopback():
        log.warning("origins_open", hint="any web page may use this endpoint: set [tokenizer] origins")
    async with open_hsm(state_directory / hsm_socket) as hsm, _open_keys(dsn) as keys:
        registry = CollectorRegistry()
        http_metrics = HttpMetrics("cardswitch_tokenizer", registry)
        check = KeyCheck(keys, utc_now)
        await check.load()
        server = HttpServer(
            create_app(hsm, check, secret, config, registry=registry, http_metrics=http_metrics),
            config.http,
            max_body_bytes=config.max_body_bytes,
            metrics=http_metrics,
            ready=ready,
            tls=certificate.context if certificate else None,
            every_peer_is_proxy=config.behind_proxy,
            drain_s=_DRAIN_S,
        )
        with _signals(server, certificate):
            log.info("tokenizer_ready", listen=config.listen, tls=certificate is not None)
            await server.serve(sockets=[listening])
        log.info("tokenizer_stopped")


def internal_secret(state_directory: Path) -> str:
    """Return the secret that the gateway shows at /internal/resolve, made on first use, mode 0600."""
    path = state_directory / SECRET_FILE
    state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        # The gateway asks too, perhaps at the same moment: the first link wins, and both read the same file.
        own = path.with_name(f"{SECRET_FILE}.{secrets.token_hex(8)}")
        write_private(own, secrets.token_urlsafe(32).encode())
        with contextlib.suppress(FileExistsError):
            os.link(own, path)
        own.unlink()
    return path.read_text("ascii").strip()


@contextlib.asynccontextmanager
async def _open_keys(dsn: str) -> AsyncIterator[StoredKeys]:
    database = Database(dsn, _DATABASE_TIMEOUT_S, name="key_digests")
    await database.open()
    try:
        yield StoredKeys(database)
    finally:
        await database.close()


@contextlib.contextmanager
def _signals(server: HttpServer, certificate: Certificate | None) -> Iterator[None]:
    loop, reload = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, server.stop)
    loop.add_signal_handler(signal.SIGINT, server.stop)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    follower = asyncio.create_task(certificate.follow(reload)) if certificate is not None else None
    try:
        yield
    finally:
        if follower is not None:
            follower.cancel()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


def _bind(address: str) -> socket.socket:
    host, port = address_of(address)
    try:
        family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(target)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ConfigurationError(f"tokenizer.listen: {address}: {error.strerror or error}") from None
    return listening


async def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = {404: "Unrecognized request URL.", 405: "This URL does not take this method."}.get(status, "Refused.")
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse({"error": {"type": "invalid_request_error", "message": message}}, status, headers)
