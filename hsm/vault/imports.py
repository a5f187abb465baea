"""Bringing a merchant's or an issuer's cards into the vault, a batch at a time; the same card gives the same token.

Batches come in from `hsm.vault.desk`, a token or a refusal for each card goes out. Between cards the loop is let go, so
that an import slows payments down by no more than one card.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import asyncpg

from hsm.commands import HsmRefused
from hsm.engine import Engine, NewCard
from hsm.errors import VaultError
from hsm.vault.cards import Card, check_expiry
from hsm.vault.vault import Vault
from hsm.vault_commands import CardNumber, ImportCards, ImportedCard, ImportedCards

MAX_CARDS = 500
_AT_ONCE = 10
_ATTEMPTS = 3

# Two imports of the same cards would give each two tokens: one statement at a time.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('vault.imports'))"
_TOKENS = r"""
WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::smallint[], $4::smallint[]) AS w (id, card, exp_month, exp_year)
), known AS (
    SELECT DISTINCT ON (t.card, t.exp_month, t.exp_year) t.id, t.card, t.exp_month, t.exp_year
      FROM vault.tokens t JOIN wanted w USING (card, exp_month, exp_year)
     WHERE t.domain = $5 AND t.id LIKE 'pm\_%' ORDER BY t.card, t.exp_month, t.exp_year, t.id
), made AS (
    INSERT INTO vault.tokens (id, card, exp_month, exp_year, domain)
    SELECT w.id, w.card, w.exp_month, w.exp_year, $5 FROM wanted w
     WHERE NOT EXISTS (SELECT 1 FROM known k
                        WHERE (k.card, k.exp_month, k.exp_year) = (w.card, w.exp_month, w.exp_year))
    RETURNING id, card, exp_month, exp_year
)
SELECT * FROM known UNION ALL SELECT * FROM made
"""


async def import_cards(request: ImportCards, vault: Vault, engine: Engine) -> ImportedCards:
    """Store the cards and return their tokens in the same order.

    Raises:
        HsmRefused: `malformed`, more than MAX_CARDS.
        VaultError: the database is away; send the batch again.
    """
    if len(request.cards) > MAX_CARDS or len(request.domain) > 100:
        raise HsmRefused("malformed", f"a batch has at most {MAX_CARDS} cards, a domain 100 characters")
    for _ in range(_ATTEMPTS):
        stored = [await _stored(card, number, vault, engine) for number, card in enumerate(request.cards)]
        cards = await asyncio.gather(*(_card(item) for item in stored))
        if not request.domain:
            return ImportedCards(tuple(_imported(card, card.token) if isinstance(card, Card) else card
                                       for card in cards))  # fmt: skip
        pairs = list(zip(cards, request.cards, strict=True))
        wanted = {(card.token, given.expiry) for card, given in pairs if isinstance(card, Card)}
        try:
            tokens = await _tokens(wanted, request.domain, vault)
        except asyncpg.ForeignKeyViolationError:  # a card was erased meanwhile
            for card in cards:
                if isinstance(card, Card):
                    vault.cards.drop(card.token)
            continue
        return ImportedCards(tuple(
            _imported(card, tokens[card.token, given.expiry]) if isinstance(card, Card) else card
            for card, given in pairs
        ))  # fmt: skip
    raise VaultError("cards of this batch are being erased")


async def _stored(
    card: CardNumber, number: int, vault: Vault, engine: Engine
) -> Card | ImportedCard | asyncio.Future[Card | None]:
    if number % _AT_ONCE == 0:
        await asyncio.sleep(0)
    try:
        check_expiry(card.expiry)
        found = engine.identify(card.pan, card.expiry)
    except HsmRefused as refused:
        return ImportedCard(refused=refused.code)
    return vault.find(found) if isinstance(found, NewCard) else found


async def _card(item: Card | ImportedCard | asyncio.Future[Card | None]) -> Card | ImportedCard:
    if not isinstance(item, asyncio.Future):
        return item
    card = await item
    assert card is not None, "the vault stores a new card or fails"
    return card


async def _tokens(wanted: Iterable[tuple[str, str]], domain: str, vault: Vault) -> dict[tuple[str, str], str]:
    pairs = sorted(wanted)
    columns = (
        [vault.numbers.identifier("pm_") for _ in pairs],
        [card for card, _ in pairs],
        [int(expiry[2:]) for _, expiry in pairs],
        [2000 + int(expiry[:2]) for _, expiry in pairs],
    )

    async def made(connection: Any) -> list[Any]:
        async with connection.transaction():
            await connection.execute(_LOCK)
            rows: list[Any] = await connection.fetch(_TOKENS, *columns, domain)
            return rows

    rows = await vault.database.run(made)
    return {(row["card"], f"{row['exp_year'] % 100:02d}{row['exp_month']:02d}"): row["id"] for row in rows}


def _imported(card: Card, token: str) -> ImportedCard:
    return ImportedCard(token, card.fingerprint, card.bin, card.last4)
