"""The journal entries of one payment, for people: `cardswitch demo` and the console show them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from ledger.journal import Kind, Layer


class Entry(msgspec.Struct, frozen=True):
    """One journal line; one of `debit_minor` and `credit_minor` is 0."""

    intent_id: int
    kind: Kind
    decided_at: datetime
    layer: Layer
    account: str
    currency: str
    debit_minor: int
    credit_minor: int


_SQL = """
SELECT p.intent_id, i.kind, o.decided_at, p.layer, a.name, p.currency, p.amount_minor
  FROM ledger.postings p
  JOIN ledger.accounts a ON a.id = p.account_id
  JOIN ledger.outcomes o ON o.intent_id = p.intent_id
  JOIN ledger.intents i ON i.id = p.intent_id
 WHERE p.intent_id IN (SELECT m.id FROM ledger.intents m WHERE {})
 ORDER BY o.seq, p.line
"""
_OF_KEY = _SQL.format("m.key = $1")
_OF_TRACE = _SQL.format("m.trace_id = $1")
_OF_PAYMENT = """
SELECT p.intent_id, i.kind, o.decided_at, p.layer, a.name, p.currency, p.amount_minor
  FROM ledger.outcomes o
  JOIN ledger.postings p ON p.intent_id = o.intent_id
  JOIN ledger.accounts a ON a.id = p.account_id
  JOIN ledger.intents i ON i.id = o.intent_id
 WHERE o.intent_id = $1 OR (o.original_id = $1 AND o.original_seq IS NOT NULL)
 ORDER BY o.seq, p.line
"""


async def entries_of_key(connection: Any, key: str) -> list[Entry]:
    """The lines of the message with this acquirer's key; asyncpg, role cardswitch_auditor."""
    return [_entry(row) for row in await connection.fetch(_OF_KEY, key)]


async def entries_of_trace(connection: Any, trace_id: str) -> list[Entry]:
    """The lines of all messages under one trace id, in the order in which they were decided."""
    return [_entry(row) for row in await connection.fetch(_OF_TRACE, trace_id)]


async def entries_of_payment(connection: Any, intent_id: int) -> list[Entry]:
    """The lines of a payment and of all its changes, in the order in which they were decided."""
    return [_entry(row) for row in await connection.fetch(_OF_PAYMENT, intent_id)]


def _entry(row: Any) -> Entry:
    amount = row["amount_minor"]
    return Entry(
        intent_id=row["intent_id"],
        kind=Kind(row["kind"]),
        decided_at=row["decided_at"],
        layer=Layer(row["layer"]),
        account=row["name"],
        currency=row["currency"],
        debit_minor=max(amount, 0),
        credit_minor=max(-amount, 0),
    )
