"""Our end of a link in one worker: its dialect, framing, MAC and connections, and what both roles do alike.

`AcquirerPort` and `IssuerLine` are the two roles: where requests come from, and where they go. Dialling follows from
the settings, not from the role.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import structlog
import trio

from hsm.commands import Hsm
from messages.canonical import canonical_codec
from messages.dialect import load_dialect
from messages.errors import DecodeError, MessagesError, RuleViolation
from messages.exchange import transmission_time
from messages.log_rate import LogRate, Rate
from messages.mask import masked_hex_dump
from messages.message import Message
from messages.mti import is_response, response_mti
from switch.clock import Clock
from switch.links.connections import Connections
from switch.links.freshness import is_local, staleness
from switch.links.limits import Gate
from switch.links.mac import MISSING, WRONG, LinkMac
from switch.links.management import refusal
from switch.links.network import Network
from switch.links.permissions import Permitted
from switch.links.reception import Reception
from switch.links.rules import with_rules_of
from switch.links.session import Session
from switch.links.settings import AcquirerLink, IssuerLink, Link
from switch.meters import Meters
from switch.salvage import reason_told, salvage

log = structlog.get_logger("switch.links.link_end")

DUMPS = Rate(5, 5)  # of frames that are no message, a second and link: each costs as much as twenty frames


class LinkEnd:
    """One link of one worker.

    Attributes:
        link: its settings. `use` replaces them, so code that judges a message reads them once for it.
        permitted: the permissions among them, compiled.

    Args:
        on_up: called each time a connection begins to carry traffic.
        takes: whether the link's limits are about requests that come; else they are about those that go.
        places: the most requests of the link that a worker serves at once, where that is less than `max_in_flight`.
    """

    def __init__(
        self,
        link: AcquirerLink | IssuerLink,
        network: Network,
        clock: Clock,
        rng: random.Random,
        hsm: Hsm,
        meters: Meters,
        on_up: Callable[[], None],
        *,
        takes: bool,
        places: int | None = None,
    ) -> None:
        self.link = link
        self.name = link.name
        self.dialect = load_dialect(link.dialect)
        self.codec = canonical_codec(self.dialect, clock.now)
        self.mac = LinkMac(link.name, link.mac_key, link.mac_management, self.codec, hsm, meters)
        most = link.max_in_flight if places is None else min(link.max_in_flight, places)
        self.gate = Gate(most, link.queue, link.queue_s, link.rate)
        self.reception = Reception(
            self.mac, meters, serve=self._served, late=self._late, undecodable=self.undecodable,
            managed=on_up, verify_requests=not takes,
            echoes=any(rule.echo for rule in self.dialect.rules.values()),
            stale=self._stale,
        )  # fmt: skip
        self.connections = Connections(
            link, network, clock, rng, meters,
            codec=self.codec, framing=link.framed(self.dialect), mac=self.mac, listener=self, on_up=on_up,
            takes=self.gate if takes else None, sends=None if takes else self.gate,
        )  # fmt: skip
        self.permitted = Permitted(link.permissions)
        self._meters = meters
        self._clock = clock
        self._takes = takes
        self._dumps: LogRate[str] = LogRate(DUMPS)

    @property
    def sessions(self) -> Sequence[Session]:
        """All connections, the one that was opened last behind."""
        return self.connections.sessions

    @property
    def address(self) -> str:
        """The address where it listens, or that it dials."""
        return self.connections.address

    @property
    def pending(self) -> int:
        """Requests of ours without an answer."""
        return sum(len(session.pending) for session in self.sessions)

    @property
    def in_flight(self) -> int:
        """Requests without an answer, those of ours and those of the peer's that the link's limits have let in."""
        return self.pending + (self.gate.in_flight + self.gate.waiting if self._takes else 0)

    def use(self, link: Link, permitted: Permitted) -> None:
        """Judge each message that arrives from now on by other rules; other settings and the connections stay.

        Args:
            link: the settings of the file, of which `switch.links.rules.RULES` are taken.
            permitted: its permissions, compiled.
        """
        self.link = with_rules_of(self.link, link)
        self.permitted = permitted
        self.gate.limit(link.queue, link.queue_s, link.rate)

    async def listen(self) -> None:
        """Take the address, where the peer dials. Raises WireError."""
        await self.connections.listen()

    async def run(self) -> None:
        """Keep the link up until drained or cancelled."""
        await self.connections.run()

    def drain(self) -> None:
        """No new connection and no new request; requests in flight may end."""
        self.connections.drain()

    def arrived(self, session: Session, message: Message, frame: bytes) -> None:
        self.reception.arrived(session, message, frame)

    def undecodable(self, session: Session, frame: bytes, error: DecodeError) -> None:
        """Say so, with a masked dump, and answer DE 39 = 30 where type, DE 7 and DE 11 could be read.

        The link stays: the framing is sound.
        """
        self._meters.count("undecodable", self.name)
        left_out = self._dumps.admit("", trio.current_time())
        if left_out is not None:
            log.error(
                "undecodable", link=self.name, peer=session.peer, error=str(error), bytes=len(frame),
                dump=masked_hex_dump(frame), frames_before=left_out,
            )  # fmt: skip
        if not isinstance(error, RuleViolation):
            session.distrust(str(error))
            if not session.open:
                return
        message = salvage(self.codec, self.dialect, frame, error)
        if message is None or not _is_request(message.mti):
            return
        if not self.mac.covers(message.mti, message.elements.get(70, "")):
            self._refuse_bad(session, message, frame, error)
        elif not session.start(self._refuse_verified, session, message, frame, error):
            self._meters.count("unanswered", "overloaded")

    async def _refuse_verified(self, session: Session, message: Message, frame: bytes, error: DecodeError) -> None:
        """Under a MAC key, only the answer to the peer has our MAC: a stranger gets nothing of his choice under it."""
        why = await self.mac.problem(message, frame, session.peer, in_part=True)
        if not why:
            self._refuse_bad(session, message, frame, error)
        elif why in (MISSING, WRONG):
            if isinstance(error, RuleViolation):
                session.distrust(why)
            self.answer_unproved(session, message, frame, {39: "30", **reason_told(self.dialect, error)})
        else:  # the hsm is away: the peer repeats
            self._meters.count("unanswered", "mac")

    def answer_unproved(self, session: Session, message: Message, frame: bytes, told: dict[int, str]) -> None:
        """Answer a message whose MAC is not right, or was not looked at: without ours, and with no elements of the
        request but those that pair the two."""
        try:
            session.send(self.codec.encode(refusal(message, told)), frame)
        except MessagesError:
            self._meters.count("unanswered", "not_expressible")

    def _refuse_bad(self, session: Session, message: Message, frame: bytes, error: DecodeError) -> None:
        reason = "rule" if isinstance(error, RuleViolation) else "undecodable"
        self._refused(session, message, frame, {39: "30", **reason_told(self.dialect, error)}, reason)

    def _refused(self, session: Session, message: Message, frame: bytes, told: dict[int, str], reason: str) -> None:
        """A request that goes no further."""
        raise NotImplementedError

    def _served(self, session: Session, message: Message, frame: bytes) -> None:
        """A request that is no network management."""
        raise NotImplementedError

    def _late(self, message: Message) -> None:
        """An answer that nobody waits for."""
        raise NotImplementedError

    def _stale(self, message: Message) -> str:
        """Why network management is not taken. Without DE 7 it cannot be distinguished from a recorded one."""
        now = self._clock.now()
        try:
            sent_at = transmission_time(message.elements.get(7, ""), now)
        except DecodeError as error:
            return str(error)
        local = is_local(self.dialect.identification)
        return staleness(self.link, message.mti, message.elements, sent_at, now, local=local)


def _is_request(mti: str) -> bool:
    """Whether there is an answer to it."""
    try:
        if is_response(mti):
            return False
        response_mti(mti)
    except DecodeError:
        return False
    return True
