"""The API key of a request: an Authorization header goes in, the caller comes out. One for a process.

Each key is looked up in the database by its digest, so a key that was revoked ends there and then. Keys that were valid
lately are remembered for two things only: `web.keyless` does not refuse them for the strangers behind the same address,
and they do not wait for a database connection behind guesses.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import structlog

from gateway.errors import ApiError
from gateway.keys import Caller, caller_of, key_digest, key_of, newest_digests, unauthorized
from web.keyless import MAX_KEYS, KnownKeys, holder

_REFRESH_S = 60.0
_REFRESHED_KEYS = 1_000

log = structlog.get_logger("gateway.keys")


class KeyCheck:
    """Checks keys.

    Args:
        pool: connections of the role `cardswitch_gateway`.
        lookups: keys not known here that are looked up at once; others wait, and leave connections for known ones.
    """

    def __init__(self, pool: Any, lookups: int) -> None:
        self._pool = pool
        self._known = KnownKeys()
        self._lookups = asyncio.Semaphore(lookups)

    def known_holder(self, authorization: str) -> str:
        """Return whose key that was when it was last valid, "" where it is not known. Asks nobody."""
        try:
            return self._known.holder(key_digest(key_of(authorization)))
        except ApiError:
            return ""

    async def caller(self, authorization: str) -> Caller:
        """Return whose key that is. Raises ApiError 401."""
        digest = key_digest(key_of(authorization))
        if self._known.holder(digest):
            caller = await self._looked_up(digest)
        else:
            async with self._lookups:
                caller = await self._looked_up(digest)
        if caller is None:
            self._known.forget(digest)
            raise unauthorized("Invalid API Key provided")
        self._known.remember(digest, holder(caller.account.id, caller.kind))
        return caller

    async def load(self, count: int = MAX_KEYS) -> None:
        """Remember the keys that were made last. Raises asyncpg's errors and OSError where the database is away."""
        async with self._pool.acquire() as connection:
            digests = await newest_digests(connection, count)
        for digest, account, kind in reversed(digests):
            self._known.remember(digest, holder(account, kind))

    async def run(self) -> None:
        """Load the keys that were made meanwhile, for ever."""
        while True:
            await asyncio.sleep(_REFRESH_S)
            try:
                await self.load(_REFRESHED_KEYS)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("new keys not loaded", error=type(error).__name__)

    async def _looked_up(self, digest: bytes) -> Caller | None:
        async with self._pool.acquire() as connection:
            return await caller_of(connection, digest)
