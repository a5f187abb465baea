"""Events: written in the transaction that changes an object, together with one delivery for each listening endpoint.

`gateway.outcomes`, `gateway.payments`, `gateway.refunds` and `gateway.disputes` emit; `gateway.delivery` sends.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gateway.ids import new_id
from gateway.objects import Object

TYPES = frozenset(
    {
        "payment_intent.created",
        "payment_intent.processing",
        "payment_intent.amount_capturable_updated",
        "payment_intent.succeeded",
        "payment_intent.payment_failed",
        "payment_intent.canceled",
        "charge.succeeded",
        "charge.failed",
        "charge.captured",
        "charge.refunded",
        "charge.dispute.created",
        "refund.created",
        "refund.updated",
        "refund.failed",
    }
)


async def emit(
    connection: Any,
    account_id: str,
    event_type: str,
    subject: Object,
    trace_id: str,
    idempotency_key: str = "",
) -> None:
    """Store an event with its deliveries; no receiver gets it before the caller's transaction has committed.

    Args:
        subject: the object as it is now, as the API would show it.
        trace_id: of the request that caused it. idempotency_key: of that request, where the event is its direct effect.
    """
    assert event_type in TYPES, event_type
    event_id = new_id("evt")
    shown = {name: value for name, value in subject.items() if name != "client_secret"}
    await connection.execute(
        """INSERT INTO gateway.events (id, account_id, created_at, type, object, request_id, idempotency_key)
           VALUES ($1, $2, $3, $4, $5, $6, $7)""",
        *(event_id, account_id, datetime.now(UTC), event_type, shown, f"req_{trace_id}", idempotency_key or None),
    )
    await connection.execute(
        """INSERT INTO gateway.deliveries (event_id, endpoint_id, next_at)
           SELECT $1, id, now() FROM gateway.webhook_endpoints
           WHERE account_id = $2 AND deleted_at IS NULL AND (enabled_events && ARRAY['*', $3::text])""",
        *(event_id, account_id, event_type),
    )
