"""The processes of a system: a kind and a configuration in, that process runs until it is stopped.

`cardswitch switch|hsm|tokenizer|gateway|sim issuer` end here. Each function puts the parts of one process together;
all of them log to a file where a supervisor runs them, to standard error otherwise, and say when they are ready.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from console.config import Config
from console.errors import ConsoleError, StartError
from console.log_files import LogFile
from console.private_files import PRIVATE_UMASK
from console.readiness import announce, follow_parent, inherited_sockets, is_supervised

if TYPE_CHECKING:
    import trio

SEAL_EVERY_S = 1.0


def run_process(kind: str, config: Config, options: dict[str, Any]) -> None:
    """Run a process until SIGTERM or SIGINT.

    Args:
        kind: one of `PROCESSES`.
        options: worker number, issuer's name and scenario: the arguments of the command line.
    """
    follow_parent()
    os.umask(PRIVATE_UMASK)  # files of any library are for this user only
    name = process_name(kind, options)
    configure_logs(config, name)
    log = structlog.get_logger("console")
    log.info("starting")
    try:
        PROCESSES[kind](config, options)
    except KeyboardInterrupt:
        log.info("stopped", reason="interrupted")
    except ConsoleError as error:  # has the remedy itself: a traceback would add nothing
        log.error("failed", error=str(error))
        raise
    except Exception as error:
        # The file is for a later look; the line on standard error is for the person who started it.
        log.exception("failed", error=f"{type(error).__name__}: {error}")
        raise
    else:
        log.info("stopped")


def process_name(kind: str, options: dict[str, Any]) -> str:
    """The name of a process in logs and in `System`: switch-0, issuer-alpha, hsm, …"""
    if kind == "switch":
        return f"switch-{options.get('worker', 0)}"
    if kind == "issuer":
        return f"issuer-{options['name']}"
    return kind


def configure_logs(config: Config, name: str) -> None:
    from console.logging import configure

    configure(
        name, config.log_path / f"{name}.jsonl" if is_supervised() else None, config.log.level,
        max_bytes=config.log.max_bytes, keep=config.log.keep,
    )  # fmt: skip


def run_postgresql(config: Config, options: dict[str, Any]) -> None:
    """Start the embedded server (unless there is a DSN), bring the schema up to date, watch the server."""
    import asyncio

    from console.database_errors import CONNECTING, unreachable
    from console.database_roles import OWNER
    from console.embedded import await_former_server
    from console.migration import migrate
    from console.postgresql import EmbeddedPostgres, resolve_dsn, role_passwords

    stopping = _stop_flag()
    server = None if config.postgresql.dsn else EmbeddedPostgres(config.state_path)
    log = structlog.get_logger("console")
    if server is not None:
        await_former_server(config.state_path)
        server.start()
    try:
        dsn = resolve_dsn(config.postgresql, config.state_path, OWNER)
        try:
            done = asyncio.run(migrate(dsn, role_passwords(config.state_path), prefix=config.postgresql.prefix))
        except CONNECTING as error:
            raise unreachable(config.postgresql, error) from None
        log.info("migrated", applied=[f"{file.package}/{file.name}" for file in done.applied], roles=done.roles)
        announce()
        while not stopping():
            time.sleep(0.1)
            if server is not None and not server.running():
                raise StartError("the PostgreSQL server has stopped", f"look at {config.state_path}/postgresql")
    finally:
        if server is not None:
            server.stop()


def run_hsm(config: Config, options: dict[str, Any]) -> None:
    """The HSM: token, vault, unix socket."""
    import uvloop

    from console.database_roles import VAULT
    from console.postgresql import resolve_dsn
    from hsm.server import serve_hsm

    dsn = resolve_dsn(config.postgresql, config.state_path, VAULT) if config.hsm.vault else ""
    uvloop.run(serve_hsm(config.hsm_config(), state_directory=config.state_path, dsn=dsn, ready=_announce_hot))


def run_issuer(config: Config, options: dict[str, Any]) -> None:
    """An issuer or network simulator with its control socket and a book that outlives it."""
    from console.sim_process import serve_on_link

    run_trio(serve_on_link(config, options["name"], options.get("scenario"), _announce_hot))


def run_switch(config: Config, options: dict[str, Any]) -> None:
    """One switch worker: journal, HSM and network put under the pipeline."""
    import trio

    from console.database_roles import LEDGER
    from console.postgresql import resolve_dsn
    from console.reload import reread
    from hsm.process import forbid_dumps
    from hsm.trio_client import open_hsm
    from ledger.writer import open_journal
    from switch.ledger_signer import open_signer
    from switch.links.network import SocketNetwork
    from switch.worker import run_worker

    forbid_dumps()  # card numbers pass through its memory
    number = int(options.get("worker", 0))
    dsn = resolve_dsn(config.postgresql, config.state_path, LEDGER)
    # One process seals for all: two would only wait for each other.
    seal_every_s = SEAL_EVERY_S if number == 0 else 0.0

    async def serve() -> None:
        stopping = trio.Event()
        async with (
            open_hsm(config.hsm_socket, max_in_flight=config.switch.max_in_flight) as hsm,
            open_journal(dsn, seal_every_s=seal_every_s, signer=lambda: open_signer(config.hsm_socket)) as journal,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(_set_on_signal, stopping)
            hangups = await nursery.start(_hangups)

            async def work(task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
                await run_worker(
                    config.switch_config(),
                    journal,
                    hsm,
                    SocketNetwork(inherited_sockets()),
                    number=number,
                    stopping=stopping,
                    control_path=config.worker_socket(number),
                    write_events=_event_writer(config, f"switch-{number}"),
                    read=lambda: reread(config),
                    task_status=task_status,
                )
                nursery.cancel_scope.cancel()

            worker = await nursery.start(work)
            _announce_hot()
            async for _ in hangups:
                await worker.reloader.on_signal()

    _trio_run(serve)


def run_tokenizer(config: Config, options: dict[str, Any]) -> None:
    """The tokenization endpoint, on the card-data side."""
    import uvloop

    from console.database_roles import TOKENIZER
    from console.postgresql import resolve_dsn
    from hsm.tokenizer.server import serve_tokenizer

    uvloop.run(
        serve_tokenizer(
            config.tokenizer,
            state_directory=config.state_path,
            dsn=resolve_dsn(config.postgresql, config.state_path, TOKENIZER),
            ready=announce,
            hsm_socket=str(config.caller_socket("tokenizer")),
        )
    )


def run_gateway(config: Config, options: dict[str, Any]) -> None:
    """The merchants' API."""
    import uvloop

    from console.database_roles import GATEWAY
    from console.gateway_link import CALLER, switch_proofs
    from console.postgresql import resolve_dsn
    from gateway.server import serve_gateway
    from hsm.process import forbid_dumps
    from hsm.tokenizer.server import internal_secret

    forbid_dumps()  # merchants' secrets and customers' data pass through its memory
    link, remote = config.acquirer_link(config.gateway.link), config.gateway.switch
    if not config.runs_gateway:
        raise StartError(
            f"acquirer[{config.gateway.link}] listens on a port, for a gateway on another machine",
            "start the gateway there, or set [gateway.switch] here, too",
        )
    place = remote or link
    assert place is not None, "a gateway that runs here has one of them"
    address = remote.address if remote is not None else link.listen if link is not None else ""

    async def serve() -> None:
        name, most = config.gateway.link, config.gateway.max_in_flight
        async with switch_proofs(name, remote, config.caller_socket(CALLER), most) as (tls, mac):
            await serve_gateway(
                config.gateway_config(),
                dsn=resolve_dsn(config.postgresql, config.state_path, GATEWAY),
                switch_address=address,
                dialect=place.dialect,
                tokenizer_url=config.tokenizer.public_url(),
                internal_secret=internal_secret(config.state_path),
                tls=tls,
                mac=mac,
                ready=lambda address: announce(),
            )

    uvloop.run(serve())


