"""Living processes: a process holds a lock of its database session, and PostgreSQL releases it when the process dies.

`gateway.server` keeps it; `gateway.idempotency` looks at it, so that what a killed process has begun is taken over at
once. It saves waiting and nothing else: a process that takes over too early is stopped by the row itself.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import asyncpg
import structlog

_CLASS = 0x67617465  # one name space of advisory locks for gateways
_CHECK_S = 5.0

log = structlog.get_logger("gateway.presence")

# True where the process with that number (a text) holds its lock.
ALIVE = f"""EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND l.classid = {_CLASS} AND l.objsubid = 2 AND l.granted
      AND d.datname = current_database() AND l.objid = {{process}}::oid)"""


class Presence:
    """This process, by a random number of 31 bits."""

    def __init__(self, dsn: str) -> None:
        self.number = secrets.randbelow(2**31 - 1) + 1
        self._dsn = dsn
        self._connection: Any = None

    async def take(self) -> None:
        """Connect and take the lock. Raises OSError or asyncpg's errors."""
        self._connection = await asyncpg.connect(self._dsn, timeout=10, command_timeout=_CHECK_S)
        await self._connection.execute("SELECT pg_advisory_lock($1::int, $2::int)", _CLASS, self.number)

    async def run(self) -> None:
        """Keep it until cancelled: a lost session is replaced."""
        while True:
            await asyncio.sleep(_CHECK_S)
            try:
                if self._connection.is_closed():
                    await self.take()
                await self._connection.execute("SELECT 1")
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("database session lost", error=type(error).__name__)
                self._connection.terminate()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close(timeout=2)
