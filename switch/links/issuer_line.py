"""A link that this worker dials: connect, sign on, keep alive, connect again.

The pipeline and the advice sender use `session` while it is signed on; what the issuer starts by itself (0422, 0800)
is served here or handed to `serve`.
"""

from __future__ import annotations

import random
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
from switch.clock import Clock
from switch.errors import WireError
from switch.links.mac import LinkMac
from switch.links.management import sign_on, stans, watch
from switch.links.network import Network
from switch.links.reception import Reception
from switch.links.session import Session
from switch.links.settings import IssuerLink
from switch.links.state import LinkEvent
from switch.meters import Meters, known_code

log = structlog.get_logger("switch.links.issuer_line")

Serve = Callable[["IssuerLine", Session, Message], None]


class IssuerLine:
    """One issuer link of one worker.

    Args:
        serve: takes requests that the issuer starts, their MAC verified; must not wait.
        on_up: called each time the link has signed on.
    """

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
        self.name = link.name
        self.pin_key = link.pin_key
        self.trace_element = link.trace_element
        self.link = link
        self._network = network
        self._clock = clock
        self._rng = rng
        self._meters = meters
        self._serve = serve
        self._on_up = on_up
        self._codec = Codec(load_dialect(link.dialect))
        self._framing = framing(link.framing, link.max_frame)
        self.mac = LinkMac(link.name, link.mac_key, link.mac_management, self._codec, hsm, meters)
        self.reception = Reception(
            self.mac, meters, serve=self._served, late=self._late, undecodable=self.undecodable,
            managed=_nothing, verify_requests=True,
        )  # fmt: skip
        self._numbers = stans()
        self._current: Session | None = None
        self._draining = False

    @property
    def session(self) -> Session | None:
        """The connection that carries traffic; None while there is none."""
        current = self._current
        return current if current is not None and current.carries_traffic else None

    @property
    def sessions(self) -> Sequence[Session]:
        return (self._current,) if self._current is not None else ()

    @property
    def pending(self) -> int:
        return len(self._current.pending) if self._current is not None else 0

    def drain(self) -> None:
        """No new request from now on; what waits for an answer still gets it."""
        self._draining = True
        if self._current is not None:
            self._current.moved(LinkEvent.DRAIN)

    async def run(self) -> None:
        """Keep the link up until cancelled. Nothing that a peer or the network does ends this."""
        attempt = 0
        while True:
            try:
                if await self._connection():
                    attempt = 0
            except WireError as error:
                self._meters.count("dials_failed", self.name)
                if attempt == 0:
                    log.warning("issuer_unreachable", link=self.name, error=str(error))
            except Exception:
                self._meters.count("failures", "issuer_line")
                log.exception("issuer_line_failed", link=self.name)
            await trio.sleep(self._backoff_s(attempt))
            attempt = min(attempt + 1, 30)

    def _backoff_s(self, attempt: int) -> float:
        """Doubles from `reconnect_s` to `reconnect_cap_s`; the jitter keeps workers from dialling in step."""
        return float(min(self.link.reconnect_cap_s, self.link.reconnect_s * 2**attempt)) * self._rng.uniform(0.5, 1.0)

    async def _connection(self) -> bool:
        """One connection from dialling to its end; True where it had signed on."""
        wire = await self._network.dial(self.link.address, self.link.dial_timeout_s)
        session = Session(self.name, wire, self._codec, self._framing, self.mac, self, self.link.max_pending)
        self._current = session
        was_up = False
        try:
            async with trio.open_nursery() as nursery:
                # What keeps the link alive ends with it, or the next dial would wait for the next echo.
                nursery.start_soon(_run_to_the_end, session, nursery.cancel_scope)
                if await sign_on(session, next(self._numbers), self._clock, self.link.deadline_s):
                    was_up = True
                    log.info("link_signed_on", link=self.name, peer=session.peer)
                    if self._draining:
                        session.moved(LinkEvent.DRAIN)
                    self._on_up()
                    link = self.link
                    await watch(session, self._numbers, self._clock, link.echo_s, link.deadline_s, link.missed_echoes)
                else:
                    session.close("sign-on was not accepted")
        finally:
            session.close("worker stopped")
            self._current = None
            self._meters.count("sessions_closed", self.name)
            log.warning("link_lost", link=self.name, peer=session.peer, reason=session.close_reason)
        return was_up

    def arrived(self, session: Session, message: Message, frame: bytes) -> None:
        self.reception.arrived(session, message, frame)

    def _served(self, session: Session, message: Message, frame: bytes) -> None:
        self._serve(self, session, message)

    def undecodable(self, session: Session, frame: bytes, error: DecodeError) -> None:
        self._meters.count("undecodable", self.name)
        log.error(
            "undecodable", link=self.name, peer=session.peer, error=str(error), bytes=len(frame),
            dump=masked_hex_dump(frame),
        )  # fmt: skip

    def _late(self, message: Message) -> None:
        """Nobody waits any more. Whoever waited has decided REVERSED and stored the reversal with it, so a late
        approval needs no further word to the issuer: the reversal is sent already, once."""
        code = known_code(message.elements.get(39, ""))
        self._meters.count("late_answers", self.name, code)
        log.warning(
            "late_answer", link=self.name, mti=message.mti, stan=message.elements.get(11, ""), response_code=code
        )


def _nothing() -> None:
    pass


async def _run_to_the_end(session: Session, scope: trio.CancelScope) -> None:
    await session.run()
    scope.cancel()
