"""The tokenization endpoint: card data comes in over HTTP, a token goes out; the gateway asks what a token stands for.

Merchants' pages and servers call /v1/tokens and /v1/payment_methods, as they would call Stripe's; the gateway calls
/internal/resolve with a secret of this installation. Stands on the card-data side: its only way to anything is the
HSM's socket. `cardswitch tokenizer` calls `serve_tokenizer` under `uvloop.run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hsm.asyncio_client import open_hsm
from hsm.config import TokenizerConfig
from hsm.errors import ConfigurationError
from hsm.keys.softhsm import write_private
from hsm.process import forbid_dumps
from hsm.tokenizer.endpoint import TokenEndpoint
from hsm.vault_commands import VaultHsm

log = structlog.get_logger(__name__)

SECRET_FILE = "tokenizer.secret"
_DRAIN_S = 3


def create_app(
    hsm: VaultHsm,
    internal_secret: str,
    *,
    origins: Sequence[str] = ("*",),
    max_body_bytes: int = 16_384,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Starlette:
    """Return the ASGI application.

    Args:
        hsm: a connected client, e.g. of `hsm.asyncio_client.open_hsm`.
        internal_secret: the bearer secret of /internal/resolve.
        origins: what browsers may call /v1 from.
        max_body_bytes: longer requests are refused with 413.
        now: the time that expiry dates are held against.
    """
    endpoint = TokenEndpoint(hsm, internal_secret, max_body_bytes, now)
    answers = endpoint.answers
    return Starlette(
        routes=[
            Route("/v1/tokens", answers("token", endpoint.create_token), methods=["POST"]),
            Route("/v1/tokens/{id}", answers("token_read", endpoint.read_token), methods=["GET"]),
            Route("/v1/payment_methods", answers("payment_method", endpoint.create_payment_method), methods=["POST"]),
            Route("/internal/resolve", answers("resolve", endpoint.resolve), methods=["POST"]),
            Route("/healthz", endpoint.healthz),
            Route("/readyz", endpoint.readyz),
            Route("/metrics", endpoint.metrics),
        ],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=list(origins),
                allow_methods=["GET", "POST"],
                allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Stripe-Version"],
            )
        ],
        exception_handlers={HTTPException: _http_error},
    )


async def serve_tokenizer(
    config: TokenizerConfig, *, state_directory: Path, ready: Callable[[], None], hsm_socket: str = "hsm.sock"
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        config: `[tokenizer]`.
        state_directory: where the HSM's socket and `tokenizer.secret` are.
        ready: called once, when callers can connect; whether the HSM answers is for /readyz to say.
        hsm_socket: `[hsm] socket`.
    Raises:
        ConfigurationError: the address cannot be used.
    """
    forbid_dumps()
    listening = _bind(config.listen)
    secret = internal_secret(state_directory)
    async with open_hsm(state_directory / hsm_socket) as hsm:
        app = create_app(hsm, secret, origins=config.origins, max_body_bytes=config.max_body_bytes)
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=_DRAIN_S,
            ),
            ready,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, server.stop)
        log.info("tokenizer_ready", listen=config.listen)
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


class _Server(uvicorn.Server):
    """uvicorn's server, told to stop by us: its own handlers raise the signal again once it has stopped."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    def stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _bind(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise ConfigurationError(f"tokenizer.listen: {address!r} is not host:port")
    try:
        family, _, _, _, target = socket.getaddrinfo(host.strip("[]") or None, int(port), type=socket.SOCK_STREAM)[0]
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
    return JSONResponse({"error": {"type": "invalid_request_error", "message": message}}, status)
