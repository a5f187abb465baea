"""The vault's connections to PostgreSQL, and what happens when it is away.

A DSN goes in; functions that want a connection are run, or fail at once with VaultError while the server is known to
be away. A task looks for the server with a growing pause until it is back. Called by `hsm.vault.vault`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import structlog

from hsm.errors import VaultError

log = structlog.get_logger(__name__)

CONNECTIONS = 4
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0

# Errors that mean that the server is away, or no longer ours; any other is a bug and must be seen.
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # the database takes no connections
    asyncpg.ReadOnlySQLTransactionError,  # a standby has taken its address
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # its exception where the server's farewell arrives between two statements
)

Result = TypeVar("Result")


class Database:
    """A small pool that knows whether its server is there.

    Args:
        dsn: of the role cardswitch_vault; the tokenizer's pool is of cardswitch_tokenizer.
        timeout_s: for connecting and for each statement.
        name: its name in log and server.
    """

    def __init__(self, dsn: str, timeout_s: float, name: str = "vault") -> None:
        self.available = False
        self._name = name
        self._dsn = dsn
        self._timeout_s = timeout_s
        self._pool: Any = None
        self._seeker: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect; a server that is away is looked for in the background."""
        self._pool = asyncpg.create_pool(
            self._dsn,
            min_size=0,
            max_size=CONNECTIONS,
            timeout=self._timeout_s,
            command_timeout=self._timeout_s,
            server_settings={"application_name": f"cardswitch-{self._name}"},
        )
        await self._pool  # makes no connection yet: min_size is 0
        if not await self._reachable():
            self._lost(None)

    async def close(self) -> None:
        if self._seeker is not None:
            self._seeker.cancel()
            await asyncio.wait([self._seeker])
        try:
            await asyncio.wait_for(self._pool.close(), self._timeout_s)
        except _AWAY:
            self._pool.terminate()

    async def run(self, function: Callable[[Any], Awaitable[Result]]) -> Result:
        """Run `function(connection)`.

        Raises:
            VaultError: the server is away; the statement may or may not have been done.
        """
        if not self.available:
            raise VaultError("the vault's database is away")
        try:
            async with self._pool.acquire(timeout=self._timeout_s) as connection:
                return await function(connection)
        except _AWAY as error:
            self._lost(error)
            raise VaultError(f"the vault's database is away: {type(error).__name__}") from None

    def _lost(self, error: BaseException | None) -> None:
        self.available = False
        if self._seeker is None or self._seeker.done():
            log.warning(f"{self._name}_lost", reason=type(error).__name__ if error else "not reachable")
            self._seeker = asyncio.create_task(self._seek())

    async def _seek(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not await self._reachable():
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        log.info(f"{self._name}_back")

    async def _reachable(self) -> bool:
        try:
            async with self._pool.acquire(timeout=self._timeout_s) as connection:
                await connection.fetchval("SELECT 1")
        except _AWAY:
            return False
        self.available = True  # only now: the connection is back in the pool, and this task may be cancelled
        return True


class NoDatabase(Database):
    """In place of the vault's database where an HSM keeps no cards: always away, and never looked for."""

    def __init__(self) -> None:
        super().__init__("", 1.0)

    async def open(self) -> None:
        """Connect to nothing."""

    async def close(self) -> None:
        """Nothing is open."""
