"""A simulated party's shell: connections of the switch in, answers out; issuers and networks are served by it.

One read of a socket is one batch: every message in it is decoded, answered by the core, and all answers leave in one
send. Delayed and spoiled answers leave by tasks of their own. The party's own requests are sent, and repeated, until
they are acknowledged.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
import trio

from messages.canonical import canonical_codec
from messages.dialect import load_dialect
from messages.errors import DecodeError, EncodeError, FrameError, RuleViolation
from messages.message import Message
from messages.mti import repeat_mti
from simulators.errors import WireLost
from simulators.issuer.actions import Action, Disconnect, Send
from simulators.issuer.desk import ECHOED
from simulators.issuer.line import Line, garbage
from simulators.issuer.party import Party
from simulators.issuer.scenario import LinkScenario
from simulators.sealing import Sealing
from simulators.wire import Wire

MAX_DELAYED = 20_000  # answers waiting for their time; more are sent at once
STARTED_TIMEOUT_S = 3.0
STARTED_TRIES = 20  # of everything but chargebacks, which are sent until they are answered
KEY_TIMEOUT_S = 2.0
KEY_TRIES = 3
BARE = frozenset({*ECHOED, 38, 39})  # of an answer, where its dialect has no room for the rest

log = structlog.get_logger("simulators.issuer")


class IssuerServer:
    """Connections of one party.

    Args:
        issuer: the core.
        scenario: dialect, framing and limits.
        clock: the time of day, aware UTC.
        lost: exceptions of a wire whose connection is gone.
        store: called with records of the book after each batch; None keeps it in memory only.
        heard: called with each message that was understood; for tests that look at them.
    """

    def __init__(
        self,
        issuer: Party,
        scenario: LinkScenario,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        lost: tuple[type[Exception], ...] = (WireLost,),
        store: Callable[[bytes], None] | None = None,
        heard: Callable[[Message], None] | None = None,
    ) -> None:
        self.issuer = issuer
        self.refusing_until = -1.0  # trio's clock
        self.listening = True  # whether refused connections are taken at all
        dialect = load_dialect(scenario.dialect)
        self._codec = canonical_codec(dialect, clock)
        self._sealing = Sealing(self._codec, issuer.keys, management=scenario.mac_management)
        self._framing = scenario.framed(dialect)
        self._log_messages = scenario.log_messages
        self._max_connections = scenario.max_connections
        self._signs_on = scenario.sign_on
        self._random = random.Random(scenario.seed)
        self._clock = clock
        self._lost = lost
        self._store = store
        self._heard = heard
        self._lines: list[Line] = []
        self._delayed = 0
        self._due = trio.Event()

    @property
    def connections(self) -> int:
        return len(self._lines)

    async def serve(self, wire: Wire) -> None:
        """Answer one connection until it ends; closes it."""
        if len(self._lines) >= self._max_connections or trio.current_time() < self.refusing_until:
            log.warning("connection refused", issuer=self.issuer.name, peer=wire.peer)
            wire.close()
            return
        decoder = self._framing.decoder()
        log.info("connected", issuer=self.issuer.name, peer=wire.peer)
        reason = "closed by the peer"
        line = None
        try:
            async with trio.open_nursery() as nursery:
                line = Line(wire, nursery, self._lost)
                self._lines.append(line)
                if self._signs_on:
                    self.manage("sign-on")
                while data := await wire.receive():
                    if not await self._batch(decoder.receive(data), line, nursery):
                        reason = "closed by a fault"
                        break
                    decoder.receive(b"")  # raises where whole frames came before a broken one
                nursery.cancel_scope.cancel()
        except* FrameError as errors:
            reason = f"framing lost: {errors.exceptions[0]}"
        except* self._lost:
            reason = "connection lost"
        finally:
            if line in self._lines:
                self._lines.remove(line)
            wire.close()
            log.info("disconnected", issuer=self.issuer.name, peer=wire.peer, reason=reason)

    async def run_started(self) -> None:
        """Send what the party starts over any connection until each is acknowledged; runs for ever."""
        attempts: dict[tuple[str, str], int] = {}
        while True:
            waiting = self.issuer.open_messages()
            if not waiting:
                attempts.clear()
                self._due = trio.Event()
                await self._due.wait()
                continue
            for message in waiting:
                key = (message.elements[7], message.elements[11])
                if message.mti != "0422" and attempts.get(key, 0) >= STARTED_TRIES:
                    self.issuer.give_up(message)
                elif await self._send_somewhere(message, attempts.get(key, 0)):
                    attempts[key] = attempts.get(key, 0) + 1
            self._due = trio.Event()
            with trio.move_on_after(STARTED_TIMEOUT_S):
                await self._due.wait()

    def chargeback(self, reference: str, amount_minor: int | None = None) -> Message:
        """Start a chargeback; `run_started` delivers it. Errors as in `Party.chargeback`."""
        message = self.issuer.chargeback(reference, self._clock(), amount_minor)
        self._record()
        self._due.set()
        return message

    def list_card(self, pan: str, action: str) -> Message:
        """Tell the switch of a card on the negative list; see `Party.list_card`."""
        message = self.issuer.list_card(pan, action, self._clock())
        self._due.set()
        return message

    def manage(self, what: str, day: str = "") -> Message:
        """Start network management; see `Party.manage`."""
        message = self.issuer.manage(what, self._clock(), day)
        self._due.set()
        return message

    def reconcile(self, day: str, currency: str) -> Message:
        """Send the switch the totals of a day; see `Party.reconcile`."""
        message = self.issuer.reconcile(day, currency, self._clock())
        self._due.set()
        return message

    def refuse(self, seconds: float, *, listening: bool = True) -> None:
        """Drop all connections, and take none for so long."""
        self.refusing_until = trio.current_time() + seconds
        self.listening = listening
        self.drop()

    def drop(self) -> None:
        """Close all connections; new ones are taken."""
        for line in list(self._lines):
            line.wire.close()

    async def exchange_key(self, kind: str) -> bool:
        """Send the switch a new key over any connection, again and again until it answers, for a few seconds.

        Returns:
            Whether the switch has it in force.
        Raises:
            LinkKeyError: there is no such key.
        """
        message = self.issuer.key_change(kind, self._clock())
        done = len(self._key_changes(kind))
        for attempt in range(KEY_TRIES):
            await self._send_somewhere(message, attempt)
            with trio.move_on_after(KEY_TIMEOUT_S):
                while len(self._key_changes(kind)) == done:  # noqa: ASYNC110 (a simulator, seldom)
                    await trio.sleep(0.02)
            if len(changes := self._key_changes(kind)) > done:
                return changes[-1] == "00"
        return False

    async def answer_of(self, message: Message, timeout_s: float = 10.0) -> str:
        """DE 39 of the answer to what was started; "" where none comes in time."""
        with trio.move_on_after(timeout_s):
            while not self.issuer.answer_code(message):  # noqa: ASYNC110 (a simulator, seldom)
                await trio.sleep(0.02)
        return self.issuer.answer_code(message)

    def _key_changes(self, kind: str) -> list[str]:
        return [code for changed, code in self.issuer.key_changes if changed == kind]

    async def _send_somewhere(self, message: Message, attempts: int) -> bool:
        if not self._lines:
            return False
        sent = Message(repeat_mti(message.mti), message.elements) if attempts else message
        line = self._lines[attempts % len(self._lines)]
        try:
            await line.send(self._framing.encode(self._sealing.encode(sent)))
        except self._lost:
            return False
        except (EncodeError, FrameError) as error:
            log.error("inexpressible", issuer=self.issuer.name, mti=sent.mti, error=str(error))
            self.issuer.give_up(message)
            return False
        log.info(
            "sent",
            issuer=self.issuer.name,
            mti=sent.mti,
            trace_id=self.issuer.trace_id(message),
            attempt=attempts + 1,
        )
        return True

    async def _batch(self, frames: list[bytes], line: Line, nursery: trio.Nursery) -> bool:
        """Answer the frames of one read; returns whether the connection goes on."""
        answers: list[bytes] = []
        goes_on = True
        now = self._clock()
        for frame in frames:
            violation = ""
            try:
                message = self._codec.decode(frame)
            except RuleViolation as error:
                message, violation = error.message, str(error)
            except DecodeError as error:
                log.warning(
                    "undecodable", issuer=self.issuer.name, peer=line.wire.peer, error=str(error), bytes=len(frame)
                )
                continue
            for action in self._received(message, frame, now, violation):
                if isinstance(action, Disconnect):
                    goes_on = False
                    if action.refuse_s:
                        self.refuse(action.refuse_s, listening=action.listening)
                else:
                    await self._answer(action, frame, line, nursery, answers)
                    if line.holding:  # held frames leave behind the next answer, not behind the batch
                        await self._flush(line, answers)
                    if self._log_messages:
                        self._log_answer(message, action.message)
            if self.issuer.last_fault is not None:
                self._log_fault(message)
            if not goes_on:
                break
        self._record()
        await self._flush(line, answers)
        return goes_on

    @staticmethod
    async def _flush(line: Line, answers: list[bytes]) -> None:
        if answers:
            frames = b"".join(answers)
            answers.clear()
            await line.send(frames)

    async def _answer(
        self, action: Send, answered: bytes, line: Line, nursery: trio.Nursery, answers: list[bytes]
    ) -> None:
        """Send an answer as its fault wants it; an honest one joins the batch's `answers`."""
        spoiled = action.spoiled if action.spoiled in ("wrong-mac", "missing-mac") else ""
        data, frame = self._expressed(action.message, spoiled, answered)
        if not frame:
            return
        match action.spoiled:
            case "garbage":
                answers.append(self._framing.encode(garbage(len(data), self._random), answered))
            case "half-frame":
                await self._flush(line, answers)
                await line.send_half(frame)
            case "reorder":
                await self._flush(line, answers)  # frames in front of it already do not count as the next one
                line.send_after_next(frame, action.delay_s)
            case "byte-at-a-time":
                await self._flush(line, answers)
                line.send_slowly(frame, action.delay_s)
            case _ if action.delay_s > 0 and self._delayed < MAX_DELAYED:
                nursery.start_soon(self._send_later, line, frame, action.delay_s)
            case _:
                answers.append(frame)

    def _expressed(self, message: Message, spoiled: str, answered: bytes) -> tuple[bytes, bytes]:
        """An answer as message and frame, without what there is no room for in dialect or frame; b"" where none goes.

        It is booked as it is: a peer without an answer asks again, or reverses.
        """
        problem = ""
        for said in (message, Message(message.mti, {n: v for n, v in message.elements.items() if n in BARE})):
            try:
                data = self._sealing.encode(said, spoiled=spoiled)
                return data, self._framing.encode(data, answered)
            except (EncodeError, FrameError) as error:
                problem = problem or str(error)
        log.error("inexpressible", issuer=self.issuer.name, mti=message.mti, error=problem)
        return b"", b""

    def _received(self, message: Message, frame: bytes, now: datetime, violation: str) -> list[Action]:
        if problem := self._sealing.problem(message, frame):
            log.warning("mac refused", issuer=self.issuer.name, mti=message.mti, problem=problem)
            return self.issuer.refuse(message)
        if violation:
            log.warning("malformed", issuer=self.issuer.name, mti=message.mti, problem=violation)
            return self.issuer.malformed(message, violation)
        if self._heard is not None:
            self._heard(message)
        return self.issuer.receive(message, now)

    async def _send_later(self, line: Line, answer: bytes, delay_s: float) -> None:
        self._delayed += 1
        try:
            await trio.sleep(delay_s)
            await line.send(answer)
        except self._lost:
            pass  # the connection has gone meanwhile, and the answer with it
        finally:
            self._delayed -= 1

    def _record(self) -> None:
        if self._store is not None and (records := self.issuer.drain_records()):
            self._store(records)

    def _log_answer(self, request: Message, answer: Message) -> None:
        log.info(
            "answered",
            issuer=self.issuer.name,
            trace_id=self.issuer.trace_id(request),
            mti=request.mti,
            stan=request.elements.get(11, ""),
            response_code=answer.elements.get(39, ""),
        )

    def _log_fault(self, message: Message) -> None:
        fault = self.issuer.last_fault
        assert fault is not None
        log.info(
            "fault",
            issuer=self.issuer.name,
            trace_id=self.issuer.trace_id(message),
            mti=message.mti,
            fault=fault.name,
            delay_s=round(fault.delay_s, 3),
        )
