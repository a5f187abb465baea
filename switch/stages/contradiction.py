"""Whether a follow-up message agrees with the payment that it names: card, currency, amount.

A recorded intent and its original go in, the situation of a contradiction comes out. `switch.decisions` asks for each
follow-up that the lifecycle allows; who may change a payment at all is `switch.stages.ownership`. Pure: one table,
`FOLLOW_UPS`, and one function that reads it.

Source: ISO 8583:1987 table 4 and DE 90: a message about an earlier one repeats its DE 2, 4 and 49; DE 95 has what is
left, DE 4 then still says what it was. ISO 8583:1993 DE 30: the original's amount, where DE 4 is another one. That a
reversal may name what is held now is inferred from terminals that keep one amount for a hold.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ledger.journal import Intent, Kind, Original, stated_elements
from ledger.lifecycle import Ruling, Situation, standing
from messages.counterparts.amounts import was
from messages.counterparts.sides import CARRIED
from messages.errors import MoneyError
from messages.money import numeric_currency

ORIGINAL_AMOUNTS = CARRIED + 30  # DE 30 of later versions
_WITH_CURRENCY = 32  # digits of DE 30 in 2003: currency, decimal places and 12 digits, twice


class Amount(StrEnum):
    """An amount of the payment, as follow-up messages state it."""

    REQUESTED = "requested"
    APPROVED = "approved"  # less than requested, where the issuer approved a part
    HELD = "held"  # on hold now, after increments, reversals in part and captures
    CAPTURED = "captured"


class Row(msgspec.Struct, frozen=True):
    """The elements in which a kind of follow-up message states its payment.

    Args:
        card: whether a card must be there; one that is there is always compared.
        stated: the element with the payment's amount; zero or absent, it states none.
        amounts: the amounts that it may be.
        owner: how the sender is compared (`switch.stages.ownership`).
    """

    card: bool
    stated: int
    amounts: tuple[Amount, ...]
    owner: str = "link, DE 32, DE 42"


_OF_A_HOLD = (Amount.REQUESTED, Amount.APPROVED, Amount.HELD)
_OF_A_PAYMENT = (Amount.REQUESTED, Amount.APPROVED, Amount.CAPTURED)

FOLLOW_UPS: dict[Kind, Row] = {
    Kind.CAPTURE: Row(False, ORIGINAL_AMOUNTS, _OF_A_HOLD),
    Kind.INCREMENT: Row(True, ORIGINAL_AMOUNTS, _OF_A_HOLD),
    Kind.REVERSAL: Row(False, 4, _OF_A_HOLD),
    Kind.REDUCTION: Row(False, 4, _OF_A_HOLD),
    Kind.REFUND: Row(True, ORIGINAL_AMOUNTS, _OF_A_PAYMENT),
    Kind.CHARGEBACK: Row(False, ORIGINAL_AMOUNTS, _OF_A_PAYMENT, "the issuer link that was asked"),
}
# Texts for DE 44, by the reason of the refusal.
DETAILS: dict[str, str] = {
    "other_card": "DE 2: another card",
    "wrong_currency": "DE 49: another currency",
    "wrong_original_amount": "not the original amount",
}


def contradiction(
    intent: Intent, original: Original, increment: Original | None = None, *, booked: bool = True
) -> Situation | None:
    """The first element in which a follow-up contradicts its payment; None where it agrees.

    Args:
        original: what changes. increment: the message that DE 90 names, where that is an approved increment of it.
        booked: whether anything would follow from it. Where nothing would, amounts are not compared: the sender of a
            second reversal may have another one in mind, and must get to an end.
    """
    row = FOLLOW_UPS.get(intent.kind)
    if row is None:
        return None
    named = increment or original
    paid = named.stored.intent
    if intent.fingerprint and paid.fingerprint and intent.fingerprint != paid.fingerprint:
        return Situation.OTHER_CARD  # a payment that was declined while the hsm was away has no card
    stated_minor, currency = _stated(intent, row.stated)
    if (intent.currency and intent.currency != paid.currency) or currency not in ("", _numeric(paid.currency)):
        return Situation.WRONG_CURRENCY
    if not booked or not stated_minor:
        return None
    allowed = {Amount.REQUESTED: paid.amount_minor, Amount.APPROVED: named.approved_minor}
    if increment is None:
        now = standing(original)
        allowed |= {Amount.HELD: now.held_minor, Amount.CAPTURED: now.captured_minor}
    agrees = any(allowed.get(amount) == stated_minor for amount in row.amounts)
    return None if agrees else Situation.OTHER_AMOUNT


def over_limit(intent: Intent, original: Original, limit_minor: int | None) -> bool:
    """Whether an increment takes its payment above the limit of its link.

    Args:
        limit_minor: the most that the link may ask for in this currency; None for no limit.
    """
    if limit_minor is None or intent.kind is not Kind.INCREMENT:
        return False
    now = standing(original)
    return now.held_minor + now.captured_minor + intent.amount_minor > limit_minor


def _stated(intent: Intent, number: int) -> tuple[int, str]:
    """The amount of the payment as the message states it, 0 for none, and its numeric currency, "" for none."""
    if intent.kind is Kind.REVERSAL:
        return intent.amount_minor, ""
    text = stated_elements(intent).get(number, "") if intent.stated else ""
    currency = text[:3] if number == ORIGINAL_AMOUNTS and len(text) == _WITH_CURRENCY else ""
    digits = was(text) if number == ORIGINAL_AMOUNTS else text
    amount_minor = int(digits) if digits.isascii() and digits.isdigit() else 0
    return amount_minor, currency if amount_minor else ""


def _numeric(currency: str) -> str:
    try:
        return numeric_currency(currency)
    except MoneyError:
        return ""


def follow_ups_table() -> str:
    """`FOLLOW_UPS` in Markdown."""
    lines = [
        "| message | card, DE 2 or 35 | currency, DE 49 | amount of the payment | may be | sender |",
        "|---|---|---|---|---|---|",
    ]
    for kind, row in FOLLOW_UPS.items():
        card = "needed: the payment's" if row.card else "where there: the payment's"
        number = f"DE {row.stated - CARRIED} of 1993 and 2003" if row.stated > CARRIED else f"DE {row.stated}"
        lines.append(f"| {kind} | {card} | the payment's | {number} | {', '.join(row.amounts)} | {row.owner} |")
    return "\n".join(lines)


def is_contradiction(ruling: Ruling) -> bool:
    """Whether a refusal is one of this module."""
    return ruling.reason in DETAILS