PROCESSES: dict[str, Callable[[Config, dict[str, Any]], None]] = {
    "postgresql": run_postgresql,
    "hsm": run_hsm,
    "issuer": run_issuer,
    "switch": run_switch,
    "tokenizer": run_tokenizer,
    "gateway": run_gateway,
}


def _announce_hot() -> None:
    """Ready, for a process that makes many short-lived objects a payment: the collector looks at them less often, and
    never again at what lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    announce()


def run_trio(serve: Callable[[], Any]) -> None:
    """Run `serve` until SIGTERM or SIGINT, then cancel it."""
    import trio

    async def main() -> None:
        stopping = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(_set_on_signal, stopping)

            async def work() -> None:
                await serve()
                nursery.cancel_scope.cancel()

            nursery.start_soon(work)
            await stopping.wait()
            nursery.cancel_scope.cancel()

    _trio_run(main)


def _trio_run(main: Callable[[], Any]) -> None:
    import trio

    try:
        trio.run(main)
    except BaseExceptionGroup as group:
        raise _first(group) from group


async def _set_on_signal(stopping: trio.Event, task_status: Any = None) -> None:
    """Set `stopping` on SIGTERM and SIGINT, for ever."""
    import trio

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        if task_status is not None:
            task_status.started()
        async for _ in signals:
            stopping.set()


async def _hangups(task_status: trio.TaskStatus[trio.MemoryReceiveChannel[int]]) -> None:
    """Hand on each SIGHUP, from now on; one that comes while another waits is the same wish."""
    import trio

    sending, receiving = trio.open_memory_channel[int](1)
    with trio.open_signal_receiver(signal.SIGHUP) as signals, sending:
        task_status.started(receiving)
        async for number in signals:
            with contextlib.suppress(trio.WouldBlock):
                sending.send_nowait(number)


def _event_writer(config: Config, name: str) -> Callable[[bytes], object] | None:
    """The path of a worker's payment events: behind its log, whole lines at a time."""
    if not config.switch.payment_log or not is_supervised():
        return None
    return LogFile(config.log_path / f"{name}.jsonl", config.log.max_bytes, config.log.keep).write_bytes


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """A group's first error; the command line shows one line, the log has all."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _stop_flag() -> Callable[[], bool]:
    """True after SIGTERM or SIGINT."""
    seen: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: seen.append(number))
    return lambda: bool(seen)
