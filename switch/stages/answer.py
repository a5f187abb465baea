"""Stage 8: the answer to the acquirer, from the request and the stored outcome.

Echoed elements come from the message that is answered, which for a repeat is the repeat; all others come from the
stored answer. So a repeat gets the same answer but for what the standard changes.
"""

from __future__ import annotations

from ledger.journal import Outcome
from messages.message import Message
from messages.mti import response_mti

# Elements that an answer carries back unchanged where the request had them.
# Source: ISO 8583:1987 table 4, ISO 8583:1993 table 3, "mandatory echo"; 1011, 1012: DE 11 and 12 of later versions.
ECHOED = (2, 3, 4, 7, 11, 12, 13, 15, 32, 33, 37, 41, 42, 49, 70, 90, 1011, 1012)
# Elements of an issuer's answer that the acquirer gets; the rest is between the issuer and us.
FROM_ISSUER = (38, 39, 54, 55)
PARTIAL = "10"  # DE 39: approved, but less than was asked for; DE 4 has how much
# DE 39 of approvals that go to acquirers; 85: nothing against the account, to a verification.
# Source: ISO 8583:1987 DE 39; 85 as networks use it.
APPROVALS = frozenset({"00", PARTIAL, "85"})
# DE 39 by which an issuer approves; with identification, VIP and track 3 are not passed on, but are in its book.
APPROVING = APPROVALS | {"08", "11", "16"}


def answer_message(request: Message, told: dict[int, str], trace_element: int | None, trace_id: str) -> Message:
    """The answer to `request`.

    Args:
        told: elements that are not echoed, DE 39 included.
        trace_element: where the trace id goes; None for nowhere.
    """
    given = request.elements
    elements = {number: given[number] for number in ECHOED if number in given}
    elements.update(told)
    if trace_element is not None:
        elements[trace_element] = trace_id
    return Message(response_mti(request.mti), elements)


def told_by(outcome: Outcome) -> dict[int, str]:
    """The stored part of an answer."""
    told = dict(outcome.answer)
    told[39] = outcome.response_code
    if outcome.auth_code:
        told[38] = outcome.auth_code
    return told
