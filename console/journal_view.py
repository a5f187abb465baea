"""Reads what the journal holds about payments, with the auditor's role: entries in order, with their lines and advices.

Called by the demo, which shows each step's entries. Nothing that is stored is card data, so nothing is masked here.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec

from messages.exchange import de7
from messages.message import Message
from messages.money import numeric_currency


class Line(msgspec.Struct, frozen=True):
    """One journal line: `amount_minor` > 0 debits, < 0 credits."""

    layer: str
    account: str
    amount_minor: int
    currency: str


class StoredAdvice(msgspec.Struct, frozen=True):
    """A stored advice: its message, and the answer's DE 39, "" while none has come."""

    link: str
    message: Message
    response_code: str
    waited_s: float


class Entry(msgspec.Struct, frozen=True):
    """One intent with its outcome ("" while undecided), its lines and its advices."""

    intent_id: int
    kind: str
    link: str
    issuer: str
    key: str
    decision: str
    response_code: str
    reason: str
    request: Message
    answer: Message
    network_key: str
    lines: tuple[Line, ...]
    advices: tuple[StoredAdvice, ...]


def last_intent(dsn: str) -> int:
    """The number of the newest intent, 0 where there is none."""
    row = asyncio.run(_fetch(dsn, "SELECT coalesce(max(id), 0) AS last FROM ledger.intents"))
    return int(row[0]["last"])


def entries_since(dsn: str, intent_id: int) -> list[Entry]:
    """Everything recorded after `intent_id`, oldest first.

    Args:
        dsn: of the auditor's role.
    """
    return asyncio.run(_entries(dsn, intent_id))


async def _entries(dsn: str, after: int) -> list[Entry]:
    intents = await _fetch(dsn, _INTENTS, after)
    lines = await _fetch(dsn, _LINES, after)
    advices = await _fetch(dsn, _ADVICES, after)
    return [
        _entry(
            row,
            tuple(
                Line(line["layer"], line["account"], line["amount_minor"], line["currency"])
                for line in lines
                if line["intent_id"] == row["id"]
            ),
            tuple(_advice(advice) for advice in advices if advice["intent_id"] == row["id"]),
        )
        for row in intents
    ]


_INTENTS = """
SELECT i.*, o.decision, o.response_code, o.reason, o.auth_code, o.answer
  FROM ledger.intents i LEFT JOIN ledger.outcomes o ON o.intent_id = i.id
 WHERE i.id > $1 ORDER BY i.id LIMIT 1000
"""
_LINES = """
SELECT p.intent_id, p.layer, a.name AS account, p.amount_minor, p.currency
  FROM ledger.postings p JOIN ledger.accounts a ON a.id = p.account_id
 WHERE p.intent_id > $1 ORDER BY p.intent_id, p.line LIMIT 10000
"""
_ADVICES = """
SELECT a.intent_id, a.link, a.mti, a.elements, coalesce(k.response_code, '') AS response_code,
       extract(epoch FROM k.acknowledged_at - o.decided_at)::float8 AS waited_s
  FROM ledger.advices a JOIN ledger.outcomes o ON o.intent_id = a.intent_id
  LEFT JOIN ledger.acknowledgements k ON k.advice_id = a.id
 WHERE a.intent_id > $1 ORDER BY a.id LIMIT 1000
"""


async def _fetch(dsn: str, query: str, *arguments: object) -> list[Any]:
    import asyncpg

    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()


def _entry(row: Any, lines: tuple[Line, ...], advices: tuple[StoredAdvice, ...]) -> Entry:
    from ledger.journal import network_stan
    from messages.exchange import network_key
    from switch.stages.answer import answer_message

    request = _request(row)
    told = {int(number): value for number, value in msgspec.json.decode(row["answer"] or "{}").items()}
    told.update({39: row["response_code"] or "", 38: row["auth_code"] or ""})
    return Entry(
        intent_id=row["id"],
        kind=row["kind"],
        link=row["link"],
        issuer=row["issuer"],
        key=row["key"],
        decision=row["decision"] or "",
        response_code=row["response_code"] or "",
        reason=row["reason"] or "",
        request=request,
        answer=answer_message(request, {number: value for number, value in told.items() if value}, None, ""),
        network_key=network_key(row["issuer"], row["mti"], de7(row["created_at"]), network_stan(row["id"])),
        lines=lines,
        advices=advices,
    )


def _request(row: Any) -> Message:
    """The request as the journal knows it: without card data, with the masked PAN in the place of DE 2."""
    at: datetime = row["transmitted_at"]
    elements = {
        2: row["masked_pan"],
        3: row["processing_code"],
        4: f"{row['amount_minor']:012d}",
        7: de7(at.astimezone(UTC)),
        11: row["stan"],
        18: row["mcc"],
        32: row["acquirer_id"],
        37: row["rrn"],
        41: row["terminal"],
        42: row["merchant"],
        49: numeric_currency(row["currency"]) if row["currency"] else "",
    }
    return Message(row["mti"], {number: value for number, value in elements.items() if value})


def _advice(row: Any) -> StoredAdvice:
    elements = {int(number): value for number, value in msgspec.json.decode(row["elements"]).items()}
    return StoredAdvice(row["link"], Message(row["mti"], elements), row["response_code"], row["waited_s"] or 0.0)
