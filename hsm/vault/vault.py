"""The card vault: cards by fingerprint, surrogate or token in PostgreSQL, and the tokens that merchants hold.

Entries missing in the engine go in, cards come out and enter the cache. Called by `hsm.service`. PANs never come
here: candidates arrive encrypted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from hsm.commands import HsmRefused
from hsm.engine import Missing, NamedNetworkToken, NewCard, UnknownSurrogate
from hsm.errors import VaultError
from hsm.vault.batches import Batches
from hsm.vault.cards import Card, CardCache, Numbers, card_token
from hsm.vault.database import Database
from hsm.vault.network_token_rules import PresentedNetworkToken
from hsm.vault.network_token_table import StoredNetworkTokens
from hsm.vault.network_tokens import NetworkTokens
from hsm.vault.rewrap import stored_under
from hsm.vault_commands import CardToken, ResolveToken

# A candidate meets a row of another process, or a surrogate that is taken: ask again, with another surrogate.
_ATTEMPTS = 4
_COLUMNS = "token, fingerprint, surrogate, key_version, nonce, ciphertext, leading_digits, last4, digits"

# A row that another session commits meanwhile is in neither half: it is found at the next attempt.
_STORE = f"""
WITH stored AS (
    INSERT INTO vault.cards ({_COLUMNS})
    SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::bytea[], $6::bytea[],
                         $7::text[], $8::text[], $9::smallint[])
           AS new ({_COLUMNS})
    WHERE NOT EXISTS (SELECT 1 FROM vault.deletions gone WHERE gone.surrogate = new.surrogate)
    ORDER BY fingerprint -- one order in every process, or two of them wait for each other's rows
    ON CONFLICT DO NOTHING
    RETURNING {_COLUMNS}
)
SELECT {_COLUMNS} FROM stored
UNION ALL
SELECT {_COLUMNS} FROM vault.cards WHERE fingerprint = ANY($2)
   AND fingerprint NOT IN (SELECT fingerprint FROM stored) -- of a card that was being erased, the new row
