"""The HSM process: the token opened, its parts served on their sockets, and the token opened again when it was lost.

The configuration goes in; the process serves until SIGTERM or SIGINT. Called by `cardswitch hsm` under `uvloop.run`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from hsm.assembly import Assembly, KeyChanges
from hsm.audit_writer import AuditWriter
from hsm.callers import Caller, Peer, callers
from hsm.config import HsmConfig
from hsm.errors import AuditError, ConfigurationError, HsmError
from hsm.keys.holder import Keyholder, hold_lock
from hsm.listener import CommandQueue, Connection
from hsm.process import forbid_dumps
from hsm.service import Service
from hsm.vault.database import Database, NoDatabase

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_DRAIN_S = 3.0
_BACKLOG = 256
AUDIT = "hsm/audit"
"""The audit trail's directory in the state directory."""


async def serve_hsm(config: HsmConfig, *, state_directory: Path, dsn: str, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        config: `[hsm]` with the link keys.
        state_directory: for token, keys, exchange files and the socket.
        dsn: of the role cardswitch_vault. A database that is away is waited for while serving. Without a vault: "".
        ready: called once, when callers can connect.
    Raises:
        ConfigurationError: the configuration cannot work; every problem is named.
        TokenError, KeyStoreError: token or keys cannot be opened at start.
    """
    if problems := config.problems():
        raise ConfigurationError("; ".join(problems))
    forbid_dumps()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    lock = hold_lock(state_directory / "hsm")
    keyholder = Keyholder(config, state_directory)
    keyring, check_values = keyholder.open()
    database = Database(dsn, config.database_timeout_s) if config.vault else NoDatabase()
    await database.open()
    audit = AuditWriter(state_directory / AUDIT, keyholder.seal_audit)
    with suppress(AuditError):  # a full disk: said, and tried again while serving
        audit.end_block()  # from here on a trail without head.json was cut off
    parts = Assembly(config, state_directory / "hsm", keyholder, keyring, database, audit)
    say_dual_control(parts.control.state, config.dual_control, audit)
    connections: set[Connection] = set()
    queue = CommandQueue(parts.service, config.max_queued, config.budget_s)
    sockets = Sockets(state_directory, callers(config.callers, config.socket))
    await sockets.open(lambda caller: Connection(queue, connections, config.max_connections, caller))
    background = [
        asyncio.create_task(_reopen_token(parts.service, parts.keys)),
        asyncio.create_task(audit.keep()),
        asyncio.create_task(parts.watch.keep()),
    ]
    log.info("hsm_ready", keys=check_values, callers=[caller.name for caller in sockets.callers])
    try:
        ready()
        await stop.wait()
    finally:
        log.info("hsm_stopping")
        sockets.stop()
        await _finish(parts.service, background, connections)
        sockets.remove()
        await database.close()
        audit.close()
        keyholder.close()
        lock.close()


def say_dual_control(state: str, wanted: bool, audit: AuditWriter) -> None:
    """Say at start, in log and audit, where one person alone may change keys, or nobody may."""
    if state == "enforced":
        if not wanted:
            log.warning(
                "dual_control_stays", reason="[hsm] dual_control = false decides nothing: officers are registered"
            )
        return
    reasons = {
        "off": "one person alone changes keys: this is a test system",
        "no officers": "nobody can change keys: cardswitch hsm init --officer A.card --officer B.card",
    }
    log.warning("dual_control_off" if state == "off" else "officers_missing", reason=reasons[state])
    own = Peer(Caller("hsm", "", frozenset(), frozenset()), os.getuid(), os.getgid(), os.getpid())
    audit.record(own, "dual_control", "", state.replace(" ", "_"), "")


async def _finish(service: Service, background: list[asyncio.Task[None]], connections: set[Connection]) -> None:
    """Give what the vault still owes, then let the callers go."""
    for task in background:
        task.cancel()
    with suppress(TimeoutError):
        await asyncio.wait_for(service.drain(), _DRAIN_S)
    for connection in list(connections):
        connection.close()
    await asyncio.sleep(0)


class Sockets:
    """The listening sockets, one a caller.

    Args:
        directory: the state directory, where relative paths start.
        callers: each with its socket's path and mode.
    """

    def __init__(self, directory: Path, callers: Sequence[Caller]) -> None:
        self.callers = callers
        self._directory = directory
        self._servers: list[asyncio.AbstractServer] = []

    async def open(self, connected: Callable[[Caller], Connection]) -> None:
        """Listen; `connected` makes the protocol of each connection.

        Raises:
            ConfigurationError: a path cannot be used; nothing listens then.
        """
        listening = []
        try:
            for caller in self.callers:
                listening.append((caller, bind_private(self._directory / caller.socket, caller.mode)))
        except ConfigurationError:
            for _, bound in listening:
                bound.close()
            raise
        for caller, bound in listening:
            server = await asyncio.get_running_loop().create_unix_server(
                partial(connected, caller), sock=bound, backlog=_BACKLOG
            )
            self._servers.append(server)

    def stop(self) -> None:
        """Take no more connections."""
        for server in self._servers:
            server.close()

    def remove(self) -> None:
        for caller in self.callers:
            (self._directory / caller.socket).unlink(missing_ok=True)


def bind_private(path: Path, mode: int = 0o600) -> socket.socket:
    """Return a bound unix socket of mode 0600 or 0660; the lock is held, so a file in the way is a dead process's.

    Raises:
        ConfigurationError: the path is too long or cannot be written.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~mode)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise ConfigurationError(f"{path}: {error.strerror or error}") from None
    finally:
        os.umask(mask)
    return listening


async def _reopen_token(service: Service, keys: KeyChanges) -> None:
    while True:
        await service.token_lost.wait()
        pause_s = _FIRST_PAUSE_S
        while service.token_lost.is_set():
            try:
                keys.reopen()
            except HsmError as error:
                log.warning("token_still_lost", reason=str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                log.info("token_back")
