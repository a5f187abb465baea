"""Payment intents: create, update, confirm, capture, cancel; each returns the `Begin` of its transaction.

Called by `gateway.app` with checked parameters. `gateway.outcomes` has the effects of the network's answer.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import msgspec

from gateway import attempts, objects
from gateway.amounts import chargeable_currency, charged, from_minor, require_in_use, to_minor
from gateway.attempts import Attempt, Draft, Kind
from gateway.errors import ApiError, invalid, missing, unexpected_state
from gateway.events import emit
from gateway.ids import new_id, random_chars
from gateway.methods import Method, find, keep, stored
from gateway.operations import Begin, Begun, Context, Continuation
from gateway.shapes import IntentCancel, IntentCapture, IntentConfirm, IntentCreate, IntentUpdate

# The statuses of an intent in which each call may be made.
ALLOWED = {
    "updated": frozenset({"requires_payment_method", "requires_confirmation"}),
    "confirmed": frozenset({"requires_payment_method", "requires_confirmation"}),
    "captured": frozenset({"requires_capture"}),
    "canceled": frozenset({"requires_payment_method", "requires_confirmation", "requires_capture"}),
}
_DETAILS = (
    "description",
    "receipt_email",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "payment_method_types",
    "automatic_payment_methods",
    "confirmation_method",
)
_UNLOCKED = frozenset({"metadata", "description", "receipt_email"})  # may change at any time


async def create(context: Context, ids: dict[str, str], params: IntentCreate) -> Begin:
    """POST /v1/payment_intents"""
    currency = chargeable_currency(params.currency, _today())
    amount_minor = charged(params.amount, currency)
    if params.confirm:
        context.require_network()
        if params.payment_method is None and params.payment_method_data is None:
            raise _no_method()
    method = await find(context, params.payment_method, params.payment_method_data)
    details = _details(params)
    if "payment_method_types" not in details:
        details.setdefault("automatic_payment_methods", {"allow_redirects": "always", "enabled": True})

    async def begin(connection: Any) -> Begun:
        if method is not None:
            await keep(connection, context.account.id, method)
        intent_id = new_id("pi")
        intent = await connection.fetchrow(
            """INSERT INTO gateway.payment_intents (id, account_id, created_at, status, amount_minor, currency,
                   capture_method, payment_method, client_secret, metadata, details)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING *""",
            *(intent_id, context.account.id, datetime.now(UTC)),
            "requires_payment_method" if method is None else "requires_confirmation",
            *(amount_minor, currency, _given(params.capture_method, "automatic"), method.id if method else None),
            *(f"{intent_id}_secret_{random_chars(25)}", _given(params.metadata, {}), details),
        )
        await _emit(connection, context, "payment_intent.created", intent)
        attempt = await _pay(connection, context, intent, method) if params.confirm and method else None
        return _begun(intent_id, params.expand, attempt)

    return begin


async def update(context: Context, ids: dict[str, str], params: IntentUpdate) -> Begin:
    """POST /v1/payment_intents/{id}"""
    currency = chargeable_currency(params.currency, _today()) if params.currency is not None else None
    method = await find(context, params.payment_method, params.payment_method_data)

    async def begin(connection: Any) -> Begun:
        intent = await _locked(connection, context, ids["id"])
        named = {name for name in params.__struct_fields__ if getattr(params, name) not in (None, msgspec.UNSET, [])}
        named = {name for name in named if getattr(params, name) is not False} - {"expand"}
        if named - _UNLOCKED:
            _check(intent, "updated")
        used, amount_minor = currency or intent["currency"], intent["amount_minor"]
        if params.amount is not None or currency is not None:
            # A currency alone leaves the number that the API shows, not what it is in minor units.
            given = params.amount if params.amount is not None else from_minor(amount_minor, intent["currency"])
            require_in_use(used, _today())
            amount_minor = charged(given, used)
        if method is not None:
            await keep(connection, context.account.id, method)
        await connection.execute(
            """UPDATE gateway.payment_intents SET amount_minor = $2, currency = $3,
                   capture_method = coalesce($4, capture_method),
                   payment_method = coalesce($5, payment_method),
                   status = CASE WHEN $5::text IS NULL THEN status ELSE 'requires_confirmation' END,
                   metadata = $6, details = details || $7::jsonb WHERE id = $1""",
            *(intent["id"], amount_minor, used, _given(params.capture_method, None)),
            *(method.id if method else None, _merged(intent["metadata"], params.metadata), _details(params)),
        )
        return _begun(intent["id"], params.expand, None)

    return begin


async def confirm(context: Context, ids: dict[str, str], params: IntentConfirm) -> Begin:
    """POST /v1/payment_intents/{id}/confirm"""
    context.require_network()
    method = await find(context, params.payment_method, params.payment_method_data)

    async def begin(connection: Any) -> Begun:
        intent = await _locked(connection, context, ids["id"])
        _check(intent, "confirmed")
        require_in_use(intent["currency"], _today())
        used = method
        if used is None and intent["payment_method"] is not None:
            used = await stored(connection, context.account.id, intent["payment_method"])
        if used is None:
            raise _no_method(objects.payment_intent(intent))
        await keep(connection, context.account.id, used)
        intent = await connection.fetchrow(
            """UPDATE gateway.payment_intents SET payment_method = $2, capture_method = coalesce($3, capture_method),
                   metadata = $4, details = details || $5::jsonb WHERE id = $1 RETURNING *""",
            *(intent["id"], used.id, _given(params.capture_method, None)),
            *(_merged(intent["metadata"], params.metadata), _details(params)),
        )
        return _begun(intent["id"], params.expand, await _pay(connection, context, intent, used))

    return begin


async def capture(context: Context, ids: dict[str, str], params: IntentCapture) -> Begin:
    """POST /v1/payment_intents/{id}/capture"""
    context.require_network()

    async def begin(connection: Any) -> Begun:
        intent = await _locked(connection, context, ids["id"])
        _check(intent, "captured")
        open_minor = intent["amount_capturable_minor"]
        currency, given = intent["currency"], params.amount_to_capture
        amount = to_minor(given, currency, "amount_to_capture") if given is not None else open_minor
        if amount > open_minor:
            raise invalid(
                f"amount_to_capture is more than the {from_minor(open_minor, currency)} that can be captured",
                *("amount_to_capture", "amount_too_large"),
            )
        await connection.execute(
            """UPDATE gateway.payment_intents SET status = 'processing', metadata = $2, details = details || $3::jsonb
               WHERE id = $1""",
            *(intent["id"], _merged(intent["metadata"], params.metadata), _details(params)),
        )
        final = params.final_capture or amount == open_minor
        attempt = await _follow(connection, context, intent, Kind.CAPTURE, "0220", amount, final=final)
        return _begun(intent["id"], params.expand, attempt)

    return begin


async def cancel(context: Context, ids: dict[str, str], params: IntentCancel) -> Begin:
    """POST /v1/payment_intents/{id}/cancel: an authorized one is reversed with 0400, any other just ends."""

    async def begin(connection: Any) -> Begun:
        intent = await _locked(connection, context, ids["id"])
        _check(intent, "canceled")
        held = intent["status"] == "requires_capture"
        if held:
            context.require_network()
            if intent["amount_received_minor"]:
                raise unexpected_state(
                    "This PaymentIntent has been captured in part: close it with a final capture, or refund it.",
                    objects.payment_intent(intent),
                )
        row = await connection.fetchrow(
            """UPDATE gateway.payment_intents SET status = $2, cancellation_reason = $3,
                   canceled_at = CASE WHEN $2 = 'canceled' THEN now() END WHERE id = $1 RETURNING *""",
            *(intent["id"], "processing" if held else "canceled", params.cancellation_reason),
        )
        if not held:
            await _emit(connection, context, "payment_intent.canceled", row)
            return _begun(intent["id"], params.expand, None)
        amount = intent["amount_minor"]
        attempt = await _follow(connection, context, intent, Kind.REVERSAL, "0400", amount, final=True)
        return _begun(intent["id"], params.expand, attempt)

    return begin


async def _pay(connection: Any, context: Context, intent: objects.Row, method: Method) -> Attempt:
    """A new charge with its 0100 (manual capture) or 0200; the intent is `processing` from here."""
    charge_id = new_id("ch")
    await connection.execute(
        """INSERT INTO gateway.charges (id, account_id, payment_intent, created_at, status, amount_minor, currency,
               payment_method, card, billing_details, metadata, details)
           VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7, $8, $9, $10, $11)""",
        *(charge_id, context.account.id, intent["id"], datetime.now(UTC), intent["amount_minor"], intent["currency"]),
        *(method.id, method.card, method.billing_details, intent["metadata"], intent["details"]),
    )
    await connection.execute(
        "UPDATE gateway.payment_intents SET status = 'processing', latest_charge = $2 WHERE id = $1",
        *(intent["id"], charge_id),
    )
    manual = intent["capture_method"] == "manual"
    draft = Draft(
        kind=Kind.AUTHORIZATION if manual else Kind.PURCHASE,
        mti="0100" if manual else "0200",
        amount_minor=intent["amount_minor"],
        currency=intent["currency"],
        surrogate=method.surrogate,
        payment_intent=intent["id"],
        charge=charge_id,
        trace_id=context.trace_id,
        expiry=method.expiry,
    )
    return await attempts.store(connection, context.services.sender, context.account, draft)


async def _follow(
    connection: Any, context: Context, intent: objects.Row, kind: Kind, mti: str, amount: int, *, final: bool
) -> Attempt:
    """A message that refers to the intent's authorization."""
    original = await attempts.first_of(connection, intent["latest_charge"])
    draft = Draft(
        kind=kind,
        mti=mti,
        amount_minor=amount,
        currency=intent["currency"],
        surrogate=original.surrogate,
        payment_intent=intent["id"],
        charge=intent["latest_charge"],
        trace_id=context.trace_id,
        final=final,
        original=original,
    )
    return await attempts.store(connection, context.services.sender, context.account, draft)