"""
_BY_SURROGATE = f"SELECT {_COLUMNS} FROM vault.cards WHERE surrogate = ANY($1)"
_BY_TOKEN = f"SELECT {_COLUMNS} FROM vault.cards WHERE token = ANY($1)"
_ISSUE = """
INSERT INTO vault.tokens (id, card, exp_month, exp_year, domain) VALUES ($1, $2, $3, $4, $5) RETURNING created_at
"""
_READ = f"""
SELECT id, exp_month, exp_year, domain, t.created_at, used_at, {_COLUMNS}
FROM vault.tokens t JOIN vault.cards c ON c.token = t.card WHERE id = $1 AND domain = $2
"""
_CONSUME = """
UPDATE vault.tokens SET used_at = coalesce(used_at, clock_timestamp()), used_by = $2
WHERE id = $1 AND (used_at IS NULL OR (used_by = $2 AND $2 <> '')) RETURNING id
"""


class Vault:
    """Finds and stores.

    Args:
        database: connections of the role cardswitch_vault.
        cards: the cache that found cards enter.
        numbers: makes other surrogates where one is taken, and token ids.
        network_tokens: over the same database; left out: with the usual range and key.
    """

    def __init__(
        self, database: Database, cards: CardCache, numbers: Numbers, network_tokens: NetworkTokens | None = None
    ) -> None:
        self.network_tokens = network_tokens or NetworkTokens(StoredNetworkTokens(database), numbers)
        self.database = self._database = database
        self.cards = self._cards = cards
        self.numbers = self._numbers = numbers
        self._new: Batches[bytes, Card, Card] = Batches(self._store)
        self._surrogates: Batches[str, str, Card] = Batches(self._by_surrogate)
        self._tokens: Batches[str, str, Card] = Batches(self._by_token)

    @property
    def available(self) -> bool:
        return self._database.available

    def find(self, missing: Missing) -> asyncio.Future[Card | None]:
        """Return the future of the card, None where the vault has none; it fails with VaultError.

        Raises:
            VaultError: at once, where the database is known to be away.
        """
        if not self._database.available:
            raise VaultError("the vault's database is away")
        if isinstance(missing, NewCard):
            return self._new.submit(missing.candidate.fingerprint, missing.candidate)
        if isinstance(missing, PresentedNetworkToken):
            return asyncio.ensure_future(self._behind(missing))
        if isinstance(missing, NamedNetworkToken):
            return asyncio.ensure_future(self._named(missing.fingerprint))
        if isinstance(missing, UnknownSurrogate):
            return self._surrogates.submit(missing.surrogate, missing.surrogate)
        return self._tokens.submit(missing.token, missing.token)

    async def issue(self, kind: str, card: Card, expiry: str, domain: str) -> CardToken:
        """Store and return a new `tok_…` or `pm_…` of a domain for a card; `expiry` is YYMM.

        Raises:
            HsmRefused: `card_unknown`, the card was erased meanwhile; it has left the cache.
        """
        token = self._numbers.identifier(f"{kind}_")
        arguments = (token, card.token, int(expiry[2:]), 2000 + int(expiry[:2]), domain)
        try:
            created_at = await self._database.run(lambda connection: connection.fetchval(_ISSUE, *arguments))
        except asyncpg.ForeignKeyViolationError:
            self._cards.forget(card.token)
            raise HsmRefused("card_unknown", "the card was erased") from None
        return card_token(card, expiry, token, int(created_at.timestamp()))

    async def resolve(self, request: ResolveToken) -> CardToken:
        """Return the card of a token of the domain, using the token up on request.

        Raises:
            HsmRefused: `token_unknown` or `token_used`.
            VaultError: the database is away.
        """
        row = await self._row(request.id, request.domain)
        consumes = request.consume and request.id.startswith("tok_")
        if consumes:
            used = await self._database.run(
                lambda connection: connection.fetchval(_CONSUME, request.id, request.used_by)
            )
            if used is None:
                raise HsmRefused("token_used", "a tok_ pays once")
        used = row["used_at"] is not None or consumes
        return msgspec.structs.replace(_read(row, row["id"], row["created_at"]), used=used)

    async def exchange(self, source: str, kind: str, domain: str) -> CardToken:
        """Use up the `tok_…` in `source` and return a new token of `kind` for its card and domain, both or neither.

        Raises:
            HsmRefused: `token_unknown` or `token_used`.
            VaultError: the database is away.
        """

        async def exchanged(connection: Any) -> CardToken:
            async with connection.transaction():
                row = await connection.fetchrow(_READ, source, domain)
                if row is None or not source.startswith("tok_"):
                    raise HsmRefused("token_unknown", "no such token")
                token = self._numbers.identifier(f"{kind}_")
                arguments = (token, row["token"], row["exp_month"], row["exp_year"], domain)
                # The card before the token, as an erasure locks them; the other way round each waits for the other.
                created_at = await connection.fetchval(_ISSUE, *arguments)
                if await connection.fetchval(_CONSUME, source, "") is None:
                    raise HsmRefused("token_used", "a tok_ pays once")  # and what was issued is rolled back
                return _read(row, token, created_at)

        try:
            return await self._database.run(exchanged)
        except asyncpg.ForeignKeyViolationError:
            raise HsmRefused("token_unknown", "no such token") from None

    async def card_of(self, token: str, domain: str) -> tuple[Card, str]:
        """Return the card of a `tok_…` or `pm_…` of a domain, and the token's expiry (YYMM).

        Raises:
            HsmRefused: `token_unknown`.
            VaultError: the database is away.
        """
        row = await self._row(token, domain)
        return Card(*(row[name] for name in _COLUMNS.split(", "))), _expiry(row)

    async def cards_under(self, key_version: str) -> int:
        """Return how many cards and network tokens are, or are about to be, stored under a data key, e.g. `pan-1`.

        Beyond `hsm.vault.rewrap.MAX_COUNTED` of either it is "at least". Where it is 0, which is exact, the cache holds
        none of them either: the key may be destroyed.
        """
        stored = await stored_under(self._database, key_version)
        coming = sum(candidate.key_version == key_version for candidate in self._new.unanswered)
        if not stored + coming:
            self._cards.drop_version(key_version)
        return stored + coming

    async def _row(self, token: str, domain: str) -> Any:
        row = await self._database.run(lambda connection: connection.fetchrow(_READ, token, domain))
        if row is None:
            raise HsmRefused("token_unknown", "no such token")
        return row

    async def _behind(self, presented: PresentedNetworkToken) -> Card | None:
        token = await self.network_tokens.take(presented)
        return self._cards.by_token(token) or await self._tokens.submit(token, token)

    async def _named(self, fingerprint: bytes) -> Card | None:
        token = await self.network_tokens.behind(fingerprint)
        return None if token is None else self._cards.by_token(token) or await self._tokens.submit(token, token)

    async def _store(self, candidates: dict[bytes, Card]) -> Mapping[bytes, Card]:
        found: dict[bytes, Card] = {}
        for _ in range(_ATTEMPTS):
            cards = [card for fingerprint, card in candidates.items() if fingerprint not in found]
            columns = [list(column) for column in zip(*(msgspec.structs.astuple(card) for card in cards), strict=True)]
            for card in self._remember(await self._fetch(_STORE, *columns)):
                found[card.fingerprint] = card
            if len(found) == len(candidates):
                return found
            candidates = {
                fingerprint: msgspec.structs.replace(card, surrogate=self._numbers.surrogate())
                for fingerprint, card in candidates.items()
            }
        raise VaultError("the vault found no free surrogate")

    async def _by_surrogate(self, surrogates: dict[str, str]) -> Mapping[str, Card]:
        rows = await self._fetch(_BY_SURROGATE, list(surrogates))
        return {card.surrogate: card for card in self._remember(rows)}

    async def _by_token(self, tokens: dict[str, str]) -> Mapping[str, Card]:
        return {card.token: card for card in self._remember(await self._fetch(_BY_TOKEN, list(tokens)))}

    async def _fetch(self, sql: str, *arguments: Any) -> list[Any]:
        rows: list[Any] = await self._database.run(lambda connection: connection.fetch(sql, *arguments))
        return rows

    def _remember(self, rows: Iterable[Any]) -> list[Card]:
        cards = [Card(*row) for row in rows]
        for card in cards:
            self._cards.add(card)
        return cards


def _read(row: Any, token: str, created_at: datetime) -> CardToken:
    return CardToken(
        id=token,
        surrogate=row["surrogate"],
        fingerprint=row["fingerprint"].hex(),
        bin=row["leading_digits"],
        last4=row["last4"],
        expiry=_expiry(row),
        created_at=int(created_at.timestamp()),
    )


def _expiry(row: Any) -> str:
    return f"{row['exp_year'] % 100:02d}{row['exp_month']:02d}"
