"""Stage 1: is this a request that the switch serves, with everything in it that its kind needs?

A `Request` with its message goes in; values read from the message go into it, or a `Decline` comes out. Nothing
is awaited, nothing is written.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from ledger.journal import Kind
from messages.card import pan_of
from messages.errors import DecodeError
from messages.exchange import (
    CLOCK_SLACK,
    acquirer_key,
    nearest_time,
    original_time,
    parse_original_data,
    transmission_time,
)
from messages.message import Message
from messages.one_card import card_problem
from messages.trace import is_trace_id, trace_id
from switch.links.freshness import STALE, is_local, original_slack, staleness
from switch.links.state import LinkState
from switch.message_set import (
    ABOUT_MONEY,
    FROM_ACQUIRERS,
    OF_A_DAY,
    OF_AN_ORIGINAL,
    REFERRING,
    SERVED,
    WITH_CARD,
    Form,
    Way,
    form_of,
    missing_element,
)
from switch.stages.amounts import amounts_of, stated_of, withdrawn
from switch.stages.ownership import NOT_PERMITTED, OTHER_ACQUIRER, names_other_acquirer
from switch.stages.request import Decline, Request

DAY_AHEAD, TOO_FAR_AHEAD = "day_ahead", "DE 15: over a day ahead"  # of a cut-over
OTHER_CARD = "more_than_one_card"
SIGNED_OFF, SUSPENDED = "signed_off", "suspended"
# States of a link in which it has no requests served. One that drains has those served that were there before.
OUT_OF_SERVICE: dict[LinkState, Decline] = {
    LinkState.SIGNED_OFF: Decline("58", SIGNED_OFF),
    LinkState.SUSPENDED_OFF: Decline("58", SIGNED_OFF),
    LinkState.CLOSED: Decline("58", SIGNED_OFF),
    LinkState.SUSPENDED: Decline("91", SUSPENDED),
}
# DE 60 of a capture: more will follow, or not.
PARTIAL_CAPTURE = "P"
LOCAL_DIGITS = 10


def screen(request: Request, rng: random.Random) -> Decline | None:
    """Fill in kind, way, key, amounts, trace id, the original's key and what is stated.

    Args:
        rng: makes a trace id where the message carries none.
    """
    message, link = request.message, request.link
    elements = message.elements
    request.trace_id = given_trace_id(message, link.trace_element) or trace_id(rng.getrandbits)
    mti = SERVED.get(message.mti)
    if mti is None:
        return Decline("12", "unknown_mti", f"MTI {message.mti} is not served")
    request.mti = mti
    form = form_of(mti, elements, FROM_ACQUIRERS)
    if isinstance(form, Decline):
        return form
    request.kind, request.way = form.kind, form.way
    return _missing(request, form) or _read(request, form) or _not_permitted(request, form)


def _not_permitted(request: Request, form: Form) -> Decline | None:
    """Objections of the link's permissions to it."""
    refusal = request.permitted.refusal(
        request.mti,
        request.message.elements,
        starts=form.kind in WITH_CARD,
        refers=form.kind in REFERRING,
        forced=form.way is Way.NOTE,
        money=form.kind in ABOUT_MONEY,
        totals=form.kind is Kind.RECONCILIATION,
        amount_minor=request.amount_minor,
        currency=request.currency,
    )
    return None if refusal is None else Decline(refusal.response_code, refusal.reason, refusal.detail)


def given_trace_id(message: Message, trace_element: int | None) -> str:
    """The trace id of a message; "" where it has none, or another value is in its place.

    It goes into logs and the journal, so a peer must not get anything there that could be a card number.
    """
    given = message.elements.get(trace_element, "").strip() if trace_element is not None else ""
    return given if is_trace_id(given) else ""


