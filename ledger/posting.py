"""Bookings: an event goes in, balanced journal lines come out.

The switch puts them into the outcome that it decides. `POSTING_RULES` is the table; each row is lines of (layer, debit
account, credit account, which amount). A reversal of money books the reverse of what its original booked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from ledger import accounts
from ledger.errors import PostingError
from ledger.fees import FeeSchedule, returned_fee_minor
from ledger.journal import Intent, Kind, Layer, Original, Posting
from ledger.lifecycle import Event, Standing, standing


class Line(msgspec.Struct, frozen=True):
    """One pair of lines: `amount` names the figure (see `_Figures`) that debits one account and credits the other."""

    layer: Layer
    debit: str
    credit: str
    amount: str


_PENDING, _POSTED = Layer.PENDING, Layer.POSTED

# Short names of accounts, made into paths by `_paths`.
_ISSUER, _SETTLEMENT, _MERCHANT, _REVENUE, _DISPUTE = "issuer", "settlement", "merchant", "revenue", "dispute"

_MONEY = (
    Line(_POSTED, _ISSUER, _SETTLEMENT, "amount"),
    Line(_POSTED, _SETTLEMENT, _MERCHANT, "net"),
    Line(_POSTED, _SETTLEMENT, _REVENUE, "fee"),
)

POSTING_RULES: dict[Event, tuple[Line, ...]] = {
    Event.AUTHORIZED: (Line(_PENDING, _ISSUER, _SETTLEMENT, "amount"),),
    Event.INCREMENTED: (Line(_PENDING, _ISSUER, _SETTLEMENT, "amount"),),
    Event.INCREMENT_REVERSED: (Line(_PENDING, _SETTLEMENT, _ISSUER, "amount"),),
    Event.REDUCED: (Line(_PENDING, _SETTLEMENT, _ISSUER, "released"),),
    Event.VOIDED: (Line(_PENDING, _SETTLEMENT, _ISSUER, "released"),),
    Event.CAPTURED: (Line(_PENDING, _SETTLEMENT, _ISSUER, "released"), *_MONEY),
    Event.PURCHASED: _MONEY,
    Event.REFUNDED: (
        Line(_POSTED, _MERCHANT, _ISSUER, "net"),
        Line(_POSTED, _REVENUE, _ISSUER, "fee"),
    ),
    Event.CHARGED_BACK: (
        Line(_POSTED, _MERCHANT, _ISSUER, "amount"),
        Line(_POSTED, _MERCHANT, _DISPUTE, "dispute_fee"),
    ),
}

# The reverse of what the original booked, line by line.
REVERSING_EVENTS = frozenset({Event.PURCHASE_REVERSED, Event.REFUND_REVERSED})


def postings(
    event: Event | None,
    *,
    amount_minor: int,
    currency: str,
    issuer: str,
    merchant: str,
    fees: FeeSchedule,
    original: Original | None = None,
    final: bool = True,
    international: bool = False,
    converted: bool = False,
    cashback_minor: int = 0,
) -> tuple[Posting, ...]:
    """The lines of an event; zero lines are left out; () for None.

    Args:
        event: from the ruling.
        amount_minor: of this message, > 0; of no account for reversals in full; of a reduction what is left on hold,
            of a reversed increment what it held.
        currency: ISO 4217 alphabetic; "" for reversals that name none.
        issuer, merchant: issuer link and DE 42. Where there is an original, its issuer, merchant and currency are
            booked.
        fees: the merchant's schedule, `ledger.config.FeeTable.schedule`; its amounts are those of the currency booked.
        original: the intent that the event changes.
        final: a final capture releases all that is on hold, a partial one only what it posts.
        international: card and merchant are in different countries.
        converted: the merchant is paid in another currency.
        cashback_minor: the part of a purchase that the cardholder gets in cash: there is no fee on it.

    Raises: PostingError where the event needs an original or the amounts do not fit it.
    Source: the postings table of the design, "Money".
    """
    if event is None:
        return ()
    if event in REVERSING_EVENTS:
        return _reverse(original)
    if original is not None:
        paid = original.stored.intent
        issuer, merchant, currency = paid.issuer, paid.merchant, paid.currency
    figures = _figures(event, amount_minor, currency, fees, original, final, international, converted, cashback_minor)
    paths = _paths(issuer, merchant)
    sums: defaultdict[tuple[Layer, str], int] = defaultdict(int)
    for line in POSTING_RULES[event]:
        value = figures[line.amount]
        # Debits and credits of one account stay apart, so that the journal shows money passing through settlement.
        if line.debit == _SETTLEMENT and line.layer is _POSTED:
            sums[line.layer, "settlement out"] += value
        else:
            sums[line.layer, line.debit] += value
        sums[line.layer, line.credit] -= value
    return tuple(
        Posting(layer=layer, account=paths[name], amount_minor=value, currency=currency)
        for (layer, name), value in sums.items()
        if value
    )


def check_postings(lines: Iterable[Posting]) -> None:
    """Raise PostingError unless each line is sound and the lines sum to zero per layer and currency."""
    sums: defaultdict[tuple[Layer, str], int] = defaultdict(int)
    for line in lines:
        if line.amount_minor == 0 or not -(2**63) < line.amount_minor < 2**63:
            raise PostingError(f"line of {line.amount_minor} on {line.account}")
        if len(line.currency) != 3 or not line.currency.isalpha() or not line.currency.isupper():
            raise PostingError(f"no currency: {line.currency!r}")
        accounts.account_type(line.account)
        sums[line.layer, line.currency] += line.amount_minor
    for (layer, currency), total in sums.items():
        if total:
            raise PostingError(f"lines do not sum to zero: {layer} {currency} is off by {total}")


def held_minor(lines: Iterable[Posting]) -> int:
    """Amount that these lines put on (> 0) or release from (< 0) a cardholder's hold."""
    return sum(p.amount_minor for p in lines if p.layer is Layer.PENDING and accounts.is_receivable(p.account))


