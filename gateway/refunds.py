"""Refunds: part or all of a captured charge goes back by a 0200 with processing code 20 that names its original.

Called by `gateway.app`; `gateway.outcomes` has the effects of the answer.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway import attempts, objects
from gateway.amounts import from_minor, to_minor
from gateway.attempts import Draft, Kind
from gateway.errors import invalid, missing
from gateway.events import emit
from gateway.ids import new_id
from gateway.operations import Begin, Begun, Context, Continuation
from gateway.shapes import RefundCreate


async def create(context: Context, ids: dict[str, str], params: RefundCreate) -> Begin:
    """POST /v1/refunds"""
    if (params.payment_intent is None) == (params.charge is None):
        raise invalid("Send either payment_intent or charge", "payment_intent", "parameter_missing")
    context.require_network()

    async def begin(connection: Any) -> Begun:
        charge = await _locked_charge(connection, context, params)
        open_minor = await _refundable(connection, charge)
        currency = charge["currency"]
        amount = to_minor(params.amount, currency) if params.amount is not None else open_minor
        if amount > open_minor:
            raise invalid(
                f"The refund is more than the {from_minor(open_minor, currency)} that have not been refunded",
                *("amount", "amount_too_large"),
            )
        refund = await connection.fetchrow(
            """INSERT INTO gateway.refunds (id, account_id, payment_intent, charge, created_at, status, amount_minor,
                   currency, reason, metadata)
               VALUES ($1, $2, $3, $4, $5, 'pending', $6, $7, $8, $9) RETURNING *""",
            *(new_id("re"), context.account.id, charge["payment_intent"], charge["id"], datetime.now(UTC), amount),
            *(currency, params.reason, {} if params.metadata is msgspec.UNSET else params.metadata),
        )
        shown = objects.refund(refund)
        await emit(connection, context.account.id, "refund.created", shown, context.trace_id, context.idempotency_key)
        original = await attempts.first_of(connection, charge["id"])
        draft = Draft(
            kind=Kind.REFUND,
            mti="0200",
            amount_minor=amount,
            currency=currency,
            surrogate=original.surrogate,
            payment_intent=charge["payment_intent"],
            charge=charge["id"],
            refund=refund["id"],
            trace_id=context.trace_id,
            original=original,
        )
        attempt = await attempts.store(connection, context.services.sender, context.account, draft)
        return Begun(Continuation("refund", refund["id"], attempt.id, tuple(params.expand)), attempt)

    return begin


async def _locked_charge(connection: Any, context: Context, params: RefundCreate) -> objects.Row:
    """The charge, with its payment intent locked: first the intent, then what belongs to it, as everywhere."""
    if params.payment_intent is not None:
        intent_id, what, param = params.payment_intent, "payment_intent", "payment_intent"
    else:
        intent_id = await connection.fetchval(
            "SELECT payment_intent FROM gateway.charges WHERE id = $1 AND account_id = $2",
            *(params.charge, context.account.id),
        )
        what, param = "charge", "charge"
    intent = await connection.fetchrow(
        "SELECT * FROM gateway.payment_intents WHERE id = $1 AND account_id = $2 FOR UPDATE",
        *(intent_id, context.account.id),
    )
    if intent is None:
        raise missing(what, param)
    charge: objects.Row | None = await connection.fetchrow(
        "SELECT * FROM gateway.charges WHERE id = $1 FOR UPDATE", params.charge or intent["latest_charge"]
    )
    if charge is None or not charge["amount_captured_minor"]:
        raise invalid(
            "This payment has not been captured, so there is nothing to refund; an authorized one can be canceled.",
            *(param, "charge_not_refundable"),
        )
    return charge


async def _refundable(connection: Any, charge: objects.Row) -> int:
    """The rest of the captured amount, refunds under way counted as done. Raises ApiError where it is nothing."""
    taken = await connection.fetchval(
        """SELECT coalesce(sum(amount_minor), 0)::bigint FROM gateway.refunds
           WHERE charge = $1 AND status <> 'failed'""",
        charge["id"],
    )
    if charge["disputed"]:
        raise invalid("This charge has been charged back.", "charge", "charge_disputed")
    left: int = charge["amount_captured_minor"] - taken
    if left <= 0:
        raise invalid("This charge has already been refunded.", "charge", "charge_already_refunded")
    return left
