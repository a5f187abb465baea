"""Payment methods: from what a request names to a stored row with the card's surrogate.

`find` asks the tokenizer and is called before a transaction, `keep` stores the row inside it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.errors import TokenizerUnavailable, invalid, missing, unavailable
from gateway.ids import new_id
from gateway.operations import Context
from gateway.shapes import MethodData
from gateway.tokenizer import Card

_TEST_NAME = "pm_card_"
_REFERENCE = re.compile(r"(pm|tok)_[A-Za-z0-9_]{1,90}")
_BILLING_TEXTS = ("email", "name", "phone")


class Method(msgspec.Struct, frozen=True):
    """A payment method of an account. `card` is what Stripe's objects show."""

    id: str
    surrogate: str
    card: dict[str, Any]
    billing_details: dict[str, Any]

    @property
    def expiry(self) -> str:
        """DE 14, YYMM."""
        return f"{self.card['exp_year'] % 100:02d}{self.card['exp_month']:02d}"


async def find(context: Context, reference: str | None, data: MethodData | None) -> Method | None:
    """The method that a request names by `payment_method` or `payment_method_data`; None where it names none.

    Raises: ApiError 404 for an unknown one, 503 where the tokenizer is away.
    """
    if reference is not None and data is not None:
        raise invalid("Send payment_method or payment_method_data, not both", "payment_method_data")
    if data is not None:
        if not data.card.token.startswith("tok_") or not _REFERENCE.fullmatch(data.card.token):
            raise missing("token", "payment_method_data[card][token]")
        card = await _resolve(context, data.card.token)
        return _method(new_id("pm"), card, _billing(data.billing_details))
    if reference is None:
        return None
    if not reference.startswith("pm_") or not _REFERENCE.fullmatch(reference):
        raise missing("PaymentMethod", "payment_method")
    async with context.services.pool.acquire() as connection:
        known = await stored(connection, context.account.id, reference)
    if known is not None:
        return known
    card = await _resolve(context, reference)
    # A test name makes a new method each time, as with Stripe.
    return _method(new_id("pm") if reference.startswith(_TEST_NAME) else reference, card, {})


async def keep(connection: Any, account_id: str, method: Method) -> None:
    """Store the method; one that is there already stays as it is."""
    await connection.execute(
        """INSERT INTO gateway.payment_methods (account_id, id, created_at, surrogate, card, billing_details)
           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING""",
        *(account_id, method.id, datetime.now(UTC), method.surrogate, method.card, method.billing_details),
    )


async def stored(connection: Any, account_id: str, method_id: str) -> Method | None:
    row = await connection.fetchrow(
        """SELECT id, surrogate, card, billing_details FROM gateway.payment_methods
           WHERE account_id = $1 AND id = $2""",
        *(account_id, method_id),
    )
    return None if row is None else Method(**dict(row))


async def _resolve(context: Context, reference: str) -> Card:
    try:
        return await context.services.tokenizer.resolve(
            reference, context.account.id, context.token_user, context.trace_id
        )
    except TokenizerUnavailable:
        raise unavailable("The tokenizer cannot be reached at the moment. Nothing was charged.") from None


def _method(method_id: str, card: Card, billing: dict[str, Any]) -> Method:
    return Method(method_id, card.surrogate, card.shown(), billing)


def _billing(given: dict[str, Any]) -> dict[str, Any]:
    texts = {name: given[name] for name in _BILLING_TEXTS if isinstance(given.get(name), str)}
    address = given.get("address")
    if isinstance(address, dict):
        names = ("city", "country", "line1", "line2", "postal_code", "state")
        texts["address"] = {name: str(address[name])[:500] if address.get(name) else None for name in names}
    return {name: text[:500] if isinstance(text, str) else text for name, text in texts.items()}
