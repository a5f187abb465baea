"""Changes that a payment allows next: a request and the state of its original go in, a ruling comes out.

The switch asks `rule` before it sends or books anything, and again after a `stale` verdict. Pure: one table, `RULES`,
from (kind, situation) to the answer; `situation` names which row applies.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

import msgspec

from ledger.journal import DECLINED_ELSEWHERE, Decision, Kind, Original


class Event(StrEnum):
    """Kinds of booking; one row each in `ledger.posting.POSTING_RULES`."""

    AUTHORIZED = "authorized"
    PURCHASED = "purchased"
    CAPTURED = "captured"
    VOIDED = "voided"  # a hold, or what is left of it, is released
    PURCHASE_REVERSED = "purchase_reversed"
    REFUNDED = "refunded"
    REFUND_REVERSED = "refund_reversed"
    CHARGED_BACK = "charged_back"
    INCREMENTED = "incremented"
    INCREMENT_REVERSED = "increment_reversed"
    REDUCED = "reduced"  # a part of a hold is released


class Situation(StrEnum):
    """The state of the original, or the fault of the request."""

    NEW = "new"  # needs no original
    REFUSED = "refused"  # an advice says that it was declined elsewhere
    UNKNOWN = "unknown"  # the original is not in the journal
    UNDECIDED = "undecided"  # the original waits for its issuer
    DECLINED = "declined"
    REVERSED = "reversed"  # decided as reversed (deadline, recovery), a tombstone, or reversed by its acquirer
    HELD = "held"  # an authorization with something left to capture
    VERIFIED = "verified"  # an authorization of zero: a look at the account
    INCREMENT = "increment"  # a reversal names an increment, and its amount is still on hold
    CAPTURED = "captured"  # an authorization with nothing left to capture
    PURCHASED = "purchased"
    REFUND = "refund"  # the original is itself a refund
    OTHER_KIND = "other_kind"  # the original is itself a capture, reversal, chargeback
    EXPIRED = "expired"  # a hold older than its lifetime
    TOUCHED = "touched"  # a purchase with refunds or chargebacks on it
    NOTHING_LEFT = "nothing_left"  # all of it went back to the card already
    SAME = "same"  # a reduction to what is on hold already
    WRONG_CURRENCY = "wrong_currency"
    ZERO = "zero"  # amount 0
    TOO_MUCH = "too_much"  # more than is left
    OTHER_AMOUNT = "other_amount"  # the request says another amount of its original than it has
    OTHER_CARD = "other_card"  # the request names another card than its original
    OVER_LIMIT = "over_limit"  # more in all than the link may ask for


class Ruling(msgspec.Struct, frozen=True):
    """The answer to a request.

    Args:
        response_code: DE 39; "00": allowed (a request that goes online still needs the issuer's approval).
        event: the kind of booking (see `ledger.posting.postings`), None: nothing, and then no `original_seq` is taken.
        reason: one word for logs, metrics and `Outcome.reason`.
        close_original: the original has no outcome yet or is not known: decide it `reversed` (or record a tombstone
            under its key) first; where somebody else was faster, rule again.
    """

    response_code: str
    event: Event | None
    reason: str
    close_original: bool = False


class Standing(msgspec.Struct, frozen=True):
    """Sums over an original and its changes, minor units of its currency, all >= 0."""

    held_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    charged_back_minor: int = 0
    reversed: bool = False

    @property
    def left_minor(self) -> int:
        """The amount that may still go back to the card."""
        return self.captured_minor - self.refunded_minor - self.charged_back_minor


# Nothing happens by itself when it is over: the hold stays in the book until it is reversed or captured. It cannot be
# captured or enlarged any more, and the acquirer must reverse it.
MOST_MINOR = 10**12 - 1  # of a hold: later messages have DE 4 or DE 95. Source: ISO 8583:1987 DE 4, n 12
HOLD_LIFETIME = timedelta(days=7)

_K, _S = Kind, Situation
# A follow-up that contradicts its original; `switch.stages.contradiction` finds it.
_OTHER_CARD, _OTHER_AMOUNT = Ruling("12", None, "other_card"), Ruling("13", None, "wrong_original_amount")

RULES: dict[tuple[Kind, Situation], Ruling] = {
    # authorization, purchase
    (_K.AUTHORIZATION, _S.NEW): Ruling("00", Event.AUTHORIZED, "authorize"),
    (_K.AUTHORIZATION, _S.ZERO): Ruling("00", None, "account_verification"),
    (_K.AUTHORIZATION, _S.REFUSED): Ruling("00", None, DECLINED_ELSEWHERE),
    (_K.PURCHASE, _S.NEW): Ruling("00", Event.PURCHASED, "purchase"),
    (_K.PURCHASE, _S.ZERO): Ruling("13", None, "zero_amount"),
    (_K.PURCHASE, _S.REFUSED): Ruling("00", None, DECLINED_ELSEWHERE),
    # balance inquiry
    (_K.INQUIRY, _S.NEW): Ruling("00", None, "inquiry"),
    # increment
    (_K.INCREMENT, _S.HELD): Ruling("00", Event.INCREMENTED, "increment"),
    (_K.INCREMENT, _S.UNKNOWN): Ruling("25", None, "original_unknown"),
    (_K.INCREMENT, _S.UNDECIDED): Ruling("12", None, "original_undecided"),
    (_K.INCREMENT, _S.DECLINED): Ruling("12", None, "original_declined"),
    (_K.INCREMENT, _S.REVERSED): Ruling("12", None, "hold_voided"),
    (_K.INCREMENT, _S.EXPIRED): Ruling("12", None, "hold_expired"),
    (_K.INCREMENT, _S.CAPTURED): Ruling("12", None, "already_captured"),
    (_K.INCREMENT, _S.VERIFIED): Ruling("12", None, "nothing_held"),
    (_K.INCREMENT, _S.PURCHASED): Ruling("12", None, "already_captured"),
    (_K.INCREMENT, _S.REFUND): Ruling("12", None, "not_an_authorization"),
    (_K.INCREMENT, _S.OTHER_KIND): Ruling("12", None, "not_an_authorization"),
    (_K.INCREMENT, _S.WRONG_CURRENCY): Ruling("12", None, "wrong_currency"),
    (_K.INCREMENT, _S.ZERO): Ruling("13", None, "zero_amount"),
    (_K.INCREMENT, _S.TOO_MUCH): Ruling("13", None, "hold_too_large"),
    (_K.INCREMENT, _S.OTHER_CARD): _OTHER_CARD,
    (_K.INCREMENT, _S.OTHER_AMOUNT): _OTHER_AMOUNT,
    (_K.INCREMENT, _S.OVER_LIMIT): Ruling("57", None, "amount_not_permitted"),
    # capture
    (_K.CAPTURE, _S.HELD): Ruling("00", Event.CAPTURED, "capture"),
    (_K.CAPTURE, _S.UNKNOWN): Ruling("25", None, "original_unknown"),
    (_K.CAPTURE, _S.UNDECIDED): Ruling("12", None, "original_undecided"),
    (_K.CAPTURE, _S.DECLINED): Ruling("12", None, "original_declined"),
    (_K.CAPTURE, _S.REVERSED): Ruling("12", None, "hold_voided"),
    (_K.CAPTURE, _S.EXPIRED): Ruling("12", None, "hold_expired"),
    (_K.CAPTURE, _S.CAPTURED): Ruling("12", None, "already_captured"),
    (_K.CAPTURE, _S.VERIFIED): Ruling("12", None, "nothing_held"),
    (_K.CAPTURE, _S.PURCHASED): Ruling("12", None, "already_captured"),
    (_K.CAPTURE, _S.REFUND): Ruling("12", None, "not_an_authorization"),
    (_K.CAPTURE, _S.OTHER_KIND): Ruling("12", None, "not_an_authorization"),
    (_K.CAPTURE, _S.WRONG_CURRENCY): Ruling("12", None, "wrong_currency"),
    (_K.CAPTURE, _S.ZERO): Ruling("13", None, "zero_amount"),
    (_K.CAPTURE, _S.TOO_MUCH): Ruling("13", None, "over_capture"),
    (_K.CAPTURE, _S.OTHER_CARD): _OTHER_CARD,
    (_K.CAPTURE, _S.OTHER_AMOUNT): _OTHER_AMOUNT,
    # refund
    (_K.REFUND, _S.CAPTURED): Ruling("00", Event.REFUNDED, "refund"),
    (_K.REFUND, _S.PURCHASED): Ruling("00", Event.REFUNDED, "refund"),
    (_K.REFUND, _S.NEW): Ruling("00", Event.REFUNDED, "unreferenced_refund"),
    (_K.REFUND, _S.REFUSED): Ruling("00", None, DECLINED_ELSEWHERE),
    (_K.REFUND, _S.UNKNOWN): Ruling("25", None, "original_unknown"),
    (_K.REFUND, _S.UNDECIDED): Ruling("12", None, "original_undecided"),
    (_K.REFUND, _S.DECLINED): Ruling("12", None, "original_declined"),
    (_K.REFUND, _S.REVERSED): Ruling("12", None, "original_reversed"),
    (_K.REFUND, _S.HELD): Ruling("12", None, "not_captured"),
    (_K.REFUND, _S.VERIFIED): Ruling("12", None, "not_captured"),
    (_K.REFUND, _S.NOTHING_LEFT): Ruling("12", None, "nothing_left"),
    (_K.REFUND, _S.REFUND): Ruling("12", None, "not_a_payment"),
    (_K.REFUND, _S.OTHER_KIND): Ruling("12", None, "not_a_payment"),
    (_K.REFUND, _S.WRONG_CURRENCY): Ruling("12", None, "wrong_currency"),
    (_K.REFUND, _S.ZERO): Ruling("13", None, "zero_amount"),
    (_K.REFUND, _S.TOO_MUCH): Ruling("13", None, "over_refund"),
    (_K.REFUND, _S.OTHER_CARD): _OTHER_CARD,
    (_K.REFUND, _S.OTHER_AMOUNT): _OTHER_AMOUNT,
    # reversal: "00" without an event where there is nothing to undo, so that its sender stops repeating it
    (_K.REVERSAL, _S.HELD): Ruling("00", Event.VOIDED, "void"),
    (_K.REVERSAL, _S.INCREMENT): Ruling("00", Event.INCREMENT_REVERSED, "reverse_increment"),
    (_K.REVERSAL, _S.VERIFIED): Ruling("00", None, "nothing_to_reverse"),
    (_K.REVERSAL, _S.PURCHASED): Ruling("00", Event.PURCHASE_REVERSED, "reverse_purchase"),
    (_K.REVERSAL, _S.REFUND): Ruling("00", Event.REFUND_REVERSED, "reverse_refund"),
    (_K.REVERSAL, _S.UNDECIDED): Ruling("00", None, "reversed_before_outcome", close_original=True),
    (_K.REVERSAL, _S.UNKNOWN): Ruling("25", None, "original_unknown", close_original=True),
    (_K.REVERSAL, _S.DECLINED): Ruling("00", None, "nothing_to_reverse"),
    (_K.REVERSAL, _S.REVERSED): Ruling("00", None, "already_reversed"),
    (_K.REVERSAL, _S.CAPTURED): Ruling("12", None, "captured_refund_instead"),
    (_K.REVERSAL, _S.TOUCHED): Ruling("12", None, "partly_returned_already"),
    (_K.REVERSAL, _S.OTHER_KIND): Ruling("12", None, "not_reversible"),
    (_K.REVERSAL, _S.WRONG_CURRENCY): Ruling("12", None, "wrong_currency"),
    (_K.REVERSAL, _S.OTHER_CARD): _OTHER_CARD,
    (_K.REVERSAL, _S.OTHER_AMOUNT): _OTHER_AMOUNT,
    # reduction: a reversal in part. It says what is left of a hold that was approved, so it cannot come before that.
    (_K.REDUCTION, _S.HELD): Ruling("00", Event.REDUCED, "reduce"),
    (_K.REDUCTION, _S.SAME): Ruling("00", None, "nothing_to_reverse"),
    (_K.REDUCTION, _S.VERIFIED): Ruling("00", None, "nothing_to_reverse"),
    (_K.REDUCTION, _S.DECLINED): Ruling("00", None, "nothing_to_reverse"),
    (_K.REDUCTION, _S.REVERSED): Ruling("00", None, "already_reversed"),
    (_K.REDUCTION, _S.UNKNOWN): Ruling("25", None, "original_unknown"),
    (_K.REDUCTION, _S.UNDECIDED): Ruling("12", None, "original_undecided"),
    (_K.REDUCTION, _S.CAPTURED): Ruling("12", None, "captured_refund_instead"),
    (_K.REDUCTION, _S.PURCHASED): Ruling("12", None, "captured_refund_instead"),
    (_K.REDUCTION, _S.REFUND): Ruling("12", None, "not_reversible_in_part"),
    (_K.REDUCTION, _S.OTHER_KIND): Ruling("12", None, "not_reversible_in_part"),
    (_K.REDUCTION, _S.WRONG_CURRENCY): Ruling("12", None, "wrong_currency"),
    (_K.REDUCTION, _S.ZERO): Ruling("13", None, "zero_amount"),
    (_K.REDUCTION, _S.TOO_MUCH): Ruling("13", None, "over_hold"),
    (_K.REDUCTION, _S.OTHER_CARD): _OTHER_CARD,
    (_K.REDUCTION, _S.OTHER_AMOUNT): _OTHER_AMOUNT,
    # chargeback, from the issuer
    (_K.CHARGEBACK, _S.CAPTURED): Ruling("00", Event.CHARGED_BACK, "chargeback"),
    (_K.CHARGEBACK, _S.PURCHASED): Ruling("00", Event.CHARGED_BACK, "chargeback"),
    (_K.CHARGEBACK, _S.UNKNOWN): Ruling("25", None, "original_unknown"),
    (_K.CHARGEBACK, _S.UNDECIDED): Ruling("12", None, "original_undecided"),
    (_K.CHARGEBACK, _S.DECLINED): Ruling("12", None, "original_declined"),
    (_K.CHARGEBACK, _S.REVERSED): Ruling("12", None, "original_reversed"),
    (_K.CHARGEBACK, _S.HELD): Ruling("12", None, "not_captured"),
    (_K.CHARGEBACK, _S.VERIFIED): Ruling("12", None, "not_captured"),
    (_K.CHARGEBACK, _S.NOTHING_LEFT): Ruling("12", None, "already_returned"),
    (_K.CHARGEBACK, _S.REFUND): Ruling("12", None, "not_a_payment"),
    (_K.CHARGEBACK, _S.OTHER_KIND): Ruling("12", None, "not_a_payment"),
    (_K.CHARGEBACK, _S.WRONG_CURRENCY): Ruling("12", None, "wrong_currency"),
    (_K.CHARGEBACK, _S.ZERO): Ruling("13", None, "zero_amount"),
    (_K.CHARGEBACK, _S.TOO_MUCH): Ruling("13", None, "over_chargeback"),
    (_K.CHARGEBACK, _S.OTHER_CARD): _OTHER_CARD,
    (_K.CHARGEBACK, _S.OTHER_AMOUNT): _OTHER_AMOUNT,
    # an issuer's approval of what it has declined before; allowed: it is undone there
    (_K.LATE_APPROVAL, _S.DECLINED): Ruling("00", None, "approved_after_decline"),
    (_K.LATE_APPROVAL, _S.UNDECIDED): Ruling("91", None, "original_undecided", close_original=True),
    (_K.LATE_APPROVAL, _S.UNKNOWN): Ruling("25", None, "original_unknown"),
    (_K.LATE_APPROVAL, _S.REVERSED): Ruling("12", None, "reversed_already"),
    (_K.LATE_APPROVAL, _S.HELD): Ruling("12", None, "approved_already"),
    (_K.LATE_APPROVAL, _S.VERIFIED): Ruling("12", None, "approved_already"),
    (_K.LATE_APPROVAL, _S.CAPTURED): Ruling("12", None, "approved_already"),
    (_K.LATE_APPROVAL, _S.PURCHASED): Ruling("12", None, "approved_already"),
    (_K.LATE_APPROVAL, _S.REFUND): Ruling("12", None, "approved_already"),
    (_K.LATE_APPROVAL, _S.OTHER_KIND): Ruling("12", None, "nothing_to_undo"),
    # the record that a late original finds under its key
    (_K.TOMBSTONE, _S.NEW): Ruling("12", None, "reversed_before_arrival"),
}


def rule(
    kind: Kind,
    original: Original | None,
    amount_minor: int,
    currency: str,
    final: bool = True,
    *,
    age: timedelta = timedelta(0),
    hold_lifetime: timedelta = HOLD_LIFETIME,
    unreferenced_refunds: bool = False,
    increment: Original | None = None,
    refused: bool = False,
    said_minor: int | None = None,
) -> Ruling:
    """The row of `RULES` for a request.

    Args:
        original: the original of the request, with its outcome and changes; None: not in the journal.
        amount_minor: >= 0; of no account for reversals, which are always in full; of a reduction what is to be left.
        final: DE 60 of a capture; a partial one leaves the rest on hold. It is booked, not ruled on.
        age: age of the original; a hold older than `hold_lifetime` cannot be captured.
        unreferenced_refunds: whether a refund may come without any original.
        increment: the approved increment that a reversal names; `original` is then the authorization under it.
        refused: an advice of a decline; it is recorded, and nothing follows from it.
        said_minor: the amount of the hold as a capture states it; None where it does not.
    """
    if refused:
        return RULES[kind, Situation.REFUSED]
    if increment is not None:
        return RULES[kind, _increment_situation(kind, increment, original)]
    found = situation(kind, original, amount_minor, currency, age, hold_lifetime, unreferenced_refunds)
    if found is Situation.HELD and said_minor is not None and original is not None:
        found = found if said_minor == standing(original).held_minor else Situation.OTHER_AMOUNT
    return RULES[kind, found]


def situation(
    kind: Kind,
    original: Original | None,
    amount_minor: int,
    currency: str,
    age: timedelta = timedelta(0),
    hold_lifetime: timedelta = HOLD_LIFETIME,
    unreferenced_refunds: bool = False,
) -> Situation:
    """Which situation a request is in; arguments as for `rule`."""
    if kind in (Kind.AUTHORIZATION, Kind.PURCHASE, Kind.TOMBSTONE, Kind.INQUIRY):
        zero = amount_minor == 0 and kind in (Kind.AUTHORIZATION, Kind.PURCHASE)
        return Situation.ZERO if zero else Situation.NEW
    if original is None:
        if kind is Kind.REFUND and unreferenced_refunds:
            return Situation.ZERO if amount_minor == 0 else Situation.NEW
        return Situation.UNKNOWN
    state, now = _state(original), standing(original)
    if kind in (Kind.REFUND, Kind.CHARGEBACK):
        return _return_situation(original, state, amount_minor, currency)
    if now.reversed and state is Situation.CAPTURED:
        return Situation.REVERSED  # partly captured, the rest given up
    if kind is Kind.LATE_APPROVAL:
        return state
    if kind is Kind.REVERSAL:
        touched = now.refunded_minor + now.charged_back_minor > 0
        return Situation.TOUCHED if state is Situation.PURCHASED and touched else state
    if state is not Situation.HELD:
        return state
    if kind is Kind.REDUCTION:
        same = amount_minor == now.held_minor and currency == original.stored.intent.currency
        return Situation.SAME if same else _measure(original, amount_minor, currency, now.held_minor) or state
    if age > hold_lifetime:
        return Situation.EXPIRED
    left_minor = MOST_MINOR - now.held_minor if kind is Kind.INCREMENT else now.held_minor
    return _measure(original, amount_minor, currency, left_minor) or state


def standing(original: Original) -> Standing:
    """The sums that a ruling looks at, folded over the changes."""
    intent, outcome = original.stored.intent, original.outcome
    if outcome is None or outcome.decision is not Decision.APPROVED:
        return Standing(reversed=outcome is not None and outcome.decision is Decision.REVERSED)
    held = captured = refunded = charged_back = 0
    undone = False
    if intent.kind is Kind.AUTHORIZATION:
        held = original.approved_minor
    elif intent.kind is Kind.PURCHASE:
        captured = original.approved_minor
    for change in original.changes:
        if change.kind is Kind.CAPTURE:
            captured += change.amount_minor
            held = 0 if change.final else max(0, held - change.amount_minor)
        elif change.kind is Kind.INCREMENT:
            held += change.amount_minor
        elif change.kind is Kind.REDUCTION or (change.kind is Kind.REVERSAL and not change.final):
            held = max(0, held - change.amount_minor)  # in part, or an increment that is undone
        elif change.kind is Kind.REVERSAL and change.undoes not in ("", intent.key):
            held = 0  # an increment is undone, and nothing else was on hold any more
        elif change.kind is Kind.REVERSAL:
            held, undone = 0, True
            captured = 0 if intent.kind is Kind.PURCHASE else captured
        elif change.kind is Kind.REFUND:
            refunded += change.amount_minor
        elif change.kind is Kind.CHARGEBACK:
            charged_back += change.amount_minor
    return Standing(held, captured, refunded, charged_back, undone)


def _state(original: Original) -> Situation:
    outcome, kind = original.outcome, original.stored.intent.kind
    if kind is Kind.TOMBSTONE:
        return Situation.REVERSED
    if kind not in (Kind.AUTHORIZATION, Kind.PURCHASE, Kind.REFUND, Kind.INCREMENT):
        return Situation.OTHER_KIND
    if outcome is None:
        return Situation.UNDECIDED
    if outcome.decision is not Decision.APPROVED:
        return Situation.DECLINED if outcome.decision is Decision.DECLINED else Situation.REVERSED
    if outcome.reason == DECLINED_ELSEWHERE:
        return Situation.DECLINED
    if kind is Kind.INCREMENT:
        return Situation.OTHER_KIND
    now = standing(original)
    if now.reversed and not (kind is Kind.AUTHORIZATION and now.captured_minor):
        return Situation.REVERSED
    if kind is Kind.AUTHORIZATION:
        if original.approved_minor == 0:
            return Situation.VERIFIED
        if now.held_minor:
            return Situation.HELD
        return Situation.CAPTURED if now.captured_minor else Situation.REVERSED
    return Situation.PURCHASED if kind is Kind.PURCHASE else Situation.REFUND


def _increment_situation(kind: Kind, increment: Original, original: Original | None) -> Situation:
    """A reversal of an approved increment changes the authorization under it, so that both are one sequence."""
    if kind is not Kind.REVERSAL or original is None:
        return Situation.OTHER_KIND
    key, now = increment.stored.intent.key, standing(original)
    if now.reversed or any(change.undoes == key for change in original.changes):
        return Situation.REVERSED
    if now.held_minor >= increment.approved_minor:
        return Situation.INCREMENT
    return Situation.CAPTURED if now.held_minor or now.captured_minor else Situation.REVERSED


def _return_situation(original: Original, state: Situation, amount_minor: int, currency: str) -> Situation:
    """Refund and chargeback: money goes back to the card."""
    now = standing(original)
    if state is Situation.HELD and now.captured_minor:
        state = Situation.CAPTURED  # partly captured: that part can go back
    if state not in (Situation.CAPTURED, Situation.PURCHASED):
        return state
    if now.left_minor <= 0:
        return Situation.NOTHING_LEFT
    return _measure(original, amount_minor, currency, now.left_minor) or state


def _measure(original: Original, amount_minor: int, currency: str, left_minor: int) -> Situation | None:
    if currency != original.stored.intent.currency:
        return Situation.WRONG_CURRENCY
    if amount_minor <= 0:
        return Situation.ZERO
    return Situation.TOO_MUCH if amount_minor > left_minor else None


def rules_table(kind: Kind) -> str:
    """The rows of `RULES` for a kind in Markdown."""
    lines = ["| the original | DE 39 | reason | books |", "|---|---|---|---|"]
    for (of, stands), ruling in RULES.items():
        if of is kind:
            booked = "ends the original" if ruling.close_original else f"{ruling.event or '–'}"
            lines.append(f"| {stands.replace('_', ' ')} | {ruling.response_code} | `{ruling.reason}` | {booked} |")
    return "\n".join(lines)
