"""All connections of one link in one worker: dialled or accepted, secured, signed on, kept alive, replaced.

`AcquirerPort` and `IssuerLine` own one each and say what is done with messages; nothing here knows which of the two it
serves, so either end may dial in either role. Nothing that a peer or the network does ends `run`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import structlog
import trio

from messages.codec import Codec
from messages.framing import Framing
from messages.log_rate import LogRate, Rate
from switch.clock import Clock
from switch.errors import WireError
from switch.links.conduct import (
    ACCEPTED_BURST,
    ACCEPTED_PER_S,
    STRANGERS_BURST,
    STRANGERS_PER_S,
    Admission,
    Conduct,
    Pace,
)
from switch.links.limits import Gate
from switch.links.mac import LinkMac
from switch.links.management import AGREED, Ask, Told, echo, on_each, sign_off, sign_on, stans, watch
from switch.links.network import Acceptor, Network, Wire
from switch.links.session import Listener, Session
from switch.links.settings import AcquirerLink, IssuerLink
from switch.links.state import LinkEvent
from switch.links.tls import HandshakeFailed, TlsEnd
from switch.links.unix_socket import users_of
from switch.meters import Meters
from switch.wake import Signal

log = structlog.get_logger("switch.links.connections")

MAX_DOUBLINGS = 30
WATCH_S = 1.0  # at most so often are connections looked at that may be half dead
REFUSALS = Rate(5, 5)  # lines of connections that are not taken, a second and reason
SPARED_S = 5.0  # a connection that is younger keeps its place, though it has said nothing yet


class Connections:
    """The connections of a link.

    Args:
        listener: receives the messages.
        sends, takes: limits of the requests that go and that come, see `Session`.
        on_up: called each time a connection begins to carry traffic.
    """

    def __init__(
        self,
        link: AcquirerLink | IssuerLink,
        network: Network,
        clock: Clock,
        rng: random.Random,
        meters: Meters,
        *,
        codec: Codec,
        framing: Framing,
        mac: LinkMac,
        listener: Listener,
        on_up: Callable[[], None],
        sends: Gate | None = None,
        takes: Gate | None = None,
    ) -> None:
        self.sessions: list[Session] = []  # the one that was opened last behind
        self.suspended = False
        self.signed_off = False  # by an operator: connections that we dial do not sign on by themselves
        self.address = link.listen or link.address
        self._peer_users = users_of(link.peer_users)
        self.tls = TlsEnd(link, link.tls) if link.tls is not None else None
        self._link = link
        self._network = network
        self._clock = clock
        self._rng = rng
        self._meters = meters
        self._codec = codec
        self._framing = framing
        self._mac = mac
        self._listener = listener
        self._sends = sends
        self._takes = takes
        self._on_up = on_up
        self._numbers = stans()
        self._admission = Admission(link.per_address)
        self._accepting = Pace(ACCEPTED_PER_S, ACCEPTED_BURST)
        self._strangers = Pace(STRANGERS_PER_S, STRANGERS_BURST)
        self._refusals: LogRate[str] = LogRate(REFUSALS)
        self._acceptor: Acceptor | None = None
        self._opening = 0  # accepted, not yet sessions: handshakes
        self._one_less = Signal()
        self._unfinished = Signal()  # something has begun that must not take for ever
        self._draining = False
        self._turn = 0

    # Calls for the owner

    @property
    def next(self) -> Session | None:
        """A connection that carries traffic, in turn; None where there is none."""
        sessions = self.sessions
        count = len(sessions)
        for _ in range(count):
            self._turn = (self._turn + 1) % count
            session = sessions[self._turn]
            if session.carries_traffic:
                return session
        return None

    @property
    def carries_traffic(self) -> bool:
        return any(session.carries_traffic for session in self.sessions)

    def suspend(self) -> None:
        """No traffic from now on, on connections that come, too; they stay, and so do echoes."""
        if not self.suspended:
            log.warning("link_suspended", link=self._link.name)
        self.suspended = True
        for session in self.sessions:
            session.moved(LinkEvent.SUSPEND)

    def resume(self) -> None:
        """Traffic again, where the link is signed on."""
        if self.suspended:
            log.warning("link_resumed", link=self._link.name)
        self.suspended = False
        for session in self.sessions:
            session.moved(LinkEvent.RESUME)
        if self.carries_traffic:
            self._on_up()

    async def sign_on(self) -> list[Told]:
        """Sign on, on every connection that is open; new ones do so by themselves again, where that is ours to do."""
        self.signed_off = False
        told = await self._on_each(self._signing_on)
        if self.carries_traffic:
            self._on_up()
        return told

    async def sign_off(self) -> list[Told]:
        """Sign off, on every connection; those that come later stay signed off, too, until `sign_on`."""
        self.signed_off = True
        log.warning("link_signed_off", link=self._link.name)
        return await self._on_each(sign_off)

    async def echo(self) -> list[Told]:
        """Send an echo on every connection."""
        return await self._on_each(echo)

    async def _signing_on(self, session: Session, stan: str, clock: Clock, timeout_s: float) -> str:
        code = await sign_on(session, stan, clock, timeout_s)
        if self.signed_off:  # by an operator, while the peer took its time: the last command counts
            session.moved(LinkEvent.SIGNED_OFF)
        return code

    async def _on_each(self, ask: Ask) -> list[Told]:
        return await on_each(self.sessions, ask, self._numbers, self._clock, self._link.answer_s)

    def reload_certificates(self) -> bool:
        """Take the TLS files as they are now, for the handshakes that come; False where they cannot be used."""
        return self.tls is None or self.tls.reload()

    def certificate_ends_s(self) -> float:
        """Until our certificate ends; infinite where there is none."""
        ends_at = self.tls.ends_at if self.tls is not None else None
        return (ends_at - self._clock.now()).total_seconds() if ends_at is not None else math.inf

    def drain(self) -> None:
        """No new connection and no new request; requests in flight may end."""
        self._draining = True
        if self._acceptor is not None:
            self._acceptor.close()
        for session in self.sessions:
            session.moved(LinkEvent.DRAIN)

    async def end(self) -> None:
        """Close all connections once what they have to send has left."""
        async with trio.open_nursery() as nursery:
            for session in self.sessions:
                nursery.start_soon(session.end)

    # Life

    async def listen(self) -> None:
        """Take the address, where the peer dials. Raises WireError."""
        if not self._link.dials:
            address, shared = self._link.listen, bool(self._link.peer_users)
            self._acceptor = await (
                self._network.listen(address, shared=True) if shared else self._network.listen(address)
            )
            self.address = self._acceptor.address

    async def run(self) -> None:
        """Keep the link up until drained or cancelled."""
        if self._link.dials:
            async with trio.open_nursery() as nursery:
                for _ in range(max(1, self._link.connections)):
                    nursery.start_soon(self._dial)
            return
        async with trio.open_nursery() as watching:
            watching.start_soon(self._watch_all)
            async with trio.open_nursery() as nursery:
                await self._accept(nursery)
            watching.cancel_scope.cancel()

    async def _dial(self) -> None:
        """One connection after the other."""
        attempt = 0
        while not self._draining:
            try:
                if await self._connection(await self._dialled()):
                    attempt = 0
            except WireError as error:
                self._meters.count("dials_failed", self._link.name)
                if attempt == 0:
                    log.warning("link_unreachable", link=self._link.name, error=str(error))
            except Exception:
                self._meters.count("failures", "connections")
                log.exception("connection_failed", link=self._link.name)
            await trio.sleep(self._backoff_s(attempt))
            attempt = min(attempt + 1, MAX_DOUBLINGS)

    def _backoff_s(self, attempt: int) -> float:
        """Doubles from `reconnect_s` to `reconnect_cap_s`; the jitter keeps workers from dialling in step."""
        link = self._link
        return float(min(link.reconnect_cap_s, link.reconnect_s * 2**attempt)) * self._rng.uniform(0.5, 1.0)

    async def _dialled(self) -> Wire:
        return await self._secured(await self._network.dial(self._link.address, self._link.dial_timeout_s))

    async def _accept(self, nursery: trio.Nursery) -> None:
        """Take connections until drained; an address that is lost is taken again."""
        attempt = 0
        while not self._draining:  # the nursery waits for the sessions
            try:
                if self._acceptor is None:
                    await self.listen()
                    attempt = 0
                await self._accept_all(nursery)
            except WireError as error:
                if not self._draining:
                    log.error("address_lost", link=self._link.name, error=str(error))
            except Exception:
                self._meters.count("failures", "connections")
                log.exception("accepting_failed", link=self._link.name)
            if not self._draining:
                await trio.sleep(self._backoff_s(attempt))
                attempt = min(attempt + 1, MAX_DOUBLINGS)

    async def _accept_all(self, nursery: trio.Nursery) -> None:
        acceptor = self._acceptor
        assert acceptor is not None
        try:
            while True:
                while self._link.connections and len(self.sessions) + self._opening >= self._link.connections:
                    await self._one_less.wait()  # a later connection waits for us, or for another worker
                wire = await acceptor.accept()
                if refused := self._refused(wire):
                    self._meters.count("connections_refused", self._link.name, refused)
                    self._log_refused(wire, refused)
                    wire.close()
                else:
                    self._opening += 1
                    nursery.start_soon(self._accepted, wire)
                    # Not for those that are refused: others would wait in the kernel's queue behind them.
                    if wait_s := self._accepting.wait_s(trio.current_time()):
                        await trio.sleep(wait_s)
        finally:
            acceptor.close()
            self._acceptor = None

    def _log_refused(self, wire: Wire, reason: str) -> None:
        left_out = self._refusals.admit(reason, trio.current_time())
        if left_out is not None:
            log.warning(
                "too_many_connections", link=self._link.name, peer=wire.peer, reason=reason,
                connections_before=left_out,
            )  # fmt: skip

    def _refused(self, wire: Wire) -> str:
        """Why a connection is not taken; "" where it is."""
        if reason := self._admission.refuse(wire.peer, trio.current_time()):
            return reason
        if len(self.sessions) + self._opening < self._link.max_connections or self._give_up_one():
            return ""
        self._admission.left(wire.peer)
        return "too_many"

    def _give_up_one(self) -> bool:
        """Close the oldest connection that has said nothing, else the oldest whose peer has not proved who it is, for
        one that may; False where there is none."""
        latest = trio.current_time() - SPARED_S
        older = [session for session in self.sessions if session.open and session.opened_at < latest]
        for session in older:
            if session.silent:
                session.close("no message yet, and another needs its place")
                return True
        for session in older:
            if not session.believed:
                session.close("no message with a right MAC yet, and another needs its place")
                return True
        return False

    async def _watch_all(self) -> None:
        """Close connections that send nothing, or half of something, until cancelled."""
        link = self._link
        while True:
            now = trio.current_time()
            due_at = math.inf
            for session in list(self.sessions):
                ends_at, reason = session.due(link.silent_s, link.frame_s)
                if ends_at <= now:
                    session.close(reason)
                else:
                    due_at = min(due_at, ends_at)
            with trio.move_on_at(due_at):
                await self._unfinished.wait()
                await trio.sleep(WATCH_S)  # later requests are seldom overdue sooner

    async def _accepted(self, wire: Wire) -> None:
        """A connection of the peer's, from the handshake to its end."""
        opening = True
        try:
            secured = await self._secured(wire)
            self._opening, opening = self._opening - 1, False
            await self._connection(secured)
        except HandshakeFailed:  # counted and logged
            self._admission.ended_badly(wire.peer, trio.current_time())
        except WireError as error:
            log.info("connection_lost", link=self._link.name, peer=wire.peer, reason=str(error))
        except Exception:
            self._meters.count("failures", "connections")
            log.exception("connection_failed", link=self._link.name)
        finally:
            if opening:
                self._opening -= 1
            self._admission.left(wire.peer)
            self._one_less.set()

    async def _secured(self, wire: Wire) -> Wire:
        if self._link.on_unix_socket and wire.uid not in self._peer_users:
            wire.close()
            self._meters.count("connections_refused", self._link.name, "peer_user")
            raise WireError(f"user {wire.uid} is not one of the link's")
        if self.tls is None:
            return wire
        try:
            return await self.tls.secured(wire)
        except HandshakeFailed as failed:
            self._meters.count("handshakes_failed", self._link.name, failed.reason)
            log.warning("handshake_failed", link=self._link.name, peer=wire.peer, error=str(failed))
            raise

    async def _connection(self, wire: Wire) -> bool:
        """One connection to its end; True where it has carried traffic and something came."""
        link = self._link
        session = Session(
            link.name, wire, self._codec, self._framing, self._mac, self._listener, link.max_in_flight,
            sends=self._sends, takes=self._takes, conduct=self._conduct(),
            on_half_frame=self._unfinished.set,
        )  # fmt: skip
        if self.suspended:
            session.moved(LinkEvent.SUSPEND)
        self.sessions.append(session)
        self._unfinished.set()
        log.info("connected", link=link.name, peer=session.peer)
        try:
            async with trio.open_nursery() as nursery:
                # Its keep-alive tasks end with the connection, or the next dial would wait for the next echo.
                nursery.start_soon(_run_to_the_end, session, nursery.cancel_scope)
                await self._keep_up(session)
        finally:
            session.close("worker stopped")
            self.sessions.remove(session)
            self._count_end(session)
        return session.was_up and session.heard

    def _conduct(self) -> Conduct:
        """Facts about the peer of a connection at its beginning."""
        link = self._link
        if link.dials:
            return Conduct()
        verified = link.tls is not None and link.tls.require_client_certificate
        return Conduct(
            known=verified or link.on_unix_socket or not self._mac.key, strangers=self._strangers,
            max_bad=link.max_bad_frames, management_per_s=link.management_rate,
        )  # fmt: skip

    async def _keep_up(self, session: Session) -> None:
        """Sign on, if that is ours to do, and echo."""
        link = self._link
        if link.sign_on:
            if not self.signed_off and not await self._signed_on(session):
                session.close("sign-on was not accepted")
                return
        elif not link.must_sign_on and not self.signed_off:
            session.moved(LinkEvent.SIGNED_ON)
        if self._draining:
            session.moved(LinkEvent.DRAIN)
        self._on_up()
        if link.idle_s:
            await watch(
                session, self._numbers, self._clock, link.idle_s, link.answer_s, link.missed_echoes, self._missed
            )

    async def _signed_on(self, session: Session) -> bool:
        code = await self._signing_on(session, next(self._numbers), self._clock, self._link.answer_s)
        if code == AGREED and not self.signed_off:
            log.info("link_signed_on", link=self._link.name, peer=session.peer)
        return code == AGREED

    def _missed(self) -> None:
        self._meters.count("echoes_missed", self._link.name)

    def _count_end(self, session: Session) -> None:
        name = self._link.name
        self._meters.count("sessions_closed", name)
        if session.framing_lost:
            self._meters.count("framing_lost", name)
        if session.misbehaved:
            self._meters.count("misbehaved", name)
        if session.framing_lost or session.misbehaved:
            self._admission.ended_badly(session.peer, trio.current_time())
        tell = log.warning if session.misbehaved or (self._link.dials and not self._draining) else log.info
        tell("disconnected", link=name, peer=session.peer, reason=session.close_reason)


async def _run_to_the_end(session: Session, scope: trio.CancelScope) -> None:
    await session.run()
    scope.cancel()
