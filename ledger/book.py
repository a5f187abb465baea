"""The ledger's book for the three-way comparison: one line an authorization, purchase or refund.

`cardswitch prove` holds it against the books of issuers and acquirers (`simulators.book.BookLine`). Held and posted
amounts come from the journal lines, not from the messages: compared entries are the booked ones.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from ledger.journal import STAND_IN, Decision, Kind, network_stan
from messages.exchange import de7, network_key

# Kinds with a line of their own; every other approved change counts on the line of its original.
BOOK_KINDS = (Kind.AUTHORIZATION, Kind.PURCHASE, Kind.REFUND)


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True):
    """The standing of one payment.

    Args:
        key: the acquirer's key; link: the acquirer link.
        issuer: issuer link, "" if it was never routed; network_key: `messages.exchange.network_key` towards it.
        held_minor: on hold now. posted_minor: captures - chargebacks; refunds < 0.
        decided: False while there is no outcome.
        decision: approved, declined or reversed; "" while undecided.
    """

    key: str
    link: str
    kind: Kind
    issuer: str
    network_key: str
    currency: str
    held_minor: int
    posted_minor: int
    decided: bool
    decision: str


def issuer_mti(mti: str, decision: str, reason: str) -> str:
    """The type under which an issuer knows a payment: that of the advice where we have approved in its place."""
    stood_in = decision == Decision.APPROVED and reason == STAND_IN
    return f"{mti[:2]}2{mti[3]}" if stood_in else mti


_SQL = """
WITH sums AS (
    SELECT CASE WHEN i.kind IN ('authorization', 'purchase', 'refund') THEN i.id ELSE o.original_id END AS id,
           sum(p.amount_minor) FILTER (WHERE p.layer = 'pending') AS held,
           sum(p.amount_minor) FILTER (WHERE p.layer = 'posted') AS posted
      FROM ledger.postings p
      JOIN ledger.accounts a ON a.id = p.account_id
      JOIN ledger.outcomes o ON o.intent_id = p.intent_id
      JOIN ledger.intents i ON i.id = p.intent_id
     WHERE a.name LIKE 'issuer:%:receivable'
     GROUP BY 1
)
SELECT i.id, i.key, i.link, i.kind, i.mti, i.issuer, i.created_at, i.currency, o.decision,
       o.reason, COALESCE(s.held, 0)::bigint AS held, COALESCE(s.posted, 0)::bigint AS posted
  FROM ledger.intents i
  LEFT JOIN ledger.outcomes o ON o.intent_id = i.id
  LEFT JOIN sums s ON s.id = i.id
 WHERE i.kind IN ('authorization', 'purchase', 'refund')
 ORDER BY i.id
"""


async def book(connection: Any) -> list[LedgerLine]:
    """All lines, oldest first; `connection` is an asyncpg connection of the auditor's role."""
    return [
        ledger_line(
            row["id"],
            key=row["key"],
            link=row["link"],
            kind=Kind(row["kind"]),
            mti=row["mti"],
            issuer=row["issuer"],
            created_at=row["created_at"],
            currency=row["currency"],
            held_minor=row["held"],
            posted_minor=row["posted"],
            decision=row["decision"] or "",
            reason=row["reason"] or "",
        )
        for row in await connection.fetch(_SQL)
    ]


def ledger_line(
    intent_id: int,
    *,
    key: str,
    link: str,
    kind: Kind,
    mti: str,
    issuer: str,
    created_at: datetime,
    currency: str,
    held_minor: int,
    posted_minor: int,
    decision: str,
    reason: str,
) -> LedgerLine:
    """A line with its key towards the issuer: DE 7 is `created_at`, DE 11 `network_stan(intent_id)`; the type is that
    of the message which the issuer has in its book."""
    mti = issuer_mti(mti, decision, reason)
    return LedgerLine(
        key=key,
        link=link,
        kind=kind,
        issuer=issuer,
        network_key=network_key(issuer, mti, de7(created_at), network_stan(intent_id)) if issuer else "",
        currency=currency,
        held_minor=held_minor,
        posted_minor=posted_minor,
        decided=bool(decision),
        decision=decision,
    )