def cash_minor(intent: Intent, original: Original | None, amount_minor: int) -> int:
    """The cash in `amount_minor` of what an intent books.

    A capture that states no cash pays out what is left of the cash that its hold was asked with.
    """
    stated_minor = intent.cashback_minor
    if not stated_minor and intent.kind is Kind.CAPTURE and original is not None:
        stated_minor = _cash_left_minor(original)
    return min(stated_minor, amount_minor)


def _cash_left_minor(hold: Original) -> int:
    left_minor = hold.stored.intent.cashback_minor
    for change in hold.changes:
        if change.kind is Kind.CAPTURE:
            left_minor -= min(left_minor, change.cashback_minor or change.amount_minor)
    return left_minor


def fee_minor(lines: Iterable[Posting]) -> int:
    """Amount that these lines earn the platform in fees on captures; < 0: given back."""
    return -sum(p.amount_minor for p in lines if p.account == accounts.PLATFORM_REVENUE)


def _paths(issuer: str, merchant: str) -> dict[str, str]:
    return {
        _ISSUER: accounts.issuer_receivable(issuer),
        _SETTLEMENT: accounts.SETTLEMENT_PENDING,
        "settlement out": accounts.SETTLEMENT_PENDING,
        _MERCHANT: accounts.merchant_pending(merchant),
        _REVENUE: accounts.PLATFORM_REVENUE,
        _DISPUTE: accounts.DISPUTE_FEES,
    }


def _figures(
    event: Event,
    amount_minor: int,
    currency: str,
    fees: FeeSchedule,
    original: Original | None,
    final: bool,
    international: bool,
    converted: bool,
    cashback_minor: int,
) -> dict[str, int]:
    """The amounts that the lines of an event name."""
    if event is Event.VOIDED:
        return {"released": _standing(event, original).held_minor}
    if amount_minor <= 0 or not 0 <= cashback_minor <= amount_minor:
        raise PostingError(f"{event} of {amount_minor} minor units, {cashback_minor} in cash")
    if event is Event.REDUCED:
        return {"released": _at_most(event, _standing(event, original).held_minor, amount_minor)}
    if event is Event.INCREMENT_REVERSED:
        _at_most(event, _standing(event, original).held_minor, amount_minor)
    figures = {"amount": amount_minor, "fee": 0, "net": amount_minor, "dispute_fee": 0}
    if event is Event.CAPTURED:
        now = _standing(event, original)
        if amount_minor > now.held_minor:
            raise PostingError(f"capture of {amount_minor} where {now.held_minor} is held")
        figures["released"] = now.held_minor if final else amount_minor
    if event in (Event.CAPTURED, Event.PURCHASED):
        sold = amount_minor - cashback_minor
        figures["fee"] = fees.capture_fee_minor(sold, currency, international=international, converted=converted)
    elif event is Event.REFUNDED and original is not None:
        now = _standing(event, original)
        if amount_minor > now.left_minor:
            raise PostingError(f"refund of {amount_minor} where {now.left_minor} is left")
        figures["fee"] = _returned_fee(original, now, amount_minor)
    elif event is Event.CHARGED_BACK:
        figures["dispute_fee"] = fees.dispute_fee_minor.get(currency, 0)
    figures["net"] = amount_minor - figures["fee"]
    return figures


def _at_most(event: Event, held_minor: int, amount_minor: int) -> int:
    """The rest of a hold."""
    if amount_minor > held_minor:
        raise PostingError(f"{event} of {amount_minor} where {held_minor} is held")
    return held_minor - amount_minor


def _returned_fee(original: Original, now: Standing, amount_minor: int) -> int:
    """From what was booked, not from today's price list: that may have changed since."""
    taken = fee_minor(original.outcome.postings) if original.outcome is not None else 0
    taken += sum(change.fee_minor for change in original.changes if change.kind is Kind.CAPTURE)
    return returned_fee_minor(
        taken_minor=taken,
        returned_minor=-sum(change.fee_minor for change in original.changes if change.kind is Kind.REFUND),
        captured_minor=now.captured_minor,
        refunded_minor=now.refunded_minor,
        refund_minor=amount_minor,
    )


def _standing(event: Event, original: Original | None) -> Standing:
    if original is None:
        raise PostingError(f"{event} needs its original")
    return standing(original)


def _reverse(original: Original | None) -> tuple[Posting, ...]:
    if original is None or original.outcome is None:
        raise PostingError("a reversal needs the outcome of its original")
    return tuple(msgspec.structs.replace(line, amount_minor=-line.amount_minor) for line in original.outcome.postings)
