"""A link that requests go to: a network, an issuer.

The pipeline and the advice sender use `session` while it is signed on; requests that the issuer starts are handed to
`serve`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import structlog

from hsm.commands import Hsm
from messages.message import Message
from switch.clock import Clock
from switch.links.link_end import LinkEnd
from switch.links.network import Network
from switch.links.reception import PAYING
from switch.links.session import Session
from switch.links.settings import IssuerLink
from switch.meters import Meters, known_code
from switch.stages.answer import APPROVING

log = structlog.get_logger("switch.links.issuer_line")

Serve = Callable[["IssuerLine", Session, Message, bytes], None]
# Takes an approval that nobody waits for; True where the same request is known to be declined.
ApprovedLate = Callable[["IssuerLine", Message, bool], None]


class IssuerLine(LinkEnd):
    """One issuer link of one worker.

    Args:
        serve: takes requests that the issuer starts, their MAC verified; must not wait.
        on_up: called each time a connection has signed on.
    """

    link: IssuerLink

    def __init__(
        self,
        link: IssuerLink,
        network: Network,
        clock: Clock,
        rng: random.Random,
        hsm: Hsm,
        meters: Meters,
        serve: Serve,
        on_up: Callable[[], None],
    ) -> None:
        super().__init__(link, network, clock, rng, hsm, meters, on_up, takes=False)
        self.pin_key = link.pin_key
        self.trace_element = link.trace_element
        self._serve = serve
        self.approved_late: ApprovedLate = lambda line, message, declined: None

    @property
    def session(self) -> Session | None:
        """A connection that carries traffic, in turn; None while there is none."""
        return self.connections.next

    @property
    def fit(self) -> bool:
        """Whether requests may be sent to it now."""
        return self.connections.carries_traffic and not self.gate.full

    def _served(self, session: Session, message: Message, frame: bytes) -> None:
        self._serve(self, session, message, frame)

    def _refused(self, session: Session, message: Message, frame: bytes, told: dict[int, str], reason: str) -> None:
        self._meters.count("unexpected", self.name)
        self.reception.refuse(session, message, frame, told)

    def _late(self, message: Message) -> None:
        """Nobody waits any more. Where there was no answer in time, the reversal was stored with the outcome REVERSED,
        so a late approval needs no further word to the issuer. After an earlier decline nothing was stored; that may
        have come over a line of another worker, or before a restart."""
        code = known_code(message.elements.get(39, ""))
        self._meters.count("late_answers", self.name, code)
        log.warning(
            "late_answer", link=self.name, mti=message.mti, stan=message.elements.get(11, ""), response_code=code
        )
        if code in APPROVING and message.mti[1] in PAYING and message.mti[2] == "1":
            self.approved_late(self, message, self.reception.was_declined(message))
