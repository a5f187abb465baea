"""Effects of an answer on a payment: a pending message and DE 39 in, the changed objects and their events out.

`gateway.courier` calls `decide` once it knows the end of a message. The first decision counts; everything it changes
commits with it. Rows are locked in one order: payment intent, message, charge, refund.

| message | approved | declined | reversed (no answer) |
|---|---|---|---|
| 0100 | requires_capture | requires_payment_method | requires_payment_method, 0420 stored |
| 0200 | succeeded | requires_payment_method | requires_payment_method, 0420 stored |
| 0220 | succeeded, or requires_capture if partial | requires_capture | - |
| 0200/20 | refund succeeded | refund failed | refund failed, 0420 stored |
| 0400 | canceled | requires_capture | - |
| 0420 | - | - | - |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from gateway import attempts, objects
from gateway.attempts import REQUESTS, Attempt, Draft, Kind, Sender, State
from gateway.declines import APPROVED, TRY_LATER, card_error
from gateway.events import emit
from gateway.keys import Account

MALFUNCTION = "96"
NOTHING_THERE = "25"  # an answer to a reversal: there is nothing left to undo


class Answer(msgspec.Struct, frozen=True):
    """DE 39 and DE 38 of the switch's answer. `repeated`: the message had been sent before, so that 91 or 96 may
    mean this one only, and not what became of the first."""

    response_code: str
    auth_code: str
    repeated: bool = False


class Decided(msgspec.Struct, frozen=True):
    """The message as it ended. `won` is False where somebody had decided before; `reversal` is to be sent now."""

    attempt: Attempt
    won: bool
    reversal: Attempt | None = None


async def decide(connection: Any, sender: Sender, attempt_id: int, answer: Answer | None) -> Decided:
    """Record the end of a message with all its effects, or find how it ended before; durable on return.

    Args:
        answer: None where none came and the message is given up.
    """
    async with connection.transaction():
        seen = await attempts.fetch(connection, attempt_id)
        await connection.execute("SELECT 1 FROM gateway.payment_intents WHERE id = $1 FOR UPDATE", seen.payment_intent)
        current = await attempts.fetch(connection, attempt_id, lock=True)
        if current.state is not State.PENDING:
            return Decided(current, won=False)
        row = await connection.fetchrow(
            """UPDATE gateway.attempts SET state = $2, response_code = $3, auth_code = $4, decided_at = now(),
                   claimed_by = NULL, claimed_until = NULL WHERE id = $1 RETURNING *""",
            *(attempt_id, _state(current, answer).value),
            *((answer.response_code[:2], answer.auth_code[:6]) if answer else ("", "")),
        )
        decided = attempts.attempt(row)
        reversal = await _store_reversal(connection, sender, decided) if decided.state is State.REVERSED else None
        await _EFFECTS[decided.kind](connection, decided)
    return Decided(decided, won=True, reversal=reversal)


def _state(message: Attempt, answer: Answer | None) -> State:
    if answer is None:
        assert message.kind in REQUESTS, message.kind
        return State.REVERSED
    if answer.response_code in APPROVED:
        return State.APPROVED
    if message.kind is Kind.REVERSAL and (message.mti == "0420" or answer.response_code == NOTHING_THERE):
        return State.APPROVED
    if message.kind in REQUESTS and _in_doubt(answer):
        return State.REVERSED
    return State.DECLINED


def _in_doubt(answer: Answer) -> bool:
    """Whether a request may stand in spite of its answer; a reversal of nothing does no harm.

    10 is an approval for less than was asked for. 96 says that the switch's own store failed: before or after it was
    written is not known. 91 to a repeat may be about the repeat.
    """
    return answer.response_code in ("10", MALFUNCTION) or (answer.repeated and answer.response_code in TRY_LATER)


async def _store_reversal(connection: Any, sender: Sender, message: Attempt) -> Attempt:
    row = await connection.fetchrow(
        "SELECT id, merchant, name, city, country, mcc FROM gateway.accounts WHERE id = $1", message.account_id
    )
    draft = Draft(
        kind=Kind.REVERSAL,
        mti="0420",
        amount_minor=message.amount_minor,
        currency=message.currency,
        surrogate=message.surrogate,
        payment_intent=message.payment_intent,
        charge=message.charge,
        refund=message.refund,
        trace_id=message.trace_id,
        original=message,
    )
    return await attempts.store(connection, sender, Account(**dict(row)), draft)


async def _payment(connection: Any, message: Attempt) -> None:
    """The end of a 0100 or 0200."""
    approved, posted = message.state is State.APPROVED, message.kind is Kind.PURCHASE
    charge = await connection.fetchrow(
        """UPDATE gateway.charges SET status = $2, auth_code = $3, response_code = $4, captured = $5,
               amount_captured_minor = CASE WHEN $5 THEN amount_minor ELSE 0 END WHERE id = $1 RETURNING *""",
        *(message.charge, "succeeded" if approved else "failed", message.auth_code),
        *(_told(message), approved and posted),
    )
    if approved:
        intent = await connection.fetchrow(
            """UPDATE gateway.payment_intents SET status = $2, amount_capturable_minor = $3,
                   amount_received_minor = $4, last_payment_error = NULL WHERE id = $1 RETURNING *""",
            *(message.payment_intent, "succeeded" if posted else "requires_capture"),
            *((0, message.amount_minor) if posted else (message.amount_minor, 0)),
        )
    else:
        method = await connection.fetchrow(
            "SELECT * FROM gateway.payment_methods WHERE account_id = $1 AND id = $2",
            *(message.account_id, charge["payment_method"]),
        )
        error = {**card_error(_told(message), message.charge), "payment_method": objects.payment_method(method)}
        intent = await connection.fetchrow(
            """UPDATE gateway.payment_intents SET status = 'requires_payment_method', payment_method = NULL,
                   last_payment_error = $2 WHERE id = $1 RETURNING *""",
            *(message.payment_intent, error),
        )
    shown, shown_charge = objects.payment_intent(intent), objects.charge(charge)
    await _emit(connection, message, "charge.succeeded" if approved else "charge.failed", shown_charge)
    name = "payment_failed" if not approved else "succeeded" if posted else "amount_capturable_updated"
    await _emit(connection, message, f"payment_intent.{name}", shown)


async def _capture(connection: Any, message: Attempt) -> None:
    """The end of a 0220."""
    approved, final = message.state is State.APPROVED, message.final
    intent = await connection.fetchrow(
        """UPDATE gateway.payment_intents SET status = $2,
               amount_received_minor = amount_received_minor + $3,
               amount_capturable_minor = CASE WHEN $4 THEN 0 ELSE amount_capturable_minor - $3 END
           WHERE id = $1 RETURNING *""",
        *(message.payment_intent, "succeeded" if approved and final else "requires_capture"),
        *(message.amount_minor if approved else 0, approved and final),
    )
    if not approved:
        return
    charge = await connection.fetchrow(
        """UPDATE gateway.charges SET captured = $2, amount_captured_minor = amount_captured_minor + $3
           WHERE id = $1 RETURNING *""",
        *(message.charge, final, message.amount_minor),
    )
    await _emit(connection, message, "charge.captured", objects.charge(charge))
    name = "succeeded" if final else "amount_capturable_updated"
    await _emit(connection, message, f"payment_intent.{name}", objects.payment_intent(intent))


async def _refund(connection: Any, message: Attempt) -> None:
    """The end of a 0200 with processing code 20."""
    approved = message.state is State.APPROVED
    charge = await connection.fetchrow(
        """UPDATE gateway.charges SET amount_refunded_minor = amount_refunded_minor + $2
           WHERE id = $1 RETURNING *""",
        *(message.charge, message.amount_minor if approved else 0),
    )
    failure = None if approved else "unknown" if message.state is State.REVERSED else "declined"
    refund = await connection.fetchrow(
        "UPDATE gateway.refunds SET status = $2, failure_reason = $3 WHERE id = $1 RETURNING *",
        *(message.refund, "succeeded" if approved else "failed", failure),
    )
    if approved:
        await _emit(connection, message, "charge.refunded", objects.charge(charge))
    await _emit(connection, message, "refund.updated" if approved else "refund.failed", objects.refund(refund))


async def _reversal(connection: Any, message: Attempt) -> None:
    """The end of a 0400, which cancels; a 0420 cleans up after what was decided already."""
    if message.mti == "0420":
        return
    approved = message.state is State.APPROVED
    intent = await connection.fetchrow(
        """UPDATE gateway.payment_intents SET status = $2, canceled_at = CASE WHEN $3 THEN now() END,
               amount_capturable_minor = CASE WHEN $3 THEN 0 ELSE amount_capturable_minor END,
               cancellation_reason = CASE WHEN $3 THEN cancellation_reason END
           WHERE id = $1 RETURNING *""",
        *(message.payment_intent, "canceled" if approved else "requires_capture", approved),
    )
    if approved:
        await _emit(connection, message, "payment_intent.canceled", objects.payment_intent(intent))


def _told(message: Attempt) -> str:
    """DE 39 as far as the merchant is concerned: "" where the payment was given up."""
    return message.response_code if message.state is State.DECLINED else ""


async def _emit(connection: Any, message: Attempt, name: str, subject: objects.Object) -> None:
    await emit(connection, message.account_id, name, subject, message.trace_id)


_EFFECTS: dict[Kind, Callable[[Any, Attempt], Awaitable[None]]] = {
    Kind.AUTHORIZATION: _payment,
    Kind.PURCHASE: _payment,
    Kind.CAPTURE: _capture,
    Kind.REFUND: _refund,
    Kind.REVERSAL: _reversal,
}
