"""What an acquirer knows about each of its requests: states, transitions and the effect of each answer; pure.

Answers from the switch go in by `answered`; the request's standing, which becomes a book line, changes. Called by
`simulators.acquirer`.
"""

from __future__ import annotations

from enum import StrEnum

from messages.message import Message
from messages.money import alpha_currency


class State(StrEnum):
    """Where a request stands, as the acquirer knows."""

    ASKED = "asked"  # sent, perhaps repeated
    REVERSING = "reversing"  # given up: being reversed
    APPROVED = "approved"
    DECLINED = "declined"
    REVERSED = "reversed"
    UNRESOLVED = "unresolved"  # even the reversal was refused: somebody has to look


class Event(StrEnum):
    APPROVED = "approved"
    DECLINED = "declined"
    GIVEN_UP = "given up"
    UNDONE = "undone"  # its reversal was acknowledged
    NOT_UNDONE = "not undone"  # its reversal was refused


# What is not in the table changes nothing: an approval that comes while the reversal is under way, for instance.
TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.ASKED, Event.APPROVED): State.APPROVED,
    (State.ASKED, Event.DECLINED): State.DECLINED,
    (State.ASKED, Event.GIVEN_UP): State.REVERSING,
    (State.ASKED, Event.UNDONE): State.REVERSED,
    (State.REVERSING, Event.UNDONE): State.REVERSED,
    (State.REVERSING, Event.NOT_UNDONE): State.UNRESOLVED,
    (State.APPROVED, Event.UNDONE): State.REVERSED,
}
FINAL = frozenset({State.APPROVED, State.DECLINED, State.REVERSED, State.UNRESOLVED})

# Which answers end a message. All others to an advice or reversal ("91", "96") mean: ask again.
APPROVALS = frozenset({"00"})
REVERSAL_DONE = frozenset({"00", "25"})  # 25: the switch never saw the original, and will decline it if it comes
ASK_AGAIN = frozenset({"91", "96"})


class Request:
    """One message of the acquirer with its own key; for authorizations, purchases and refunds also its book line.

    Attributes:
        key: acquirer's key. kind: authorization, purchase, refund, capture or reversal.
        message: as first sent. response: the answer that ended it. original: what it changes.
        held_minor, posted_minor, currency: as in `BookLine`.
        open_changes: captures and reversals of it that are not answered yet.
        reversal: the reversal that was started because no answer came.
    """

    __slots__ = (
        "currency",
        "held_minor",
        "key",
        "kind",
        "message",
        "open_changes",
        "original",
        "posted_minor",
        "repeats",
        "response",
        "reversal",
        "state",
    )

    def __init__(self, key: str, kind: str, message: Message, original: Request | None) -> None:
        self.key = key
        self.kind = kind
        self.message = message
        self.original = original
        self.state = State.ASKED
        self.response: Message | None = None
        self.reversal: Request | None = None
        self.currency = alpha_currency(message.elements[49])
        self.held_minor = 0
        self.posted_minor = 0
        self.open_changes = 0
        self.repeats = 0

    def __repr__(self) -> str:
        return f"Request({self.key!r}, {self.kind}, {self.state})"

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def settled(self) -> bool:
        """Whether the acquirer knows the end, changes under way included."""
        return self.final and self.state is not State.UNRESOLVED and not self.open_changes

    @property
    def response_code(self) -> str:
        """DE 39 of the answer; "" while there is none."""
        return "" if self.response is None else self.response.elements.get(39, "")

    @property
    def amount_minor(self) -> int:
        return int(self.message.elements[4])

    def move(self, event: Event) -> None:
        self.state = TRANSITIONS.get((self.state, event), self.state)


def answered(request: Request, message: Message) -> tuple[Request, ...]:
    """Book an answer; returns every request that has ended by it."""
    code = message.elements.get(39, "")
    if request.final or (request.kind in ("capture", "reversal") and code in ASK_AGAIN):
        return ()
    approved = code in (REVERSAL_DONE if request.kind == "reversal" else APPROVALS)
    before = request.state
    request.move(Event.APPROVED if approved else Event.DECLINED)
    if request.state is before:
        return ()
    request.response = message
    ended = [request]
    amount = request.amount_minor
    original = request.original
    match request.kind:
        case "authorization":
            request.held_minor = amount if approved else 0
        case "purchase":
            request.posted_minor = amount if approved else 0
        case "refund":
            request.posted_minor = -amount if approved else 0
        case "capture":
            assert original is not None
            original.open_changes -= 1
            if approved:
                final = request.message.elements[60] == "F"
                original.held_minor = 0 if final else max(0, original.held_minor - amount)
                original.posted_minor += amount
        case "reversal":
            assert original is not None
            original.open_changes -= 1
            was_final = original.final
            original.move(Event.UNDONE if approved else Event.NOT_UNDONE)
            if approved:
                original.held_minor = 0
                if original.kind != "authorization":  # what was captured of a hold stays
                    original.posted_minor = 0
            if original.final and not was_final:
                ended.append(original)
    return tuple(ended)
