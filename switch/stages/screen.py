"""Stage 1: is this a request that the switch serves, with everything in it that its kind needs?

A `Request` with its message goes in; what is read from the message goes into it, or a `Decline` comes out. Nothing
is awaited, nothing is written.
"""

from __future__ import annotations

import random

from ledger.journal import Kind
from messages.card import pan_of
from messages.errors import DecodeError, MoneyError
from messages.exchange import acquirer_key, parse_original_data, transmission_time
from messages.message import Message
from messages.money import alpha_currency
from messages.trace import is_trace_id, trace_id
from switch.links.state import LinkState
from switch.stages.request import Decline, Request

SIGNED_OFF, SUSPENDED = "signed_off", "suspended"
# MTI without its repeat digit → what it is; where it is a table, DE 3's first two digits decide.
# Source: ISO 8583:1987 4.1 and DE 3 (00 goods and services, 01 cash, 20 returns).
KINDS: dict[str, Kind | dict[str, Kind]] = {
    "0100": Kind.AUTHORIZATION,
    "0200": {"00": Kind.PURCHASE, "01": Kind.PURCHASE, "20": Kind.REFUND},
    "0220": Kind.CAPTURE,
    "0400": Kind.REVERSAL,
    "0420": Kind.REVERSAL,
}
CANONICAL: dict[str, str] = {
    mti: canonical for canonical in KINDS for mti in (canonical, canonical[:3] + str(int(canonical[3]) + 1))
}
# What must be there besides the card and who sends it (DE 32 or DE 41). DE 42: the ledger must know whom it owes.
MANDATORY: dict[Kind, tuple[int, ...]] = {
    Kind.AUTHORIZATION: (3, 4, 7, 11, 42, 49),
    Kind.PURCHASE: (3, 4, 7, 11, 42, 49),
    Kind.REFUND: (3, 4, 7, 11, 42, 49),
    Kind.CAPTURE: (4, 7, 11, 49, 90),
    Kind.REVERSAL: (7, 11, 90),
    Kind.CHARGEBACK: (4, 7, 11, 49, 90),
}
WITH_CARD = frozenset({Kind.AUTHORIZATION, Kind.PURCHASE, Kind.REFUND})
# States of a link in which it has no requests served. One that drains has those served that were there before.
OUT_OF_SERVICE: dict[LinkState, Decline] = {
    LinkState.SIGNED_OFF: Decline("58", SIGNED_OFF),
    LinkState.SUSPENDED_OFF: Decline("58", SIGNED_OFF),
    LinkState.CLOSED: Decline("58", SIGNED_OFF),
    LinkState.SUSPENDED: Decline("91", SUSPENDED),
}
# DE 60 of a capture: more will follow, or not.
PARTIAL_CAPTURE = "P"


def screen(request: Request, rng: random.Random) -> Decline | None:
    """Fill in kind, key, amount, currency, trace id and the original's key.

    Args:
        rng: makes a trace id where the message carries none.
    """
    message, link = request.message, request.link
    elements = message.elements
    request.trace_id = given_trace_id(message, link.trace_element) or trace_id(rng.getrandbits)
    mti = CANONICAL.get(message.mti)
    if mti is None:
        return Decline("12", "unknown_mti", f"MTI {message.mti} is not served")
    request.mti = mti
    kind = KINDS[mti]
    if isinstance(kind, dict):
        processing_code = elements.get(3)
        if processing_code is None:
            return Decline("30", "element_missing", "DE 3 is missing")
        found = kind.get(processing_code[:2])
        if found is None:
            return Decline("12", "processing_code", "DE 3: the transaction type is not served")
        kind = found
    request.kind = kind
    return _missing(request, kind) or _read(request, kind)


def given_trace_id(message: Message, trace_element: int | None) -> str:
    """The trace id that a message carries; "" where it has none, or something else stands there.

    It goes into logs and the journal, so a peer must not get anything there that could be a card number.
    """
    given = message.elements.get(trace_element, "").strip() if trace_element is not None else ""
    return given if is_trace_id(given) else ""


def _missing(request: Request, kind: Kind) -> Decline | None:
    elements = request.message.elements
    for number in MANDATORY[kind]:
        if number not in elements:
            return Decline("30", "element_missing", f"DE {number} is missing")
    if 32 not in elements and 41 not in elements:
        return Decline("30", "element_missing", "DE 32 or DE 41 is needed")
    if kind in WITH_CARD and not 12 <= len(pan_of(request.message)) <= 19:
        return Decline("30", "element_missing", "DE 2 or DE 35 with 12–19 digits is needed")
    return OUT_OF_SERVICE.get(request.session.state)


def _read(request: Request, kind: Kind) -> Decline | None:
    elements = request.message.elements
    link = request.link.name
    try:
        request.transmitted_at = transmission_time(elements[7], request.arrived_at)
        original_key = None
        if 90 in elements:
            original = parse_original_data(elements[90])
            at = transmission_time(original.transmitted, request.arrived_at)
            original_key = acquirer_key(
                link, original.mti, at, original.stan, original.acquirer_id, elements.get(41, "").rstrip()
            )
    except DecodeError as error:
        return Decline("30", "element_invalid", str(error))
    request.original_key = original_key
    request.key = acquirer_key(
        link, request.mti, request.transmitted_at, elements[11], elements.get(32, ""), elements.get(41, "").rstrip()
    )
    return read_money(request, kind)


def read_money(request: Request, kind: Kind) -> Decline | None:
    elements = request.message.elements
    amount = elements.get(4, "0")
    if not (amount.isascii() and amount.isdigit()):
        return Decline("13", "amount", "DE 4: expected digits")
    request.amount_minor = int(amount)
    if request.amount_minor == 0 and kind is not Kind.REVERSAL:
        return Decline("13", "amount", "DE 4: must be above zero")
    if 49 in elements:
        try:
            request.currency = alpha_currency(elements[49])
        except MoneyError:
            return Decline("30", "currency", "DE 49: no currency of ISO 4217")
    request.final = elements.get(60, "F").strip() != PARTIAL_CAPTURE
    return None
