"""Stage 6: the request goes to the issuer, and its answer comes back or does not.

The intent (durable by now) and the acquirer's message go in; `switch.stages.dispatch` makes the issuer's message of
them; an `Answered`, `Contradicted`, `NotSent` or `Lost` comes out. The kind of failure decides whether the issuer gets
a reversal.
"""

from __future__ import annotations

import msgspec
import trio

from hsm.commands import Hsm, HsmRefused, HsmUnavailable
from ledger.journal import StoredIntent
from messages.answers import contradiction
from messages.errors import EncodeError
from switch.errors import ExchangeLost, LinkUnavailable
from switch.links.issuer_line import IssuerLine
from switch.stages.answer import APPROVING, FROM_ISSUER, PARTIAL
from switch.stages.chip_answer import may_be_kept
from switch.stages.dispatch import dispatch
from switch.stages.identify import refusal
from switch.stages.request import Decline, Request

LATE = 0.1  # of an issuer's deadline: a worker that sees it later than that is overloaded itself; where bytes of the
LATE_UNREAD = 0.02  # issuer wait unread at that moment, the answer may be among them
FAIR = 0.8  # of its deadline, which an issuer must have had for its silence to count against it


class Answered(msgspec.Struct, frozen=True):
    """The issuer has answered; `told` is what of it the acquirer gets, DE 39 included."""

    told: dict[int, str]


class Contradicted(msgspec.Struct, frozen=True):
    """The issuer has approved something else than it was asked; `element` is the first that says so."""

    element: str
    reason: str
    response_code: str


class NotSent(msgspec.Struct, frozen=True):
    """Nothing has left for the issuer."""

    decline: Decline


class Lost(msgspec.Struct, frozen=True):
    """The request may have reached the issuer, and what it says will not be known in time."""

    reason: str
    ours: bool = False  # whether we were too slow ourselves: it says nothing about the issuer


async def forward(
    request: Request, stored: StoredIntent, line: IssuerLine, hsm: Hsm, expires_at: float
) -> Answered | Contradicted | NotSent | Lost:
    """Send and wait.

    Args:
        expires_at: the deadline on trio's clock.
    """
    session = line.session
    if session is None:
        return NotSent(Decline("91", "issuer_down", f"link {line.name} is not signed on"))
    try:
        outward = await dispatch(request, stored, line, session, hsm)
        if isinstance(outward, Decline):
            return NotSent(outward)
        if trio.current_time() >= expires_at:
            return NotSent(Decline("91", "late_before_sending"))
        answer = await session.exchange(outward.message, expires_at, outward.payload)
    except HsmRefused as refused:
        return NotSent(refusal(refused))
    except HsmUnavailable:
        return NotSent(Decline("96", "hsm_unavailable"))
    except LinkUnavailable as error:
        return NotSent(Decline("91", "issuer_down", str(error)))
    except EncodeError as error:
        return NotSent(Decline("30", "not_expressible", str(error)))
    except ExchangeLost as lost:
        return Lost(str(lost), _is_ours(lost, line.link.deadline_s))
    elements = answer.elements
    if len(elements.get(39, "")) != 2:
        return Lost("the issuer's answer has no DE 39")
    if elements[39] in APPROVING and (problem := contradiction(outward.message, answer)) is not None:
        return Contradicted(problem.path, problem.reason, elements[39])
    told = {number: elements[number] for number in FROM_ISSUER if number in elements}
    if told[39] == PARTIAL and 4 in elements:
        told[4] = elements[4]
    if 55 in told and not may_be_kept(told[55]):
        del told[55]  # the answer is stored, and card data is not
    return Answered(told)


def _is_ours(lost: ExchangeLost, deadline_s: float) -> bool:
    """Whether an answer that did not come in time might have, had we been in time ourselves: the request left late, or
    the deadline was seen late, all the more where something waits unread."""
    if lost.late_s is None:
        return False
    late = LATE_UNREAD if lost.unread else LATE
    return lost.late_s > late * deadline_s or lost.had_s < FAIR * deadline_s
