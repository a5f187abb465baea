"""Chargebacks: a 0422 from the switch in, DE 39 of its answer out, a dispute and its event stored before that.

`gateway.acquirer_link` calls the handler for everything that the switch starts but echoes. A repeat (0423) finds the
dispute there already and is answered alike.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import structlog

from gateway import objects
from gateway.acquirer_link import Handler
from gateway.attempts import Attempt, Sender, attempt
from gateway.events import emit
from gateway.ids import new_id
from gateway.metrics import Metrics
from messages.errors import MessagesError
from messages.exchange import acquirer_key, original_time, parse_original_data, transmission_time
from messages.message import Message
from messages.money import alpha_currency
from messages.mti import canonical_mti

ACCEPTED, UNKNOWN_TYPE, BAD_AMOUNT, NOT_FOUND, BAD_FORMAT = "00", "12", "13", "25", "30"

log = structlog.get_logger("gateway.disputes")


def chargeback_handler(pool: Any, sender: Sender, metrics: Metrics) -> Handler:
    """The handler for `AcquirerLink`. It raises where the database is away: then the switch sends again."""

    async def handle(message: Message) -> str | None:
        if canonical_mti(message.mti) != "0422":
            log.warning("message of a type that is not served", mti=message.mti)
            return UNKNOWN_TYPE
        with structlog.contextvars.bound_contextvars(trace_id=message.elements.get(63, "")):
            try:
                async with pool.acquire() as connection:
                    response_code = await _record(connection, sender, message)
            except (MessagesError, ValueError) as error:
                log.warning("chargeback that cannot be read", error=str(error))
                response_code = BAD_FORMAT
            metrics.disputes.labels(response_code).inc()
            log.info("chargeback", response_code=response_code)
        return response_code

    return handle


async def _record(connection: Any, sender: Sender, message: Message) -> str:
    elements, now = message.elements, datetime.now(UTC)
    sent_at = transmission_time(elements.get(7, ""), now)
    key = acquirer_key(
        *(sender.link, message.mti, sent_at, elements.get(11, "")),
        *(elements.get(32, ""), elements.get(41, "")),
    )
    amount_minor, currency = int(elements.get(4, "")), alpha_currency(elements.get(49, ""))
    original = await _original(connection, elements, now)
    if original is None:
        return NOT_FOUND
    if not 0 < amount_minor <= original.amount_minor or currency != original.currency:
        return BAD_AMOUNT
    async with connection.transaction():
        await connection.execute(
            "SELECT 1 FROM gateway.payment_intents WHERE id = $1 FOR UPDATE", original.payment_intent
        )
        dispute = await connection.fetchrow(
            """INSERT INTO gateway.disputes (id, account_id, payment_intent, charge, attempt_id, advice_key, created_at,
                   status, reason, amount_minor, currency)
               VALUES ($1, $2, $3, $4, $5, $6, $7, 'needs_response', 'general', $8, $9)
               ON CONFLICT (advice_key) DO NOTHING RETURNING *""",
            *(new_id("dp"), original.account_id, original.payment_intent, original.charge, original.id, key, now),
            *(amount_minor, currency),
        )
        if dispute is None:
            return ACCEPTED
        await connection.execute("UPDATE gateway.charges SET disputed = true WHERE id = $1", original.charge)
        shown = objects.dispute(dispute)
        await emit(connection, original.account_id, "charge.dispute.created", shown, original.trace_id)
    return ACCEPTED


async def _original(connection: Any, elements: dict[int, str], now: datetime) -> Attempt | None:
    """The authorization or purchase that DE 90 names."""
    named = parse_original_data(elements.get(90, ""))
    row = await connection.fetchrow(
        """SELECT * FROM gateway.attempts WHERE stan = $1 AND transmitted_at = $2 AND mti = $3
               AND kind IN ('authorization', 'purchase') AND state = 'approved'""",
        *(named.stan, original_time(named.transmitted, now), canonical_mti(named.mti)),
    )
    return attempt(row) if row else None
