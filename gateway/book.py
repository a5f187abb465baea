"""The gateway's own book as an acquirer, for the comparison with the ledger's and the issuers'.

`cardswitch prove` calls `book`. It reads the switch's answers to the gateway, and no table of the switch.
"""

from __future__ import annotations

import asyncpg
import msgspec


class GatewayLine(msgspec.Struct, frozen=True, kw_only=True):
    """The standing of one authorization, purchase or refund; captures, reversals and chargebacks are folded into it.

    Args:
        link: the gateway's link at the switch.
        key: `messages.exchange.acquirer_key` of the message.
        currency: ISO 4217 alphabetic.
        held_minor: amount on hold, >= 0.
        posted_minor: captured less charged back; < 0 for a refund.
        settled: False while a message about it is without an answer.
    """

    link: str
    key: str
    currency: str
    held_minor: int
    posted_minor: int
    settled: bool


_QUERY = """
SELECT a.key, a.kind, a.state, a.currency, a.amount_minor,
    coalesce(f.captured, 0)::bigint AS captured, coalesce(f.closed, false) AS closed,
    coalesce(f.pending, false) AS pending, coalesce(d.disputed, 0)::bigint AS disputed
FROM gateway.attempts a
LEFT JOIN (
    SELECT original_id,
        sum(amount_minor) FILTER (WHERE kind = 'capture' AND state = 'approved') AS captured,
        bool_or(state = 'approved' AND (kind = 'reversal' OR kind = 'capture' AND final)) AS closed,
        bool_or(state = 'pending') AS pending
    FROM gateway.attempts WHERE kind IN ('capture', 'reversal') GROUP BY original_id) f ON f.original_id = a.id
LEFT JOIN (
    SELECT attempt_id, sum(amount_minor) AS disputed FROM gateway.disputes GROUP BY attempt_id) d ON d.attempt_id = a.id
WHERE a.kind IN ('authorization', 'purchase', 'refund') ORDER BY a.id
"""


async def book(dsn: str) -> list[GatewayLine]:
    """One line for each 0100 and 0200 that the gateway has stored.

    Args:
        dsn: of the gateway's role.
    """
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        rows = await connection.fetch(_QUERY)
    finally:
        await connection.close()
    return [_line(row) for row in rows]


def _line(row: asyncpg.Record) -> GatewayLine:
    held = posted = 0
    if row["state"] == "approved":
        if row["kind"] == "authorization":
            held = 0 if row["closed"] else row["amount_minor"] - row["captured"]
            posted = row["captured"] - row["disputed"]
        elif row["kind"] == "purchase":
            posted = row["amount_minor"] - row["disputed"]
        else:
            posted = -row["amount_minor"]
    return GatewayLine(
        link=row["key"].partition("|")[0],
        key=row["key"],
        currency=row["currency"],
        held_minor=held,
        posted_minor=posted,
        settled=row["state"] != "pending" and not row["pending"],
    )
