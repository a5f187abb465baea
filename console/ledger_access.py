"""The ledger's database for commands: configuration, role and what to do with a connection in, its result out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from console import postgresql
from console.config import Config, require_switch
from console.errors import ConsoleError

T = TypeVar("T")


def in_ledger(config: Config, role: str, work: Callable[[Any], Awaitable[T]]) -> T:
    """Do `work` with a connection of asyncpg, in an event loop of its own.

    Args:
        role: one of those in `console.postgresql`.

    Raises:
        ConsoleError: the database cannot be reached, or refuses; this machine runs no switch.
    """
    require_switch(config)
    import asyncpg

    from console.database_errors import CONNECTING, unreachable

    async def run() -> T:
        dsn = postgresql.resolve_dsn(config.postgresql, config.state_path, role)
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            return await work(connection)
        finally:
            await connection.close()

    try:
        return asyncio.run(run())
    except CONNECTING as error:
        raise unreachable(config.postgresql, error) from None
    except asyncpg.PostgresError as error:
        raise ConsoleError(f"the ledger cannot be read: {error}", "look at postgresql.log") from None
