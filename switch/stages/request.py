"""A request on its way: its message, and the findings of the stages so far."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from hsm.commands import Screened
from ledger.journal import Kind
from messages.message import Message
from switch.links.permissions import Permitted

if TYPE_CHECKING:
    from switch.links.session import Session
    from switch.links.settings import AcquirerLink
    from switch.message_set import Way
    from switch.routing.choice import Taken
    from switch.routing.table import RoutingTable


class Decline(msgspec.Struct, frozen=True):
    """A stage says no. `response_code` is DE 39; `reason` a constant of ours, free of the peer's data."""

    response_code: str
    reason: str
    detail: str = ""


NOTHING_SCREENED = Screened()
EVERYTHING = Permitted(None)


class Request:
    """One request of an acquirer.

    `message` and `frame` hold card data: they live as long as the request is served and go nowhere else.
    Stages fill in the rest: `screen` everything up to `original_key`, `identify` the card, `route` the issuer.

    Attributes:
        permitted: messages that its link may send.
        way: the party that decides it.
        stated: further elements that are kept with the intent, free of card data.
        table: the routes as they were when its card was identified: it was asked for as many digits as they look at.
        reference: DE 90 for the issuer, which knows the original by other numbers; "" for none.
        proved: whether it is the peer's, as far as the link can say: its MAC is right, or there is none. Nobody else
            gets an answer under our MAC, or with elements of his choice.
        judged: whether its connection knows that it is new or a repeat, or that this cannot be found out.
    """

    __slots__ = (
        "amount_minor",
        "arrived_at",
        "card",
        "cashback_minor",
        "currency",
        "final",
        "frame",
        "judged",
        "key",
        "kind",
        "link",
        "local_time",
        "message",
        "mti",
        "original_key",
        "permitted",
        "proved",
        "reference",
        "route",
        "session",
        "started",
        "stated",
        "table",
        "trace_id",
        "transmitted_at",
        "way",
    )

    def __init__(
        self,
        link: AcquirerLink,
        session: Session,
        message: Message,
        frame: bytes,
        arrived_at: datetime,
        started: float,
        permitted: Permitted = EVERYTHING,
    ) -> None:
        self.link = link
        self.permitted = permitted
        self.session = session
        self.message = message
        self.frame = frame
        self.arrived_at = arrived_at
        self.started = started
        self.mti = message.mti
        self.kind: Kind | None = None
        self.way: Way | None = None
        self.trace_id = ""
        self.transmitted_at = arrived_at
        self.key = ""
        self.amount_minor = 0
        self.cashback_minor = 0
        self.currency = ""
        self.local_time = ""
        self.final = True
        self.stated: dict[int, str] = {}
        self.original_key: str | None = None
        self.reference = ""
        self.card = NOTHING_SCREENED
        self.route: Taken | None = None
        self.table: RoutingTable | None = None
        self.judged = False
        self.proved = not link.mac_key

    def judge(self, new: bool | None) -> None:
        """Tell the connection, once, whether the request is new; None where that was not found out."""
        if not self.judged:
            self.judged = True
            self.session.judged(new)

    def __repr__(self) -> str:
        return f"Request({self.link.name!r}, {self.mti!r}, trace_id={self.trace_id!r})"
