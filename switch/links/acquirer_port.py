"""A link that requests come from: an acquirer, a processor, our own gateway.

`serve` gets each request that the link's limits let through; answers to advices that we sent go to the pending table of
their session. Unreadable messages, and those above the limits, are refused here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from hsm.commands import Hsm
from messages.message import Message
from messages.mti import is_management, is_repeat
from switch.clock import Clock
from switch.links.limits import OverLimit, Place
from switch.links.link_end import LinkEnd
from switch.links.mac import MISSING, WRONG
from switch.links.network import Network
from switch.links.session import Session
from switch.links.settings import AcquirerLink
from switch.links.state import LinkState
from switch.meters import Meters, known_code

Serve = Callable[["AcquirerPort", Session, Message, bytes], None]
Refuse = Callable[["AcquirerPort", Session, Message, bytes, dict[int, str], str], None]


class AcquirerPort(LinkEnd):
    """One acquirer link of one worker.

    Args:
        serve: takes each request, and calls the session's `served` once it is over; must not wait.
        refuse: answers a request that goes no further, with DE 39 and the like, for a reason; must not wait.
        on_up: called when a connection is ready for advices.
        places: the link's share of the worker's places; None for as many as it may have by itself.
    """

    link: AcquirerLink

    def __init__(
        self,
        link: AcquirerLink,
        network: Network,
        clock: Clock,
        rng: random.Random,
        hsm: Hsm,
        meters: Meters,
        serve: Serve,
        refuse: Refuse,
        on_up: Callable[[], None],
        places: int | None = None,
    ) -> None:
        super().__init__(link, network, clock, rng, hsm, meters, on_up, takes=True, places=places)
        self._serve = serve
        self._refuse = refuse

    @property
    def session(self) -> Session | None:
        """A connection that advices can go to: the one that was opened last; None while there is none."""
        for session in reversed(self.sessions):
            if session.carries_traffic:
                return session
        return None

    def _served(self, session: Session, message: Message, frame: bytes) -> None:
        if session.state is LinkState.DRAINING:
            self._turn_away(session, message, frame, "draining")
            return
        try:
            place = self.gate.ask()
        except OverLimit as over:
            self._over_limit(session, message, frame, over)
            return
        if place is None:
            self._serve(self, session, message, frame)
        elif not session.start(self._queued, place, session, message, frame):
            self.gate.give_up(place)
            self._meters.count("unanswered", "overloaded")

    async def _queued(self, place: Place, session: Session, message: Message, frame: bytes) -> None:
        """Wait for a place."""
        try:
            await self.gate.wait(place, math.inf)
        except OverLimit as over:
            self._over_limit(session, message, frame, over)
        else:
            self._serve(self, session, message, frame)

    def _over_limit(self, session: Session, message: Message, frame: bytes, over: OverLimit) -> None:
        self._meters.count("over_limit", self.name, over.limit)
        self._turn_away(session, message, frame, "overloaded")

    def _turn_away(self, session: Session, message: Message, frame: bytes, reason: str) -> None:
        if is_repeat(message.mti):  # its original may be approved
            self._meters.count("unanswered", reason)
        elif not self.mac.covers(message.mti) or is_management(message.mti):  # `Reception` has verified cut-overs
            self._refuse(self, session, message, frame, {39: "91"}, reason)
        elif not session.start(self._turn_away_verified, session, message, frame, reason):
            self._meters.count("unanswered", "overloaded")

    async def _turn_away_verified(self, session: Session, message: Message, frame: bytes, reason: str) -> None:
        """Under a MAC key, only an answer to the acquirer itself has our MAC and elements of the request."""
        why = await self.mac.problem(message, frame, session.peer)
        if not why:
            self._refuse(self, session, message, frame, {39: "91"}, reason)
            return
        if why in (MISSING, WRONG):
            session.distrust(why)
        self.answer_unproved(session, message, frame, {39: "63" if why in (MISSING, WRONG) else "91"})

    def _late(self, message: Message) -> None:
        self._meters.count("late_answers", self.name, known_code(message.elements.get(39, "")))

    def _refused(self, session: Session, message: Message, frame: bytes, told: dict[int, str], reason: str) -> None:
        self._refuse(self, session, message, frame, told, reason)
