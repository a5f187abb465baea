"""Stage 6: the request goes to the issuer, and its answer comes back or does not.

The intent (durable by now), the acquirer's message and the HSM's help go in; an `Answered`, `NotSent` or `Lost` comes
out. The difference between the last two decides whether the issuer is told to undo something.
"""

from __future__ import annotations

import msgspec
import trio

from hsm.commands import Dispatch, Dispatched, Hsm, HsmRefused, HsmUnavailable
from ledger.journal import StoredIntent, network_stan
from messages.card import pan_of
from messages.errors import EncodeError
from messages.exchange import de7
from messages.message import Message
from switch.config import AcquirerLink
from switch.errors import ExchangeLost, LinkUnavailable
from switch.issuer_line import IssuerLine
from switch.stages.answer import FROM_ISSUER
from switch.stages.identify import refusal
from switch.stages.request import Decline, Request

# Elements that go on to the issuer as they came. DE 2, 7, 11, 14, 35 and 52 have rules of their own.
FORWARDED = (3, 4, 12, 13, 18, 22, 23, 25, 32, 33, 37, 41, 42, 43, 48, 49, 54, 55)


class Answered(msgspec.Struct, frozen=True):
    """The issuer has answered; `told` is what of it the acquirer gets, DE 39 included."""

    told: dict[int, str]


class NotSent(msgspec.Struct, frozen=True):
    """Nothing has left for the issuer."""

    decline: Decline


class Lost(msgspec.Struct, frozen=True):
    """The request may have reached the issuer, and what it says will not be known in time."""

    reason: str


async def forward(
    request: Request, stored: StoredIntent, line: IssuerLine, hsm: Hsm, expires_at: float
) -> Answered | NotSent | Lost:
    """Send and wait.

    Args:
        expires_at: the deadline on trio's clock.
    """
    session = line.session
    if session is None:
        return NotSent(Decline("91", "issuer_down", f"link {line.name} is not signed on"))
    dispatched = await _dispatch(request, line, hsm)
    if isinstance(dispatched, Decline):
        return NotSent(dispatched)
    if trio.current_time() >= expires_at:
        return NotSent(Decline("91", "late_before_sending"))
    message = issuer_message(request, stored, dispatched, line.trace_element)
    try:
        answer = await session.exchange(message, expires_at)
    except LinkUnavailable as error:
        return NotSent(Decline("91", "issuer_down", str(error)))
    except EncodeError as error:
        return NotSent(Decline("30", "not_expressible", str(error)))
    except ExchangeLost as lost:
        return Lost(str(lost))
    elements = answer.elements
    if len(elements.get(39, "")) != 2:
        return Lost("the issuer's answer has no DE 39")
    return Answered({number: elements[number] for number in FROM_ISSUER if number in elements})


def needs_dispatch(link: AcquirerLink, message: Message) -> bool:
    """A clear PAN without a PIN needs no help from the HSM on the way out."""
    return link.surrogate or 52 in message.elements


def issuer_message(
    request: Request, stored: StoredIntent, dispatched: Dispatched | None, trace_element: int | None
) -> Message:
    """The request as the issuer sees it: our DE 7 and DE 11, the true card number, the PIN under the issuer's key.

    Args:
        dispatched: from the HSM; None where the acquirer's own DE 2 and 14 go on.
    """
    given = request.message.elements
    intent = stored.intent
    elements = {number: given[number] for number in FORWARDED if number in given}
    elements[7] = de7(intent.created_at)
    elements[11] = network_stan(stored.intent_id)
    if dispatched is None:
        elements[2] = pan_of(request.message)
        for number in (14, 35):
            if number in given:
                elements[number] = given[number]
    else:
        elements[2] = dispatched.pan
        if expiry := given.get(14) or dispatched.expiry:
            elements[14] = expiry
        if 35 in given and not request.link.surrogate:
            elements[35] = given[35]
        if dispatched.pin_block:
            elements[52] = dispatched.pin_block.hex().upper()
    if trace_element is not None:
        elements[trace_element] = request.trace_id
    return Message(intent.mti, elements)


async def _dispatch(request: Request, line: IssuerLine, hsm: Hsm) -> Dispatched | Decline | None:
    link, message = request.link, request.message
    if not needs_dispatch(link, message):
        return None
    pin_block = message.elements.get(52, "")
    if pin_block and not (link.pin_key and line.pin_key):
        return Decline("57", "pin_not_served", "one of the two links has no PIN key")
    try:
        return await hsm.dispatch(
            Dispatch(
                token=request.card.token,
                pin_block=bytes.fromhex(pin_block),
                pin_key_in=link.pin_key if pin_block else "",
                pin_key_out=line.pin_key if pin_block else "",
                trace_id=request.trace_id,
            )
        )
    except HsmRefused as refused:
        return refusal(refused)
    except HsmUnavailable:
        return Decline("96", "hsm_unavailable")
