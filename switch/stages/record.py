"""Stage 4: the request as a durable intent, free of card data; and whether a repeat is one."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from ledger.journal import Intent, Journal, state, stated_elements
from messages.exchange import unmarked_key
from switch.stages.contradiction import ORIGINAL_AMOUNTS
from switch.stages.request import Request

OF_THE_ORIGINAL = (4, ORIGINAL_AMOUNTS)  # stated elements with the amount of the original


def intent_of(request: Request, deadline_s: float) -> Intent:
    """The journal's record of a request.

    Args:
        deadline_s: seconds from arrival to the moment when the answer is overdue.
    """
    assert request.kind is not None
    elements = request.message.elements
    card = request.card
    name = elements.get(43, "")
    return Intent(
        key=request.key,
        kind=request.kind,
        link=request.link.name,
        mti=request.mti,
        processing_code=elements.get(3, ""),
        transmitted_at=request.transmitted_at,
        created_at=request.arrived_at,
        deadline_at=request.arrived_at + timedelta(seconds=deadline_s),
        trace_id=request.trace_id,
        token=card.token,
        fingerprint=card.fingerprint,
        masked_pan=card.masked_pan,
        amount_minor=request.amount_minor,
        currency=request.currency,
        merchant=elements.get(42, "").strip(),
        terminal=elements.get(41, "").strip(),
        mcc=elements.get(18, ""),
        country=name[-2:] if len(name) == 40 and name[-2:].isalpha() else "",
        acquirer_id=elements.get(32, ""),
        rrn=elements.get(37, "").strip(),
        stan=elements[11],
        issuer=request.route.issuer if request.route is not None else "",
        card_country=request.route.country if request.route is not None else "",
        final=request.final,
        original_key=request.original_key,
        cashback_minor=request.cashback_minor,
        local_time=request.local_time,
        stated=state(request.stated) if request.stated else "",
    )


async def with_known_keys(intent: Intent, journal: Journal) -> Intent:
    """The intent under the keys that the journal knows it by.

    Versions before the mark of terminals (`messages.exchange.TERMINAL_MARK`) wrote keys without it. Repeats of such
    messages, and changes of them, count for the terminal that sent them; an older tombstone keeps no sender, and
    counts for either.

    Raises:
        JournalUnavailable: the keys cannot be looked up. Keys without a mark are not looked up.
    """
    known: dict[str, str] = {}
    for name, key in (("key", intent.key), ("original_key", intent.original_key or "")):
        if before := unmarked_key(key):
            sender = await journal.sender_of(before)
            if sender is not None and not sender[0].lstrip("0") and sender[1] in ("", intent.terminal):
                known[name] = before
    return msgspec.structs.replace(intent, **known) if known else intent


def same_request(stored: Intent, repeated: Intent) -> bool:
    """Whether a repeat is the same request as the stored one of its key, from the same acquirer.

    A key names a terminal where its message has no DE 32; digits may be the id of an acquirer just as well.
    """
    return (
        stored.kind is repeated.kind
        and stored.acquirer_id.lstrip("0") == repeated.acquirer_id.lstrip("0")
        and _alike(stored.terminal, repeated.terminal)
        and stored.amount_minor == repeated.amount_minor
        and stored.currency == repeated.currency
        and _alike(stored.fingerprint, repeated.fingerprint)
        and _alike(stored.processing_code, repeated.processing_code)
        and _alike(stored.merchant, repeated.merchant)  # the merchant that is paid, and echoed in the answer
        and stored.original_key == repeated.original_key
        and stored.final is repeated.final
        and stored.cashback_minor == repeated.cashback_minor
        and _stated_alike(stored, repeated)
    )


def _stated_alike(stored: Intent, repeated: Intent) -> bool:
    """Whether both state the same. Intents of versions that did not compare the original's amount do not keep it, and a
    repeat may leave it out."""
    if stored.stated == repeated.stated:
        return True
    first, again = stated_elements(stored), stated_elements(repeated)
    for number in OF_THE_ORIGINAL:
        if number not in first or number not in again:
            first.pop(number, None)
            again.pop(number, None)
    return first == again


def _alike(stored: str | bytes, repeated: str | bytes) -> bool:
    """Whether no present element contradicts it; a repeat may leave out elements that its type does not need."""
    return stored == repeated or not stored or not repeated
