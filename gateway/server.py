"""One gateway process: configuration in, a listening API out, until it is stopped.

The command line calls `serve_gateway` on uvloop. The link, the courier and the sender of webhooks live as long as it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import structlog

from gateway import idempotency
from gateway.acquirer_link import AcquirerLink
from gateway.app import build_app
from gateway.attempts import Sender
from gateway.config import GatewayConfig
from gateway.courier import Courier
from gateway.delivery import Deliverer
from gateway.disputes import chargeback_handler
from gateway.errors import ConfigurationError
from gateway.key_check import KeyCheck
from gateway.metrics import Metrics
from gateway.operations import Services
from gateway.presence import Presence
from gateway.sealing import Sealer, open_sealer
from gateway.switch_access import Access, Mac, Tls
from gateway.tokenizer import Tokenizer
from messages.address import address_of, shown_address
from messages.codec import Codec
from messages.dialect import load_dialect
from web.server import HttpServer

_GRACE_S = 5
_HOUSEKEEPING_S = 600.0

log = structlog.get_logger("gateway")


async def serve_gateway(
    config: GatewayConfig,
    *,
    dsn: str,
    switch_address: str,
    dialect: str,
    tokenizer_url: str,
    internal_secret: str,
    tls: Tls | None = None,
    mac: Mac | None = None,
    ready: Callable[[str], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or `stop`; requests under way are finished first.

    Args:
        dsn: of the role `cardswitch_gateway`; the schema is there already.
        switch_address: host:port, or unix: and the path, of the acquirer link. dialect: its name, or a file.
        tls, mac: the proofs of both ends, where the switch is on another machine.
        tokenizer_url: as merchants reach it; errors name it. We call `config.tokenizer_url`, or this one.
        internal_secret: bearer of the tokenizer's internal endpoint.
        ready: called once with the API's base address when it is listening.

    Raises: ConfigurationError; OSError where the address is taken; asyncpg's errors where the database is away.
    """
    problems = config.problems()
    if problems:
        raise ConfigurationError("; ".join(problems))
    if not config.sealing_keys:
        raise ConfigurationError("gateway.sealing_keys: name the file of the keys that seal secrets")
    stopping = stop or asyncio.Event()
    async with open_pool(dsn, config.pool) as pool:
        async with pool.acquire() as connection:
            sealer = await open_sealer(connection, Path(config.sealing_keys))
        presence = Presence(dsn)
        access = Access(address_of(switch_address), tls, mac)
        services, deliverer = _services(config, pool, presence, access, dialect, tokenizer_url, internal_secret, sealer)
        try:
            await presence.take()
            await services.keys.load()
            living = (services.link.run, services.courier.run, deliverer.run, presence.run, services.keys.run)
            with _bound(config.listen) as listener, _signals(stopping):
                await _run(services, living, listener, stopping, ready)
        finally:
            await services.tokenizer.close()
            await presence.close()


@contextlib.asynccontextmanager
async def open_pool(dsn: str, size: int) -> AsyncIterator[Any]:
    """A pool whose connections read and write jsonb as Python values."""
    pool = await asyncpg.create_pool(dsn, min_size=2, max_size=size, command_timeout=30, timeout=10, init=_set_codec)
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), _GRACE_S)
        except TimeoutError:
            pool.terminate()


async def _set_codec(connection: Any) -> None:
    def encode(value: Any) -> str:
        return msgspec.json.encode(value).decode()

    await connection.set_type_codec("jsonb", encoder=encode, decoder=msgspec.json.decode, schema="pg_catalog")


def _services(
    config: GatewayConfig,
    pool: Any,
    presence: Presence,
    access: Access,
    dialect: str,
    tokenizer_url: str,
    secret: str,
    sealer: Sealer,
) -> tuple[Services, Deliverer]:
    metrics, wake = Metrics(), asyncio.Event()
    sender = Sender(config.link, config.acquirer_id, config.terminal, str(presence.number), config.claim_s)
    link = AcquirerLink(
        *(config.link, access, Codec(load_dialect(dialect))),
        *(chargeback_handler(pool, sender, metrics), metrics),
        connections=config.connections,
        acquirer_id=config.acquirer_id,
        max_in_flight=config.max_in_flight,
        echo_s=config.echo_s,
    )
    courier = Courier(pool, link, sender, config, metrics, wake)
    services = Services(
        config=config,
        pool=pool,
        link=link,
        courier=courier,
        tokenizer=Tokenizer(tokenizer_url, secret, config.tokenizer_url, config.tokenizer_ca),
        sender=sender,
        metrics=metrics,
        webhooks_waiting=wake,
        sealer=sealer,
        keys=KeyCheck(pool, max(1, config.pool // 2)),
    )
    return services, Deliverer(pool, config, metrics, wake, sealer)


async def _run(
    services: Services,
    living: Sequence[Callable[[], Coroutine[Any, Any, None]]],
    listener: socket.socket,
    stopping: asyncio.Event,
    ready: Callable[[str], None] | None,
) -> None:
    listening = asyncio.Event()
    server = HttpServer(
        build_app(services),
        services.config.http,
        max_body_bytes=services.config.max_body_bytes,
        metrics=services.metrics.http,
        ready=listening.set,
        drain_s=_GRACE_S,
    )
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run()) for run in living]
        tasks.append(group.create_task(_housekeeping(services.pool)))
        serving = group.create_task(server.serve(sockets=[listener]))
        stopped = group.create_task(stopping.wait())
        started = group.create_task(listening.wait())
        try:
            await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
            host, port = listener.getsockname()[:2]
            log.info("listening", address=f"{host}:{port}", switch=shown_address(services.link.access.address))
            if ready is not None:
                ready(f"http://{host}:{port}")
            await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
            server.stop()
            await serving
        finally:
            started.cancel()
            stopped.cancel()
            for task in tasks:
                task.cancel()
    log.info("stopped")


async def _housekeeping(pool: Any) -> None:
    while True:
        await asyncio.sleep(_HOUSEKEEPING_S)
        try:
            async with pool.acquire() as connection:
                await idempotency.forget(connection)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("housekeeping put off", error=type(error).__name__)


@contextlib.contextmanager
def _bound(listen: str) -> Iterator[socket.socket]:
    host, port = address_of(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off; else each answer may wait 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        yield listener


@contextlib.contextmanager
def _signals(stopping: asyncio.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set `stopping`, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