async def _locked(connection: Any, context: Context, intent_id: str) -> objects.Row:
    row: objects.Row | None = await connection.fetchrow(
        "SELECT * FROM gateway.payment_intents WHERE id = $1 AND account_id = $2 FOR UPDATE",
        *(intent_id, context.account.id),
    )
    if row is None:
        raise missing("payment_intent", "intent")
    return row


def _check(intent: objects.Row, done: str) -> None:
    if intent["status"] not in ALLOWED[done]:
        allowed = ", ".join(sorted(ALLOWED[done]))
        raise unexpected_state(
            f"This PaymentIntent could not be {done} because it has a status of {intent['status']}. "
            f"Only a PaymentIntent with one of the following statuses may be {done}: {allowed}.",
            objects.payment_intent(intent),
        )


def _no_method(intent: objects.Object | None = None) -> ApiError:
    message = "You cannot confirm this PaymentIntent because it's missing a payment method. Send payment_method=pm_…"
    return unexpected_state(message, intent) if intent else invalid(message, "payment_method", "parameter_missing")


def _today() -> date:
    return datetime.now(UTC).date()


def _details(params: Any) -> dict[str, Any]:
    given = {name: getattr(params, name, msgspec.UNSET) for name in _DETAILS}
    kept: dict[str, Any] = msgspec.to_builtins(
        {name: value for name, value in given.items() if value is not msgspec.UNSET}
    )
    return kept


def _merged(old: dict[str, str], new: dict[str, str] | msgspec.UnsetType) -> dict[str, str]:
    """Metadata after an update: an empty value takes its name away, an empty set takes all away."""
    if new is msgspec.UNSET:
        return old
    merged = {**old, **new} if new else {}
    return {name: value for name, value in merged.items() if value != ""}


def _given(value: Any, default: Any) -> Any:
    return default if value is msgspec.UNSET else value


def _begun(intent_id: str, expand: list[str], attempt: Attempt | None) -> Begun:
    number = attempt.id if attempt else None
    return Begun(Continuation("payment_intent", intent_id, number, tuple(expand)), attempt)


async def _emit(connection: Any, context: Context, name: str, intent: objects.Row) -> None:
    shown = objects.payment_intent(intent)
    await emit(connection, context.account.id, name, shown, context.trace_id, context.idempotency_key)
