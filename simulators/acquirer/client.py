"""The acquirer's shell: keeps connections to the switch and brings each request to its end.

Requests of `simulators.acquirer` go in, ended requests come out. An unanswered request is repeated, then reversed until
the reversal is acknowledged. Called by the demo, the load generator's end game, scenarios and tests.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog
import trio

from messages.errors import DecodeError, FrameError
from messages.framing import framing
from messages.message import Message
from messages.mti import repeat_mti
from simulators.acquirer.book import Request, State
from simulators.acquirer.core import Acquirer
from simulators.acquirer.faults import CONTRADICTING, MAC_KINDS, decide
from simulators.errors import MacError, Unanswered, WireLost
from simulators.faults import Fault, FaultTable
from simulators.issuer.line import Line, garbage
from simulators.wire import Wire, dial

log = structlog.get_logger("simulators.acquirer")

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
KEY_TRIES = 3
UNREPEATED = frozenset({"repeat", "late-reversal"})  # faults that are sent like anything else, with something after it


class _Waiter:
    """Somebody who waits for an answer, and the line that it should come by."""

    __slots__ = ("line", "woken")

    def __init__(self) -> None:
        self.woken = trio.Event()
        self.line: Line | None = None


class AcquirerClient:
    """The connections of one acquirer.

    Args:
        acquirer: the core.
        connect: makes a connection; raises one of `lost` where it cannot.
        framing_name, max_frame, header, header_bytes: as in `messages.framing`.
        clock: the time of day, aware UTC.
        timeout_s: longest wait for an answer before the request is repeated or reversed.
        attempts: messages sent for one request, repeats and reversals together, before `Unanswered`.
        lost: exceptions of a wire whose connection is gone.
        seed: of the jitter between attempts to connect, and of garbage.
        connections: number of connections; messages take turns.
        faults: faults in sent messages.
    """

    def __init__(
        self,
        acquirer: Acquirer,
        connect: Callable[[], Awaitable[Wire]],
        *,
        framing_name: str = "2-byte-be",
        max_frame: int = 8192,
        header: str | int = "",
        header_bytes: bytes = b"",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        timeout_s: float = 5.0,
        attempts: int = 100,
        lost: tuple[type[Exception], ...] = (WireLost,),
        seed: int = 0,
        connections: int = 1,
        faults: FaultTable | None = None,
    ) -> None:
        self.acquirer = acquirer
        self.clock = clock
        self.faults = faults
        self._connect = connect
        self._framing = framing(framing_name, max_frame, header=header, header_bytes=header_bytes)
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._lost = lost
        self._random = random.Random(seed)
        self._connections = connections
        self._lines: list[Line] = []
        self._turn = 0
        self._away_until = -1.0  # trio's clock: no new connection before
        self._connected = trio.Event()
        self._waiters: dict[str, _Waiter] = {}
        self._nursery: trio.Nursery | None = None
        self._reversing = 0  # late reversals that wait or are under way

    @property
    def connected(self) -> bool:
        return bool(self._lines)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, sign on, receive; connect again when the connection drops. Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            for _ in range(self._connections):
                nursery.start_soon(self._keep)

    async def wait_connected(self, timeout_s: float) -> bool:
        """Wait for a connection; whether there is one."""
        with trio.move_on_after(timeout_s):
            await self._connected.wait()
        return self.connected

    async def quiet(self) -> None:
        """Wait until no late reversal waits or is under way."""
        while self._reversing:  # noqa: ASYNC110 (at the end of a run)
            await trio.sleep(FIRST_PAUSE_S)

    async def perform(self, request: Request) -> Request:
        """Send a request and do what an acquirer does until its end is known.

        Returns:
            The same request: approved, declined, reversed, abandoned or unresolved.
        Raises:
            Unanswered: nothing came back in all attempts; its line stays unsettled.
        """
        return await self._bring_to_its_end(request, request.message)

    async def resume(self, request: Request) -> Request:
        """Like `perform` for a request that was sent before: starts with its repeat."""
        return await self._bring_to_its_end(request, self.acquirer.overdue(request, self.clock()))

    async def exchange(self, message: Message) -> None:
        """Send one message whose answer nobody waits for (an echo)."""
        await self._send(message, None)

    async def exchange_key(self, kind: str) -> bool:
        """Send the switch a new key, again and again until it answers; whether the switch has it in force.

        Raises:
            LinkKeyError: there is no such key, or no zone master key.
        """
        message = self.acquirer.key_change(kind, self.clock())
        done = len(self.acquirer.key_changes)
        for attempt in range(KEY_TRIES):
            sent = message if attempt == 0 else Message(repeat_mti(message.mti), message.elements)
            await self._send(sent, None)
            with trio.move_on_after(self._timeout_s):
                while len(self.acquirer.key_changes) == done:  # noqa: ASYNC110 (a simulator, seldom)
                    await trio.sleep(0.02)
            if len(self.acquirer.key_changes) > done:
                return self.acquirer.key_changes[-1] == (kind, "00")
        return False

    # One request

    async def _bring_to_its_end(self, request: Request, message: Message | None) -> Request:
        waiter = self._waiters[request.key] = _Waiter()
        attempt = 0
        try:
            while message is not None and attempt < self._attempts:
                attempt += 1
                waiter.woken = trio.Event()
                if not await self._send(message, request):
                    continue
                if not request.final:
                    with trio.move_on_after(self._timeout_s):
                        await waiter.woken.wait()
                if request.final:
                    break
                message = self.acquirer.overdue(request, self.clock())
                self._log_silence(request, message)
        finally:
            del self._waiters[request.key]
        if request.final:
            self._log_end(request, attempt)
            return request
        raise Unanswered(f"{request.key}: no answer in {self._attempts} attempts")

    async def _send(self, message: Message, request: Request | None) -> bool:
        """Send on the next connection, waiting for one as long as for an answer; False where there was none."""
        if not self._lines:
            await self.wait_connected(self._timeout_s)
        if not self._lines:
            return False
        self._turn += 1
        line = self._lines[self._turn % len(self._lines)]
        if request is not None and request.key in self._waiters:
            self._waiters[request.key].line = line
        fault = decide(self.faults, message) if request is not None else None
        try:
            if fault is None:
                await line.send(self._framing.encode(self.acquirer.encode(message)))
            else:
                await self._send_badly(fault, line, message, request)
        except self._lost:
            await trio.sleep(FIRST_PAUSE_S)
            return False
        return True

    # Faults

    async def _send_badly(self, fault: Fault, line: Line, message: Message, request: Request | None) -> None:
        log.info("fault", link=self.acquirer.profile.link, mti=message.mti, fault=fault.name)
        spoiled = fault.kind if fault.kind in MAC_KINDS else ""
        data = self.acquirer.encode(message, spoiled=spoiled)
        frame = self._framing.encode(data)
        match fault.kind:
            case "silence":
                return
            case "disconnect-before":
                line.wire.close()
            case "refuse":
                self._away_until = trio.current_time() + fault.delay_s
                line.wire.close()
            case "disconnect-after":
                await line.send(frame)
                line.wire.close()
            case "duplicate":
                await line.send(frame + frame)
            case "garbage":
                await line.send(self._framing.encode(garbage(len(data), self._random)))
            case "half-frame":
                await line.send_half(frame)
                self._start(self._close_later, line)
            case "reorder":
                line.send_after_next(frame, fault.delay_s)
            case "byte-at-a-time":
                line.send_slowly(frame, fault.delay_s)
            case "delay" | "late":
                self._start(self._send_later, line, frame, fault.delay_s)
            case "repeat":
                await line.send(frame)
                repeat = Message(repeat_mti(message.mti), message.elements)
                again = self._framing.encode(self.acquirer.encode(repeat))
                self._start(self._send_later, line, again, fault.delay_s)
            case kind if kind in CONTRADICTING:
                if (wrong := self.acquirer.contradicting(kind, message, self.clock())) is not None:
                    await line.send(self._framing.encode(self.acquirer.encode(wrong)))
                await line.send(frame)
            case _:
                await line.send(frame)
                if fault.kind == "late-reversal" and request is not None and not request.is_("advice"):
                    self._start(self._reverse_later, request, fault.delay_s)

    async def _send_later(self, line: Line, frame: bytes, delay_s: float) -> None:
        await trio.sleep(delay_s)
        try:
            await line.send(frame)
        except self._lost:
            return  # the connection has gone meanwhile, and the message with it

    async def _close_later(self, line: Line) -> None:
        await trio.sleep(self._timeout_s)
        line.wire.close()

    async def _reverse_later(self, request: Request, delay_s: float) -> None:
        """Take back what may have been answered by now, as a terminal does that has printed no receipt."""
        self._reversing += 1
        try:
            await trio.sleep(delay_s)
            taken_back = request.state in (State.ASKED, State.APPROVED) and request.reversal is None
            if taken_back and not request.open_changes and not request.is_("free"):
                reversal = self.acquirer.give_up(request, self.clock())
                await self._bring_to_its_end(reversal, reversal.message)
        except Unanswered as error:
            log.warning("unanswered", link=self.acquirer.profile.link, error=str(error))
        finally:
            self._reversing -= 1

    def _start(self, job: Callable[..., Awaitable[None]], *arguments: object) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(job, *arguments)

    # Connections

    async def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            await trio.sleep_until(self._away_until)
            try:
                wire = await self._connect()
            except self._lost:
                await trio.sleep(pause_s * self._random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            reason = await self._converse(wire)
            log.info("disconnected", link=self.acquirer.profile.link, reason=reason)
            await trio.sleep(FIRST_PAUSE_S)

    async def _converse(self, wire: Wire) -> str:
        """Serve a connection until it ends; returns why it did."""
        reason = "closed by the peer"
        line = None
        try:
            async with trio.open_nursery() as nursery:
                line = Line(wire, nursery, self._lost)
                await self._receive_all(line)
                nursery.cancel_scope.cancel()
        except* FrameError as errors:
            reason = f"framing lost: {errors.exceptions[0]}"
        except* self._lost as errors:
            reason = str(errors.exceptions[0])
        finally:
            if line in self._lines:
                self._lines.remove(line)
            if not self._lines and self._connected.is_set():
                self._connected = trio.Event()
            for waiter in self._waiters.values():
                if waiter.line is line:
                    waiter.woken.set()  # no answer will come by this connection
            wire.close()
        return reason

    async def _receive_all(self, line: Line) -> None:
        decoder = self._framing.decoder()
        await line.send(self._framing.encode(self.acquirer.encode(self.acquirer.sign_on(self.clock()))))
        self._lines.append(line)
        self._connected.set()
        log.info("connected", link=self.acquirer.profile.link, peer=line.wire.peer)
        while data := await line.wire.receive():
            for frame in decoder.receive(data):
                for answer in self._received(frame):
                    await line.send(self._framing.encode(self.acquirer.encode(answer), frame))
            decoder.receive(b"")  # raises where whole frames came before a broken one

    def _received(self, frame: bytes) -> tuple[Message, ...]:
        try:
            message = self.acquirer.decode(frame)
        except (DecodeError, MacError) as error:
            log.warning("not understood", link=self.acquirer.profile.link, error=str(error), bytes=len(frame))
            return ()
        received = self.acquirer.receive(message, self.clock())
        for request in received.settled:
            if (waiter := self._waiters.get(request.key)) is not None:
                waiter.woken.set()
        return received.answers

    # Log

    def _log_silence(self, request: Request, message: Message | None) -> None:
        log.info(
            "no answer",
            link=self.acquirer.profile.link,
            trace_id=self._trace_id(request),
            stan=request.message.elements[11],
            next_mti="" if message is None else message.mti,
        )

    def _log_end(self, request: Request, attempt: int) -> None:
        log.info(
            "ended",
            link=self.acquirer.profile.link,
            trace_id=self._trace_id(request),
            kind=request.kind,
            stan=request.message.elements[11],
            state=str(request.state),
            response_code=request.response_code,
            messages=attempt,
        )

    def _trace_id(self, request: Request) -> str:
        element = self.acquirer.profile.trace_element
        return request.message.elements.get(element, "") if element else ""


@asynccontextmanager
async def open_acquirer(
    acquirer: Acquirer,
    address: tuple[str, int],
    *,
    timeout_s: float = 5.0,
    attempts: int = 100,
    framing_name: str = "2-byte-be",
) -> AsyncIterator[AcquirerClient]:
    """A client of the switch at host, port over TCP, connected as long as the block runs."""
    client = AcquirerClient(
        acquirer,
        lambda: dial(address, timeout_s),
        framing_name=framing_name,
        timeout_s=timeout_s,
        attempts=attempts,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        yield client
        nursery.cancel_scope.cancel()
