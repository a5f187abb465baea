"""Erasing a card, with a proof: the record has the card, the time, the reason and the requester, in a chain that the
token seals.

A card's names go in; the record comes out, and the cache forgets the card. Called by `hsm.vault.desk`. The rest of a
card is its record: the two names that the ledger and the gateway know it by, counts, and digests of its tokens' ids; no
digit of its number and no fingerprint.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec

from hsm.commands import HsmRefused
from hsm.vault.cards import SURROGATE_BIN, CardCache, Numbers
from hsm.vault.database import Database
from hsm.vault_commands import DeleteCard, DeletionProof, ProveDeletion
from messages.card_numbers import masked_strictly

REASONS = {
    "data_subject_request": "the cardholder asked for it (GDPR, article 17)",
    "retention_expired": "the period that the card was kept for is over",
    "merchant_request": "the merchant that brought the card asked for it",
    "account_closed": "the card's account was closed",
    "import_error": "the card should not have been stored",
}
FIRST_PREVIOUS = bytes(32)

_SEAL_PURPOSE = b"cardswitch vault deletion 1\0"
_PAGE = 1000
_BY = re.compile(r"[\x20-\x7e]{1,100}")

_CARD_OF = {
    "card": "SELECT $1::text",
    "surrogate": "SELECT token FROM vault.cards WHERE surrogate = $1",
    "token": "SELECT card FROM vault.tokens WHERE id = $1",
}
_COLUMNS = "number, card, surrogate, erased, record, previous, digest, seal"
_DELETION = f"SELECT {_COLUMNS} FROM vault.deletions WHERE card = $1 OR surrogate = $1 OR erased @> ARRAY[$2::bytea]"
_CHAIN = f"SELECT {_COLUMNS} FROM vault.deletions WHERE number > $1 ORDER BY number LIMIT {_PAGE}"
_BEGIN = "SELECT card, surrogate, tokens, network_tokens, number, previous FROM vault.begin_erasure($1)"


class DeletionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The chain's entry for an erased card, as JSON in this order.

    Args:
        number: 1 for the first of the chain, without gaps.
        card: its `card_…`, which the ledger keeps.
        surrogate: which the gateway knows; it is never given to another card.
        tokens, network_tokens: number of tokens erased with it.
        ids: SHA-256, in hex, over the sorted SHA-256 digests of the ids of both.
        deleted_at: UTC, ISO 8601, milliseconds.
        reason: one of REASONS.
        by: as the caller named himself.
    """

    number: int
    card: str
    surrogate: str
    tokens: int
    network_tokens: int
    ids: str
    deleted_at: str
    reason: str
    by: str