def _missing(request: Request, form: Form) -> Decline | None:
    elements = request.message.elements
    decline = missing_element(form, elements)
    if decline is not None:
        return decline
    if 32 not in elements and 41 not in elements and form.kind in ABOUT_MONEY:
        return Decline("30", "element_missing", "DE 32 or DE 41 is needed")
    if form.kind in WITH_CARD and not 12 <= len(pan_of(request.message)) <= 19:
        return Decline("30", "element_missing", "DE 2 or DE 35 with 12–19 digits is needed")
    if (other := card_problem(request.message)) is not None:
        return Decline("30", OTHER_CARD, f"{other.path} {other.reason}")
    return OUT_OF_SERVICE.get(request.session.state)


def _read(request: Request, form: Form) -> Decline | None:
    elements = request.message.elements
    link = request.link.name
    local = is_local(request.session.codec.dialect.identification)
    try:
        transmitted_at = transmission_time(elements[7], request.arrived_at)
        original_key = None
        if 90 in elements:
            slack = original_slack(request.link, local=local)
            named = original_key_of(link, elements, request.arrived_at, slack)
            original_key = named if form.kind in OF_AN_ORIGINAL else None
            if names_other_acquirer(elements):
                return Decline(NOT_PERMITTED, OTHER_ACQUIRER, "DE 90 names another institution than DE 32")
        request.transmitted_at = transmitted_at
        if form.way is Way.DESK and form.kind in OF_A_DAY:
            opened = business_day(elements, request.arrived_at)
            if form.kind is Kind.CUT_OVER:
                if is_too_far_ahead(opened, request.arrived_at):
                    return Decline("30", DAY_AHEAD, TOO_FAR_AHEAD)
                request.transmitted_at = opened
    except DecodeError as error:
        return Decline("30", "element_invalid", str(error))
    if why := staleness(request.link, request.mti, elements, transmitted_at, request.arrived_at, local=local):
        return Decline("30", STALE, why)
    request.original_key = original_key
    request.key = acquirer_key(
        link, request.mti, transmitted_at, elements[11], elements.get(32, ""), elements.get(41, "").rstrip()
    )
    amounts = amounts_of(form, elements)
    if isinstance(amounts, Decline):
        return amounts
    refused = withdrawn(form, elements, request.arrived_at, request.link.advice_max_age_s)
    if refused is not None:
        return refused
    request.amount_minor, request.currency = amounts.amount_minor, amounts.currency
    request.cashback_minor = amounts.cashback_minor
    request.local_time = local_time(elements)
    request.final = elements.get(60, "F").strip() != PARTIAL_CAPTURE
    if form.stated:
        request.stated = stated_of(form, elements)
    return None


def original_key_of(link: str, elements: Mapping[int, str], now: datetime, slack: timedelta = CLOCK_SLACK) -> str:
    """The acquirer's key of the message that DE 90 names.

    Terminals leave the institution in DE 90 at zeros: then it is that of the message itself, DE 32, or else its
    terminal, DE 41.

    Args:
        slack: time after `now` that it may be.

    Raises:
        DecodeError: path "DE 90" or "DE 7".
    """
    original = parse_original_data(elements[90])
    at = original_time(original.transmitted, now, slack)
    acquirer_id = original.acquirer_id or elements.get(32, "")
    return acquirer_key(link, original.mti, at, original.stan, acquirer_id, elements.get(41, "").rstrip())


def business_day(elements: Mapping[int, str], now: datetime) -> datetime:
    """Midnight, UTC, of the business day in DE 15; where there is none, of the day in DE 7.

    Raises:
        DecodeError: path "DE 15": no such day.
    """
    text = elements.get(15, elements[7][:4])
    try:
        return nearest_time(f"{text}000000", now)
    except DecodeError as error:
        raise DecodeError("DE 15", None, "expected a day, MMDD") from error


def is_too_far_ahead(opened: datetime, now: datetime) -> bool:
    """Whether a cut-over opens a day after tomorrow, UTC; `opened` is as `business_day` returns it."""
    return opened.date() > now.astimezone(UTC).date() + timedelta(days=1)


def local_time(elements: Mapping[int, str]) -> str:
    """DE 13 and 12 as MMDDhhmmss; "" where they are not whole."""
    text = elements.get(13, "") + elements.get(12, "")
    return text if len(text) == LOCAL_DIGITS else ""
