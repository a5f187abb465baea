"""A link that acquirers dial: accept connections, answer network management, hand requests to the pipeline.

`serve` gets each request; answers to advices that we sent go to the session's pending table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
import trio

from hsm.commands import Hsm
from messages.codec import Codec
from messages.dialect import load_dialect
from messages.errors import DecodeError
from messages.framing import framing
from messages.mask import masked_hex_dump
from messages.message import Message
from messages.mti import response_mti
from switch.errors import WireError
from switch.links.mac import LinkMac
from switch.links.network import Acceptor, Network, Wire
from switch.links.reception import Reception
from switch.links.session import Session
from switch.links.settings import AcquirerLink
from switch.links.state import LinkEvent
from switch.meters import Meters, known_code
from switch.salvage import salvage

log = structlog.get_logger("switch.links.acquirer_port")

MAX_PENDING = 100  # advices on one connection; the sender has one under way

Serve = Callable[["AcquirerPort", Session, Message, bytes], None]


class AcquirerPort:
    """One acquirer link of one worker.

    Args:
        serve: takes each request; must not wait.
        refuse: answers a request that could be read in part, with DE 39 = 30; must not wait.
        on_up: called when a connection is ready for advices.
    """

    def __init__(
        self,
        link: AcquirerLink,
        network: Network,
        hsm: Hsm,
        meters: Meters,
        serve: Serve,
        refuse: Callable[[AcquirerPort, Session, Message], None],
        on_up: Callable[[], None],
    ) -> None:
        self.name = link.name
        self.link = link
        self.address = link.listen
        self._network = network
        self._meters = meters
        self._serve = serve
        self._refuse = refuse
        self._on_up = on_up
        self._dialect = load_dialect(link.dialect)
        self._codec = Codec(self._dialect)
        self._framing = framing(link.framing, link.max_frame)
        self._mac = LinkMac(link.name, link.mac_key, link.mac_management, self._codec, hsm, meters)
        self.reception = Reception(
            self._mac, meters, serve=self._served, late=self._late, undecodable=self.undecodable,
            managed=self._on_up, verify_requests=False,
        )  # fmt: skip
        self._sessions: list[Session] = []
        self._acceptor: Acceptor | None = None

    @property
    def session(self) -> Session | None:
        """A connection that advices can go to: the one that was opened last; None while there is none."""
        for session in reversed(self._sessions):
            if session.carries_traffic:
                return session
        return None

    @property
    def sessions(self) -> Sequence[Session]:
        return tuple(self._sessions)

    def drain(self) -> None:
        """Accept nothing more, neither connections nor requests."""
        if self._acceptor is not None:
            self._acceptor.close()
        for session in self._sessions:
            session.moved(LinkEvent.DRAIN)

    async def listen(self) -> None:
        """Take the port. Raises WireError."""
        self._acceptor = await self._network.listen(self.link.listen)
        self.address = self._acceptor.address

    async def run(self) -> None:
        """Serve connections until drained or cancelled."""
        assert self._acceptor is not None
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    try:
                        wire = await self._acceptor.accept()
                    except WireError:
                        return  # nursery waits for the sessions
                    if len(self._sessions) >= self.link.max_connections:
                        log.warning("too_many_connections", link=self.name, peer=wire.peer)
                        wire.close()
                    else:
                        nursery.start_soon(self._connection, wire)
        finally:
            self._acceptor.close()

    async def _connection(self, wire: Wire) -> None:
        session = Session(self.name, wire, self._codec, self._framing, self._mac, self, MAX_PENDING)
        if not self.link.must_sign_on:
            session.moved(LinkEvent.SIGNED_ON)
        self._sessions.append(session)
        self._on_up()
        log.info("connected", link=self.name, peer=session.peer)
        try:
            await session.run()
        except Exception:
            self._meters.count("failures", "acquirer_port")
            log.exception("session_failed", link=self.name, peer=session.peer)
        finally:
            self._sessions.remove(session)
            self._meters.count("sessions_closed", self.name)
            log.info("disconnected", link=self.name, peer=session.peer, reason=session.close_reason)

    def arrived(self, session: Session, message: Message, frame: bytes) -> None:
        self.reception.arrived(session, message, frame)

    def _served(self, session: Session, message: Message, frame: bytes) -> None:
        self._serve(self, session, message, frame)

    def _late(self, message: Message) -> None:
        self._meters.count("late_answers", self.name, known_code(message.elements.get(39, "")))

    def undecodable(self, session: Session, frame: bytes, error: DecodeError) -> None:
        """Say so, with a masked dump, and answer DE 39 = 30 where type, DE 7 and DE 11 could be read. The link stays:
        the framing is sound."""
        self._meters.count("undecodable", self.name)
        log.error(
            "undecodable", link=self.name, peer=session.peer, error=str(error), bytes=len(frame),
            dump=masked_hex_dump(frame),
        )  # fmt: skip
        message = salvage(self._codec, self._dialect, frame, error)
        if message is None:
            return
        try:
            response_mti(message.mti)
        except DecodeError:
            return
        self._refuse(self, session, message)