class Deletions:
    """Erases and proves.

    Args:
        database: connections of the role cardswitch_vault.
        cards: forgets what was erased.
        numbers: knows the time.
        seal: HMAC-SHA-256 by the token.
    """

    def __init__(self, database: Database, cards: CardCache, numbers: Numbers, seal: Callable[[bytes], bytes]) -> None:
        self._database = database
        self._cards = cards
        self._numbers = numbers
        self._seal = seal

    async def delete(self, request: DeleteCard) -> DeletionProof:
        """Erase the card in one transaction; a card that was erased before gives its proof.

        Raises:
            HsmRefused: `malformed`, `card_unknown`.
            VaultError: the database is away; ask again.
        """
        if request.reason not in REASONS:
            raise HsmRefused("malformed", f"reason is {', '.join(REASONS)}")
        if not _BY.fullmatch(request.by) or masked_strictly(request.by) != request.by:
            raise HsmRefused("malformed", "by is 1 to 100 printable ASCII characters, and no card number")

        card: str | None = None

        async def erased(connection: Any) -> DeletionProof:
            nonlocal card
            card = await connection.fetchval(_CARD_OF[_kind(request.id)], request.id)
            async with connection.transaction():
                found = await connection.fetchrow(_BEGIN, card)
                if found is None:  # unknown, or another's erasure has just ended
                    known = await connection.fetchrow(_DELETION, card or request.id, _digest_of(request.id))
                    if known is None:
                        raise HsmRefused("card_unknown", "no such card")
                    return _proof(known)
                ids = sorted(_digest_of(name) for name in (*found["tokens"], *found["network_tokens"]))
                record = DeletionRecord(
                    number=found["number"],
                    card=found["card"],
                    surrogate=found["surrogate"],
                    tokens=len(found["tokens"]),
                    network_tokens=len(found["network_tokens"]),
                    ids=sha256(b"".join(ids)).hexdigest(),
                    deleted_at=_iso(self._numbers.now_ms()),
                    reason=request.reason,
                    by=request.by,
                )
                text = msgspec.json.encode(record).decode()
                digest = chained(found["previous"], text)
                seal = self._seal(_SEAL_PURPOSE + digest)
                await connection.execute("SELECT vault.erase_card($1, $2, $3)", text, ids, seal)
            self._cards.forget(record.card)
            return DeletionProof(record=text, previous=found["previous"].hex(), digest=digest.hex(), seal=seal.hex())

        try:
            return await self._database.run(erased)
        finally:
            if card:  # where the connection broke, it may be erased or not
                self._cards.drop(card)

    async def prove(self, request: ProveDeletion) -> DeletionProof:
        """Return the record of a card with what is wrong with the whole chain.

        Raises:
            HsmRefused: `card_unknown`, no record is of that name.
            VaultError: the database is away.
        """
        found = await self._database.run(
            lambda connection: connection.fetchrow(_DELETION, request.id, _digest_of(request.id))
        )
        if found is None:
            raise HsmRefused("card_unknown", "no deletion of such a card is recorded")
        problems: list[str] = []
        chained_, previous, last = 0, FIRST_PREVIOUS, None
        while True:
            page = await self._page(chained_)
            for row in page:
                problems += broken(row, chained_ + 1, previous)
                chained_, previous, last = row["number"], row["digest"], row
            if len(page) < _PAGE:
                break
            await asyncio.sleep(0)  # payments first
        # The digest of the last record covers all before it.
        for row in {row["number"]: row for row in (found, last) if row is not None}.values():
            if not hmac.compare_digest(self._seal(_SEAL_PURPOSE + row["digest"]), row["seal"]):
                problems.append(f"record {row['number']}: the seal is not the token's")
        return msgspec.structs.replace(_proof(found), chained=chained_, problems=tuple(problems[:20]))

    async def _page(self, after: int) -> list[Any]:
        rows: list[Any] = await self._database.run(lambda connection: connection.fetch(_CHAIN, after))
        return rows


def chained(previous: bytes, record: str) -> bytes:
    """Return the digest of a record after the one whose digest is `previous`."""
    return sha256(previous + record.encode()).digest()


def broken(row: Any, number: int, previous: bytes) -> Sequence[str]:
    """Return what is wrong with a row that should be `number` of the chain after `previous`; its seal aside."""
    found = []
    if row["number"] != number:
        found.append(f"record {number} is missing")
    if row["previous"] != previous:
        found.append(f"record {row['number']} does not follow the one before")
    if row["digest"] != chained(row["previous"], row["record"]):
        found.append(f"record {row['number']} was changed")
    try:
        record = msgspec.json.decode(row["record"], type=DeletionRecord)
    except msgspec.MsgspecError:
        return [*found, f"record {row['number']} cannot be read"]
    ids = sha256(b"".join(sorted(row["erased"]))).hexdigest()
    beside = (record.number, record.card, record.surrogate, record.ids)
    if beside != (row["number"], row["card"], row["surrogate"], ids):
        found.append(f"record {row['number']} differs from the columns beside it")
    return found


def _kind(name: str) -> str:
    if name.startswith("card_"):
        return "card"
    return "surrogate" if name.startswith(SURROGATE_BIN) else "token"


def _digest_of(name: str) -> bytes:
    return sha256(name.encode()).digest()


def _iso(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _proof(row: Any) -> DeletionProof:
    return DeletionProof(
        record=row["record"], previous=row["previous"].hex(), digest=row["digest"].hex(), seal=row["seal"].hex()
    )
