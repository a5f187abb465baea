"""Where network tokens are kept: in PostgreSQL, or in memory for the simulation; one statement decides each race.

`hsm.vault.network_tokens` calls these with what its rules say; a row, a number or whether it was done comes back.
"""

from __future__ import annotations

from typing import Any, Protocol

import asyncpg
import msgspec

from hsm.algorithms.token_cryptogram import HIGHEST_COUNTER
from hsm.commands import HsmRefused
from hsm.vault.database import Database
from hsm.vault.network_token_rules import NetworkTokenRow

_COLUMNS = "id, domain, state, card, merchant, channel, expiry, counter, key_version, nonce, ciphertext, used_by"
_INSERT = """
INSERT INTO vault.network_tokens (id, card, domain, merchant, channel, expiry, fingerprint, key_version, nonce,
                                  ciphertext)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (fingerprint) DO NOTHING RETURNING id
"""
_READ = f"SELECT {_COLUMNS} FROM vault.network_tokens WHERE id = $1 AND domain = $2"
_BY_FINGERPRINT = f"SELECT {_COLUMNS} FROM vault.network_tokens WHERE fingerprint = $1"
_CHANGE = f"""
UPDATE vault.network_tokens SET state = $3, changed_at = clock_timestamp() WHERE id = $1 AND state = $2
RETURNING {_COLUMNS}
"""
_ISSUE = """
UPDATE vault.network_tokens SET issued = CASE WHEN $2::bigint = 0 THEN issued + 1 ELSE $2 END
WHERE id = $1 AND state = 'active' AND CASE WHEN $2::bigint = 0 THEN issued < $3 ELSE issued < $2 END RETURNING issued
"""
# One statement decides: of two payments with one cryptogram, the second finds the counter risen.
_TAKE = """
UPDATE vault.network_tokens SET counter = $2, used_by = $3
WHERE id = $1 AND state = 'active' AND (counter < $2 OR (counter = $2 AND used_by = $3 AND $3 <> '')) RETURNING id
"""


class NetworkTokenTable(Protocol):
    """Raises VaultError where the rows cannot be reached."""

    async def insert(self, row: NetworkTokenRow, fingerprint: bytes) -> bool:
        """Store a new row; False where its number is taken. HsmRefused `card_unknown`: its card was erased."""

    async def read(self, name: str, domain: str) -> NetworkTokenRow | None:
        """Return the row of an `nt_…` of a domain."""

    async def find(self, fingerprint: bytes) -> NetworkTokenRow | None:
        """Return the row of a number."""

    async def change(self, name: str, before: str, after: str) -> NetworkTokenRow | None:
        """Move a row from one state to another; None where it is not in `before` any more."""

    async def issue(self, name: str, counter: int) -> int | None:
        """Count up by one (0) or to `counter`; None where the row is not active or was already there."""

    async def take(self, name: str, counter: int, used_by: str) -> bool:
        """Use a counter up; False where the row is not active, or the counter was reached, unless by the same."""


class StoredNetworkTokens:
    """Rows of `vault.network_tokens`.

    Args:
        database: connections of the role cardswitch_vault.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, row: NetworkTokenRow, fingerprint: bytes) -> bool:
        columns = (row.id, row.card, row.domain, row.merchant, row.channel, row.expiry)
        sealed = (row.key_version, row.nonce, row.ciphertext)
        try:
            return await self._asked(_INSERT, *columns, fingerprint, *sealed) is not None
        except asyncpg.ForeignKeyViolationError:
            raise HsmRefused("card_unknown", "the card was erased") from None

    async def read(self, name: str, domain: str) -> NetworkTokenRow | None:
        return _row(await self._asked(_READ, name, domain))

    async def find(self, fingerprint: bytes) -> NetworkTokenRow | None:
        return _row(await self._asked(_BY_FINGERPRINT, fingerprint))

    async def change(self, name: str, before: str, after: str) -> NetworkTokenRow | None:
        return _row(await self._asked(_CHANGE, name, before, after))

    async def issue(self, name: str, counter: int) -> int | None:
        issued = await self._asked(_ISSUE, name, counter, HIGHEST_COUNTER)
        return None if issued is None else int(issued["issued"])

    async def take(self, name: str, counter: int, used_by: str) -> bool:
        return await self._asked(_TAKE, name, counter, used_by) is not None

    async def _asked(self, sql: str, *arguments: Any) -> Any:
        return await self._database.run(lambda connection: connection.fetchrow(sql, *arguments))


class KeptNetworkTokens:
    """Rows in memory, for `hsm.software`."""

    def __init__(self) -> None:
        self._rows: dict[str, NetworkTokenRow] = {}
        self._names: dict[bytes, str] = {}
        self._issued: dict[str, int] = {}

    async def insert(self, row: NetworkTokenRow, fingerprint: bytes) -> bool:
        if fingerprint in self._names:
            return False
        self._names[fingerprint] = row.id
        self._rows[row.id] = row
        self._issued[row.id] = 0
        return True

    async def read(self, name: str, domain: str) -> NetworkTokenRow | None:
        row = self._rows.get(name)
        return row if row is not None and row.domain == domain else None

    async def find(self, fingerprint: bytes) -> NetworkTokenRow | None:
        return self._rows.get(self._names.get(fingerprint, ""))

    async def change(self, name: str, before: str, after: str) -> NetworkTokenRow | None:
        row = self._rows[name]
        if row.state != before:
            return None
        lost = {"key_version": None, "nonce": None, "ciphertext": None} if after == "deleted" else {}
        self._rows[name] = msgspec.structs.replace(row, state=after, **lost)
        return self._rows[name]

    async def issue(self, name: str, counter: int) -> int | None:
        wanted = counter or self._issued[name] + 1
        if self._rows[name].state != "active" or not self._issued[name] < wanted <= HIGHEST_COUNTER:
            return None
        self._issued[name] = wanted
        return wanted

    async def take(self, name: str, counter: int, used_by: str) -> bool:
        row = self._rows[name]
        again = bool(used_by) and (counter, used_by) == (row.counter, row.used_by)
        if row.state != "active" or not (row.counter < counter or again):
            return False
        self._rows[name] = msgspec.structs.replace(row, counter=counter, used_by=used_by)
        return True


def _row(found: Any) -> NetworkTokenRow | None:
    return None if found is None else NetworkTokenRow(*found)
