"""Bringing a merchant's or an issuer's cards into the vault, a batch at a time; the same card gives the same token.

Batches come in from `hsm.vault.desk`, a token or a refusal for each card goes out. Between cards the loop is let go, so
that an import slows payments down by no more than one card.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg

from hsm.commands import HsmRefused
from hsm.engine import Engine, NewCard, data_keys_used
from hsm.errors import VaultError
from hsm.vault.cards import Card, check_expiry
from hsm.vault.vault import Vault
from hsm.vault_commands import CardNumber, ImportCards, ImportedCard, ImportedCards

MAX_CARDS = 500
_AT_ONCE = 10
_ATTEMPTS = 3

# Two imports of the same cards would give each two tokens: one at a time.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('vault.imports'))"
_KNOWN = r"""
SELECT min(id) AS id, card, exp_month, exp_year FROM vault.tokens
 WHERE card = ANY($1::text[]) AND domain = $2 AND id LIKE 'pm\_%' GROUP BY card, exp_month, exp_year
"""
_MAKE = """
INSERT INTO vault.tokens (id, card, exp_month, exp_year, domain)
SELECT *, $5 FROM unnest($1::text[], $2::text[], $3::smallint[], $4::smallint[])
"""


async def import_cards(request: ImportCards, vault: Vault, engine: Callable[[], Engine]) -> ImportedCards:
    """Store the cards and return their tokens in the same order; `engine` returns the one of now.

    Raises:
        HsmRefused: `malformed`, more than MAX_CARDS.
        VaultError: the database is away; send the batch again.
    """
    if len(request.cards) > MAX_CARDS or len(request.domain) > 100:
        raise HsmRefused("malformed", f"a batch has at most {MAX_CARDS} cards, a domain 100 characters")
    keys: set[str] = set()
    for _ in range(_ATTEMPTS):
        known = [await _known(card, number, engine, keys) for number, card in enumerate(request.cards)]
        data_keys_used.set(" ".join(sorted(keys)))  # of all cards, for the audit; each `identify` sets its own
        # All at once: they make up one statement.
        cards = await asyncio.gather(*(_card(item, vault) for item in known))
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


async def _known(
    card: CardNumber, number: int, engine: Callable[[], Engine], keys: set[str]
) -> Card | NewCard | ImportedCard:
    """Identify a card and add the keys that took to `keys`."""
    if number % _AT_ONCE == 0:
        await asyncio.sleep(0)
    try:
        check_expiry(card.expiry)
        found = engine().identify(card.pan, card.expiry)
    except HsmRefused as refused:
        return ImportedCard(refused=refused.code)
    keys.update(data_keys_used.get().split())
    return found


async def _card(item: Card | NewCard | ImportedCard, vault: Vault) -> Card | ImportedCard:
    if not isinstance(item, NewCard):
        return item
    card = await vault.find(item)
    assert card is not None, "the vault stores a new card or fails"
    return card


async def _tokens(wanted: set[tuple[str, str]], domain: str, vault: Vault) -> dict[tuple[str, str], str]:
    """Return the `pm_…` of each card and expiry in a domain, made where there is none."""

    async def made(connection: Any) -> dict[tuple[str, str], str]:
        async with connection.transaction():
            await connection.execute(_LOCK)
            rows = await connection.fetch(_KNOWN, sorted({card for card, _ in wanted}), domain)
            tokens = {(row["card"], f"{row['exp_year'] % 100:02d}{row['exp_month']:02d}"): row["id"] for row in rows}
            fresh = {pair: vault.numbers.identifier("pm_") for pair in sorted(wanted - tokens.keys())}
            if fresh:
                months = [int(expiry[2:]) for _, expiry in fresh]
                years = [2000 + int(expiry[:2]) for _, expiry in fresh]
                await connection.execute(
                    _MAKE, list(fresh.values()), [card for card, _ in fresh], months, years, domain
                )
            return tokens | fresh

    return await vault.database.run(made)


def _imported(card: Card, token: str) -> ImportedCard:
    return ImportedCard(token, card.fingerprint, card.bin, card.last4)
