"""Bringing what is stored under older data keys under the newest, a batch at a time beside live traffic.

`Rewrap` commands come in from `hsm.vault.desk`, counts go out. A batch is read, encrypted anew and put in place of what
was read, and only of that: a process that is killed in between, or works on the same rows, changes nothing. Cards that
were not re-wrapped stay readable for as long as their data key is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from hsm.engine import data_key_label, data_keys_used
from hsm.errors import CiphertextError
from hsm.key_commands import Rewrap, Rewrapped
from hsm.keys.keyring import NONCE_BYTES, Keyring, Sealed
from hsm.vault.cards import Numbers
from hsm.vault.database import Database

log = structlog.get_logger(__name__)

MAX_BATCH = 500
# Cards encrypted between two looks at what else has to be done: 20 × 30 µs.
_AT_ONCE = 20

# Table and its key, and the function that puts new ciphertexts in place.
_TABLES = {
    "vault.cards": ("token", "vault.rewrap_cards"),
    "vault.network_tokens": ("id", "vault.rewrap_network_tokens"),
}
# One look at the index for each version, not one for each row.
_VERSIONS = """
WITH RECURSIVE versions AS (
    (SELECT key_version FROM {table} WHERE key_version IS NOT NULL ORDER BY key_version LIMIT 1)
    UNION ALL
    SELECT (SELECT t.key_version FROM {table} t WHERE t.key_version > v.key_version ORDER BY t.key_version LIMIT 1)
      FROM versions v WHERE v.key_version IS NOT NULL
)
SELECT key_version FROM versions WHERE key_version IS NOT NULL
"""
_OLD = """
SELECT {key} AS name, key_version, nonce, ciphertext FROM {table}
 WHERE key_version = ANY($1::text[]) ORDER BY key_version, {key} LIMIT $2
"""
# A count after each batch must not grow with the table: all of it once a batch would be quadratic.
MAX_COUNTED = 100_000
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE key_version = ANY($1::text[]) LIMIT $2) AS counted"


class Rewrapper:
    """Re-wraps and counts.

    Args:
        database: connections of the role cardswitch_vault.
        numbers: makes nonces.
    """

    def __init__(self, database: Database, numbers: Numbers) -> None:
        self._database = database
        self._numbers = numbers

    async def rewrap(self, request: Rewrap, keyring: Keyring) -> Rewrapped:
        """Re-wrap up to `limit` (1–500, others are brought into that range) and return what is left.

        A ciphertext that is not authentic, or whose data key is gone, stays as it is, is logged and stays in `left`.
        `left` counts up to MAX_COUNTED cards and as many network tokens: from there on it is "at least"; 0 is exact.

        Raises:
            VaultError: the database is away.
        """
        limit = min(max(request.limit, 1), MAX_BATCH)
        newest = keyring.seal(b"which", self._numbers.random_bytes(NONCE_BYTES), b"").key_version
        data_keys_used.set(data_key_label(newest))
        done = left = 0
        for table in _TABLES:
            old = [version for version in await self._versions(table) if version != newest]
            if old:
                if done < limit:
                    done += await self._batch(table, old, limit - done, keyring)
                left += await self._count(table, old)
        return Rewrapped(done, left)

    async def _batch(self, table: str, versions: Sequence[str], limit: int, keyring: Keyring) -> int:
        key, function = _TABLES[table]
        sql = _OLD.format(key=key, table=table)
        rows: list[Any] = await self._database.run(lambda connection: connection.fetch(sql, versions, limit))
        made: list[tuple[Any, Sealed]] = []
        unreadable: list[str] = []
        for number, row in enumerate(rows):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            name = row["name"].encode()
            try:
                clear = keyring.unseal(Sealed(row["key_version"], row["nonce"], row["ciphertext"]), name)
            except CiphertextError:
                unreadable.append(row["name"])
                continue
            made.append((row, keyring.seal(clear, self._numbers.random_bytes(NONCE_BYTES), name)))
        if unreadable:
            log.error("ciphertexts_unreadable", table=table, count=len(unreadable), first=unreadable[0])
        if not made:
            return 0
        # A data key that came in the middle of a batch: the rows of the older one have their turn later.
        newest = made[-1][1].key_version
        pairs = [(row, sealed) for row, sealed in made if sealed.key_version == newest]
        arguments = (
            [row["name"] for row, _ in pairs],
            [row["nonce"] for row, _ in pairs],
            newest,
            [sealed.nonce for _, sealed in pairs],
            [sealed.ciphertext for _, sealed in pairs],
        )
        done: int = await self._database.run(
            lambda connection: connection.fetchval(f"SELECT {function}($1, $2, $3, $4, $5)", *arguments)
        )
        return done

    async def _versions(self, table: str) -> list[str]:
        rows = await self._database.run(lambda connection: connection.fetch(_VERSIONS.format(table=table)))
        return [row["key_version"] for row in rows]

    async def _count(self, table: str, versions: Sequence[str]) -> int:
        return await self._database.run(lambda connection: _count(connection, table, versions))


async def stored_under(database: Database, version: str) -> int:
    """Return how many cards and network tokens are stored under a data key, e.g. `pan-1`.

    Of either no more than MAX_COUNTED are counted: from there on it is "at least"; 0 is exact.
    """

    async def counted(connection: Any) -> int:
        return sum([await _count(connection, table, [version]) for table in _TABLES])

    return await database.run(counted)


async def _count(connection: Any, table: str, versions: Sequence[str]) -> int:
    count: int = await connection.fetchval(_COUNT.format(table=table), list(versions), MAX_COUNTED)
    return count
