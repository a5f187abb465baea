"""An acquirer's knowledge of each of its requests: states, transitions and the effect of each answer; pure.

Answers from the switch go in by `answered`; the request's standing, which becomes a book line, changes. Called by
`simulators.acquirer`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from messages.message import Message
from messages.money import alpha_currency


class State(StrEnum):
    """The state of a request, as the acquirer knows it."""

    ASKED = "asked"  # sent, perhaps repeated
    REVERSING = "reversing"  # given up: being reversed
    APPROVED = "approved"
    DECLINED = "declined"
    REVERSED = "reversed"
    ABANDONED = "abandoned"  # given up where no money was at stake
    UNRESOLVED = "unresolved"  # even the reversal was refused: somebody has to look


class Event(StrEnum):
    APPROVED = "approved"
    DECLINED = "declined"
    GIVEN_UP = "given up"
    LEFT = "left"  # given up, and there is nothing to reverse
    UNDONE = "undone"  # its reversal was acknowledged
    NOT_UNDONE = "not undone"  # its reversal was refused


# Other events change nothing: an approval that comes while the reversal is under way, for instance.
TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.ASKED, Event.APPROVED): State.APPROVED,
    (State.ASKED, Event.DECLINED): State.DECLINED,
    (State.ASKED, Event.GIVEN_UP): State.REVERSING,
    (State.ASKED, Event.LEFT): State.ABANDONED,
    (State.ASKED, Event.UNDONE): State.REVERSED,
    (State.REVERSING, Event.UNDONE): State.REVERSED,
    (State.REVERSING, Event.NOT_UNDONE): State.UNRESOLVED,
    (State.APPROVED, Event.UNDONE): State.REVERSED,
}
FINAL = frozenset({State.APPROVED, State.DECLINED, State.REVERSED, State.ABANDONED, State.UNRESOLVED})

# Properties of each kind of request. `line`: it has a line of its own in the book. `changes`: it changes its original,
# which waits for it. `advice`: it is repeated until somebody answers. `free`: no money is at stake, nobody reverses it.
KINDS: dict[str, frozenset[str]] = {
    "authorization": frozenset({"line"}),  # 0100
    "verification": frozenset({"line"}),  # 0100 of zero
    "increment": frozenset({"changes"}),  # 0100 with DE 90
    "inquiry": frozenset({"free"}),  # 0100, DE 3 = 31
    "purchase": frozenset({"line"}),  # 0200, with or without cash
    "refund": frozenset({"line"}),  # 0200, DE 3 = 20
    "authorization advice": frozenset({"line", "advice"}),  # 0120: decided at the terminal
    "purchase advice": frozenset({"line", "advice"}),  # 0220 without DE 90: the same
    "capture": frozenset({"changes", "advice"}),  # 0220
    "reversal": frozenset({"changes", "advice"}),  # 0400, 0420
    "reduction": frozenset({"changes", "advice"}),  # 0400, 0420 with DE 95
    "reconciliation": frozenset({"free", "advice"}),  # 0500, 0520
    "administrative": frozenset({"free", "advice"}),  # 0600, 0620
    "cut-over": frozenset({"free", "advice"}),  # 0800, DE 70 = 201
    "other": frozenset({"free"}),  # anything else that is sent from a file
}

# Which answers end a message. Some do not end an advice or a reversal: the other side, or a key, was away just now.
PARTIAL = "10"
APPROVALS = frozenset({"00", PARTIAL, "85"})  # 85: nothing against the account, to a verification
REVERSAL_DONE = frozenset({"00", "25"})  # 25: the switch never saw the original, and will decline it if it comes
ASK_AGAIN = frozenset({"63", "91", "96"})


class Request:
    """One message of the acquirer with its own key; where its kind has one, also its book line.

    Attributes:
        key: acquirer's key. kind: one of `KINDS`.
        message: as first sent. response: the answer that ended it. original: the request that it changes or gives back.
        held_minor, posted_minor, currency: as in `BookLine`. approved_minor: the amount that the answer granted.
        open_changes: changes of it that are not answered yet.
        reversal: the reversal that was started because no answer came.
    """

    __slots__ = (
        "approved_minor",
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
        self.currency = alpha_currency(message.elements[49]) if 49 in message.elements else ""
        self.approved_minor = 0
        self.held_minor = 0
        self.posted_minor = 0
        self.open_changes = 0
        self.repeats = 0

    def __repr__(self) -> str:
        return f"Request({self.key!r}, {self.kind}, {self.state})"

    def is_(self, trait: str) -> bool:
        """Whether its kind is so; see `KINDS`."""
        return trait in KINDS[self.kind]

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
        """The requested amount; of a reduction the amount to be left."""
        elements = self.message.elements
        return int(elements[95][:12] if self.kind == "reduction" else elements.get(4, "0"))

    def move(self, event: Event) -> None:
        self.state = TRANSITIONS.get((self.state, event), self.state)


def answered(request: Request, message: Message) -> tuple[Request, ...]:
    """Book an answer; returns every request that has ended by it."""
    code = message.elements.get(39, "")
    if request.final or (request.is_("advice") and code in ASK_AGAIN):
        return ()
    undoes = request.kind == "reversal"
    approved = code in (REVERSAL_DONE if undoes else APPROVALS)
    before = request.state
    request.move(Event.APPROVED if approved else Event.DECLINED)
    if request.state is before:
        return ()
    request.response = message
    original = request.original
    ended = [request]
    if request.is_("changes"):
        assert original is not None
        original.open_changes -= 1
    if undoes:
        assert original is not None
        if _undone(original, approved):
            ended.append(original)
    elif approved:
        request.approved_minor = int(message.elements[4]) if code == PARTIAL else request.amount_minor
        EFFECTS.get(request.kind, _nothing)(request)
    return tuple(ended)


def abandon(request: Request) -> None:
    """No answer comes, and nothing is at stake: it has ended."""
    request.move(Event.LEFT)


def _undone(original: Request, done: bool) -> bool:
    """A reversal was answered; whether its original has ended by it."""
    was_final = original.final
    approved_before = original.state is State.APPROVED
    original.move(Event.UNDONE if done else Event.NOT_UNDONE)
    if original.kind == "increment":
        hold = original.original
        assert hold is not None
        if done and approved_before:
            hold.held_minor = max(0, hold.held_minor - original.approved_minor)
        # One for the reversal; one more where it is also the end of the increment.
        hold.open_changes -= 2 if original.final and not was_final else 1
    elif done:
        original.held_minor = 0
        if original.kind not in ("authorization", "authorization advice"):  # the captured part of a hold stays
            original.posted_minor = 0
    return original.final and not was_final


def _holds(request: Request) -> None:
    request.held_minor = request.approved_minor


def _posts(request: Request) -> None:
    request.posted_minor = request.approved_minor


def _gives_back(request: Request) -> None:
    request.posted_minor = -request.approved_minor


def _grows(request: Request) -> None:
    assert request.original is not None
    request.original.held_minor += request.approved_minor


def _shrinks(request: Request) -> None:
    assert request.original is not None
    request.original.held_minor = min(request.approved_minor, request.original.held_minor)


def _captures(request: Request) -> None:
    original, amount = request.original, request.approved_minor
    assert original is not None
    final = not request.message.elements.get(60, "F").startswith("P")
    original.held_minor = 0 if final else max(0, original.held_minor - amount)
    original.posted_minor += amount


def _nothing(request: Request) -> None:
    pass


# The effect of an approval on the book.
EFFECTS: dict[str, Callable[[Request], None]] = {
    "authorization": _holds,
    "authorization advice": _holds,
    "increment": _grows,
    "reduction": _shrinks,
    "capture": _captures,
    "purchase": _posts,
    "purchase advice": _posts,
    "refund": _gives_back,
}
