"""The acquirer's shell: keeps a connection to the switch and brings each request to its end.

Requests of `simulators.acquirer` go in, ended requests come out. What is not answered in time is repeated, then
reversed until the reversal is acknowledged. Called by the demo, the load generator's end game and tests.
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
from simulators.acquirer import Acquirer
from simulators.acquirer.book import Request
from simulators.errors import MacError, Unanswered, WireLost
from simulators.wire import Wire, dial

log = structlog.get_logger("simulators.acquirer")

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
KEY_TRIES = 3


class AcquirerClient:
    """One connection of one acquirer.

    Args:
        acquirer: the core.
        connect: makes a connection; raises one of `lost` where it cannot.
        framing_name, max_frame: as in `messages.framing`.
        clock: the time of day, aware UTC.
        timeout_s: how long an answer may take before the request is repeated or reversed.
        attempts: messages sent for one request, repeats and reversals together, before `Unanswered`.
        lost: what a wire raises where the connection is gone.
        seed: of the jitter between attempts to connect.
    """

    def __init__(
        self,
        acquirer: Acquirer,
        connect: Callable[[], Awaitable[Wire]],
        *,
        framing_name: str = "2-byte-be",
        max_frame: int = 8192,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        timeout_s: float = 5.0,
        attempts: int = 100,
        lost: tuple[type[Exception], ...] = (WireLost,),
        seed: int = 0,
    ) -> None:
        self.acquirer = acquirer
        self.clock = clock
        self._connect = connect
        self._framing = framing(framing_name, max_frame)
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._lost = lost
        self._random = random.Random(seed)
        self._wire: Wire | None = None
        self._connected = trio.Event()
        self._dropped = trio.Event()
        self._ended: dict[str, trio.Event] = {}

    @property
    def connected(self) -> bool:
        return self._wire is not None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, sign on, receive; connect again when the connection drops. Runs until cancelled."""
        pause_s = FIRST_PAUSE_S
        task_status.started()
        while True:
            try:
                wire = await self._connect()
            except self._lost:
                await trio.sleep(pause_s * self._random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            reason = "closed by the peer"
            try:
                await self._receive_all(wire)
            except self._lost as error:
                reason = str(error)
            except FrameError as error:
                reason = f"framing lost: {error}"
            finally:
                self._wire = None
                self._connected = trio.Event()
                self._dropped.set()
                wire.close()
            log.info("disconnected", link=self.acquirer.profile.link, reason=reason)
            await trio.sleep(FIRST_PAUSE_S)

    async def perform(self, request: Request) -> Request:
        """Send a request and do what an acquirer does until its end is known.

        Returns:
            The same request: approved, declined, reversed or unresolved.
        Raises:
            Unanswered: nothing came back in all attempts; its line stays unsettled.
        """
        return await self._bring_to_its_end(request, request.message)

    async def resume(self, request: Request) -> Request:
        """Like `perform` for a request that was sent before: starts with its repeat."""
        return await self._bring_to_its_end(request, self.acquirer.overdue(request, self.clock()))

    async def exchange(self, message: Message) -> None:
        """Send one message whose answer nobody waits for (an echo)."""
        await self._send(message)

    async def exchange_key(self, kind: str) -> bool:
        """Send the switch a new key, again and again until it answers; whether the switch has it in force.

        Raises:
            LinkKeyError: there is no such key, or no zone master key.
        """
        message = self.acquirer.key_change(kind, self.clock())
        done = len(self.acquirer.key_changes)
        for attempt in range(KEY_TRIES):
            sent = message if attempt == 0 else Message(repeat_mti(message.mti), message.elements)
            await self._send(sent)
            with trio.move_on_after(self._timeout_s):
                while len(self.acquirer.key_changes) == done:  # noqa: ASYNC110 (a simulator, seldom)
                    await trio.sleep(0.02)
            if len(self.acquirer.key_changes) > done:
                return self.acquirer.key_changes[-1] == (kind, "00")
        return False

    async def _bring_to_its_end(self, request: Request, message: Message) -> Request:
        ended = self._ended[request.key] = trio.Event()
        try:
            for attempt in range(self._attempts):
                if not await self._send(message):
                    continue
                if await self._wait(ended) or request.final:
                    self._log_end(request, attempt)
                    return request
                message = self.acquirer.overdue(request, self.clock())
                log.info(
                    "no answer",
                    link=self.acquirer.profile.link,
                    trace_id=self._trace_id(request),
                    stan=request.message.elements[11],
                    next_mti=message.mti,
                )
        finally:
            del self._ended[request.key]
        raise Unanswered(f"{request.key}: no answer in {self._attempts} attempts")

    async def _wait(self, ended: trio.Event) -> bool:
        """True once the request has ended; False after the time-out, or soon after the connection has dropped."""
        dropped = self._dropped
        with trio.move_on_after(self._timeout_s):
            async with trio.open_nursery() as nursery:
                for event in (ended, dropped):
                    nursery.start_soon(_first_of, event, nursery.cancel_scope)
        return ended.is_set()

    async def _send(self, message: Message) -> bool:
        """Send on the connection, waiting for one as long as for an answer; False where there was none."""
        if self._wire is None:
            with trio.move_on_after(self._timeout_s):
                await self._connected.wait()
        wire = self._wire
        if wire is None:
            return False
        try:
            await wire.send(self._framing.encode(self.acquirer.encode(message)))
        except self._lost:
            await trio.sleep(FIRST_PAUSE_S)
            return False
        return True

    async def _receive_all(self, wire: Wire) -> None:
        decoder = self._framing.decoder()
        await wire.send(self._framing.encode(self.acquirer.encode(self.acquirer.sign_on(self.clock()))))
        self._wire = wire
        self._dropped = trio.Event()
        self._connected.set()
        log.info("connected", link=self.acquirer.profile.link, peer=wire.peer)
        while data := await wire.receive():
            for frame in decoder.receive(data):
                for answer in self._received(frame):
                    await wire.send(self._framing.encode(self.acquirer.encode(answer)))

    def _received(self, frame: bytes) -> tuple[Message, ...]:
        try:
            message = self.acquirer.decode(frame)
        except (DecodeError, MacError) as error:
            log.warning("not understood", link=self.acquirer.profile.link, error=str(error), bytes=len(frame))
            return ()
        received = self.acquirer.receive(message, self.clock())
        for request in received.settled:
            if (ended := self._ended.get(request.key)) is not None:
                ended.set()
        return received.answers

    def _log_end(self, request: Request, attempt: int) -> None:
        log.info(
            "ended",
            link=self.acquirer.profile.link,
            trace_id=self._trace_id(request),
            kind=request.kind,
            stan=request.message.elements[11],
            state=str(request.state),
            response_code=request.response_code,
            messages=attempt + 1,
        )

    def _trace_id(self, request: Request) -> str:
        element = self.acquirer.profile.trace_element
        return request.message.elements.get(element, "") if element else ""


@asynccontextmanager
async def open_acquirer(
    acquirer: Acquirer, address: tuple[str, int], *, timeout_s: float = 5.0, attempts: int = 100
) -> AsyncIterator[AcquirerClient]:
    """A client of the switch at host, port over TCP, connected as long as the block runs."""
    client = AcquirerClient(acquirer, lambda: dial(address, timeout_s), timeout_s=timeout_s, attempts=attempts)
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        yield client
        nursery.cancel_scope.cancel()


async def _first_of(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
