"""Advices as they are stored: messages for an issuer or an acquirer, free of card data.

Intents go in, `AdviceDraft`s come out; they commit with the outcome that calls for them.
"""

from __future__ import annotations

from datetime import datetime

from ledger.book import issuer_mti
from ledger.journal import (
    STAND_IN,
    AdviceDraft,
    Decision,
    Intent,
    Kind,
    Original,
    Outcome,
    StoredIntent,
    network_stan,
    stated_elements,
)
from ledger.lifecycle import Event, standing
from messages.exchange import de7, original_data
from messages.money import numeric_currency
from switch.message_set import DECIDED, Way, way_of
from switch.stages.amounts import CASH_PART

# Events that undo what DE 90 names: its issuer gets a 0420.
UNDONE = frozenset({Event.VOIDED, Event.PURCHASE_REVERSED, Event.REFUND_REVERSED, Event.INCREMENT_REVERSED})
NO_FEES = "C00000000C00000000"  # DE 95 behind its two amounts


def advices_of(stored: StoredIntent, original: Original | None, event: Event | None) -> tuple[AdviceDraft, ...]:
    """Advices that follow from an approved intent; `original` is the intent that it changes, or undoes."""
    if way_of(stored.intent) is Way.NOTE:
        return (elsewhere_draft(stored),)
    if stored.intent.kind is Kind.LATE_APPROVAL and original is not None:
        return (reversal_draft(original.stored, stored.intent.created_at, stored.intent_id, original.outcome),)
    if event is None or original is None:
        return ()
    if event is Event.CAPTURED:
        captured = any(change.kind is Kind.CAPTURE for change in original.changes)
        whole = not captured and stored.intent.amount_minor == standing(original).held_minor
        return (capture_draft(stored, original.stored, original.outcome, whole=whole),)
    if event is Event.REDUCED:
        return (reduction_draft(stored, original),)
    if event is Event.CHARGED_BACK:
        return (chargeback_draft(stored, original.stored),)
    if event in UNDONE:
        return (reversal_draft(original.stored, stored.intent.created_at, stored.intent_id, original.outcome),)
    return ()


def reversal_draft(original: StoredIntent, at: datetime, caller_id: int, outcome: Outcome | None = None) -> AdviceDraft:
    """0420: undo `original` at its issuer.

    Args:
        at: when this was decided; DE 7.
        caller_id: the intent whose outcome carries the draft; gives DE 11.
        outcome: outcome of the original; None: it is a request without an answer.
    """
    intent = original.intent
    elements = _common(intent, at, caller_id)
    elements[4] = f"{intent.amount_minor:012d}"
    elements[90] = as_sent_to_issuer(original, outcome)
    return AdviceDraft(link=intent.issuer, mti="0420", elements=elements, token=intent.token)


def reduction_draft(reduction: StoredIntent, original: Original) -> AdviceDraft:
    """0420 with DE 95: of what was on hold, DE 4, only DE 95 stays. The difference is what counts: the issuer may have
    approved an increment meanwhile that nobody here knows of yet."""
    intent, paid = reduction.intent, original.stored.intent
    elements = _common(paid, intent.created_at, reduction.intent_id)
    elements[4] = f"{standing(original).held_minor:012d}"
    elements[90] = as_sent_to_issuer(original.stored, original.outcome)
    elements[95] = f"{intent.amount_minor:012d}{0:012d}{NO_FEES}"
    return AdviceDraft(link=paid.issuer, mti="0420", elements=elements, token=paid.token)


def elsewhere_draft(stored: StoredIntent) -> AdviceDraft:
    """0120 or 0220: a decision by the acquirer itself."""
    stated = stated_elements(stored.intent)
    return stand_in_draft(stored, {39: "00"} | {number: stated[number] for number in DECIDED if number in stated})


def stand_in_draft(stored: StoredIntent, told: dict[int, str]) -> AdviceDraft:
    """0120 or 0220: a decision in the issuer's place. It has the DE 7 and DE 11 that the request would have had.

    Args:
        told: elements of the answer to the acquirer, DE 39 included.
    """
    intent = stored.intent
    elements = _common(intent, intent.created_at, stored.intent_id)
    elements[4] = f"{intent.amount_minor:012d}"
    if intent.local_time:
        elements[12], elements[13] = intent.local_time[4:], intent.local_time[:4]
    if intent.mcc:
        elements[18] = intent.mcc
    if intent.cashback_minor:
        elements[54] = f"00{CASH_PART}{numeric_currency(intent.currency)}D{intent.cashback_minor:012d}"
    elements.update(told)
    mti = issuer_mti(intent.mti, Decision.APPROVED, STAND_IN)
    return AdviceDraft(link=intent.issuer, mti=mti, elements=elements, token=intent.token)


FUNCTION = 1024  # DE 24 of later versions, which 1987 leaves out
# Source: ISO 8583:1993 annex A.5: 201 an authorization's amount, 202 another one. Neither says whether more will come.
AMOUNT_SAME, AMOUNT_DIFFERS = "201", "202"


def capture_draft(
    capture: StoredIntent, original: StoredIntent, outcome: Outcome | None = None, *, whole: bool = False
) -> AdviceDraft:
    """0220: the posted part of a hold, and whether more will come (DE 60).

    Args:
        whole: whether it is all that was authorized.
    """
    elements = _common(capture.intent, capture.intent.created_at, capture.intent_id)
    elements[4] = f"{capture.intent.amount_minor:012d}"
    elements[60] = "F" if capture.intent.final else "P"
    elements[FUNCTION] = AMOUNT_SAME if whole else AMOUNT_DIFFERS
    elements[90] = as_sent_to_issuer(original, outcome)
    elements.setdefault(3, original.intent.processing_code)
    return AdviceDraft(link=original.intent.issuer, mti="0220", elements=elements, token=original.intent.token)


def chargeback_draft(chargeback: StoredIntent, original: StoredIntent) -> AdviceDraft:
    """0422 to the acquirer, whose own DE 90 identifies the payment; no card number is needed for that."""
    intent, paid = chargeback.intent, original.intent
    elements = _common(paid, intent.created_at, chargeback.intent_id)
    elements[4] = f"{intent.amount_minor:012d}"
    elements[90] = original_data(paid.mti, paid.stan, de7(paid.transmitted_at), paid.acquirer_id.lstrip("0"))
    return AdviceDraft(link=paid.link, mti="0422", elements=elements, token="")


def as_sent_to_issuer(original: StoredIntent, outcome: Outcome | None = None) -> str:
    """DE 90: an earlier message by the MTI, DE 7 and DE 11 that its issuer saw; the advice where stand-in spoke."""
    intent = original.intent
    acquirer_id = intent.acquirer_id.lstrip("0")
    mti = issuer_mti(intent.mti, outcome.decision, outcome.reason) if outcome is not None else intent.mti
    return original_data(mti, network_stan(original.intent_id), de7(intent.created_at), acquirer_id)


def _common(intent: Intent, at: datetime, caller_id: int) -> dict[int, str]:
    """Elements that identify message and payment; fixed-length text is padded as in the dialects."""
    elements = {
        3: intent.processing_code,
        7: de7(at),
        11: network_stan(caller_id),
        32: intent.acquirer_id,
        37: intent.rrn.ljust(12) if intent.rrn else "",
        41: intent.terminal.ljust(8) if intent.terminal else "",
        42: intent.merchant.ljust(15) if intent.merchant else "",
        49: numeric_currency(intent.currency) if intent.currency else "",
    }
    return {number: value for number, value in elements.items() if value}
