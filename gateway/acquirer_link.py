"""The way to the switch: messages in, their answers out, over N sockets that sign on, echo and come back by themselves.

`gateway.courier` calls `exchange`; messages that the switch starts (chargeback advices, echoes) go to the `on_advice`
handler and are answered with its result. Nothing is stored here: the sender has stored the message before.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from gateway.errors import AnswerOverdue, LinkBusy, LinkDown
from gateway.metrics import Metrics
from messages.address import unix_path
from messages.codec import Codec
from messages.errors import MessagesError
from messages.exchange import de7, pairing_key
from messages.framing import framing
from messages.message import Message
from messages.mti import canonical_mti, is_response, response_mti

SIGN_ON, SIGN_OFF, ECHO = "001", "002", "301"  # DE 70
_CONNECT_S = 5.0
_MANAGEMENT_S = 5.0
_BACKOFF_S, _BACKOFF_CAP_S = 0.05, 5.0
_MAX_ADVICES = 64  # from the switch, being handled at once on a connection; it repeats what is left out
_ECHOED = (2, 3, 4, 7, 11, 32, 37, 41, 42, 49, 70)

Handler = Callable[[Message], Awaitable[str | None]]
"""Takes a request of the switch's, returns DE 39 of the answer, or None where it is not to be answered."""

log = structlog.get_logger("gateway.link")


class AcquirerLink:
    """N connections to one switch, used in turn.

    Args:
        name: the link's name. address: of the switch, as `address_of` has it. codec: of the link's dialect.
        connections: number of sockets. acquirer_id: DE 32 of sign-on and echo.
        max_in_flight: messages without an answer, over all connections.
        echo_s: silence after which a connection is tried with an echo.
    """

    def __init__(
        self,
        name: str,
        address: tuple[str, int],
        codec: Codec,
        on_advice: Handler,
        metrics: Metrics,
        *,
        connections: int,
        acquirer_id: str,
        max_in_flight: int,
        echo_s: float,
    ) -> None:
        self.name = name
        self.address = address
        self.codec = codec
        self.on_advice = on_advice
        self.metrics = metrics
        self.acquirer_id = acquirer_id
        self.echo_s = echo_s
        self._wanted = connections
        self._max_in_flight = max_in_flight
        self._up: list[_Connection] = []
        self._signed_on = asyncio.Event()
        self._turn = 0
        self._waiting: dict[tuple[str, ...], tuple[asyncio.Future[Message], _Connection]] = {}

    @property
    def signed_on(self) -> bool:
        return bool(self._up)

    async def wait_signed_on(self, timeout_s: float) -> bool:
        """True as soon as a connection is signed on, False after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._signed_on.wait(), timeout_s)
        return self.signed_on

    async def run(self) -> None:
        """Keep all connections up until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._wanted):
                group.create_task(self._keep(number))

    async def exchange(self, message: Message, timeout_s: float) -> Message:
        """Send a request and return its answer.

        Raises:
            LinkDown: no connection is signed on, or the one it was sent on was lost: it may have arrived.
            AnswerOverdue: no answer within `timeout_s`.
            LinkBusy: too many in flight; it was not sent.
            MessagesError: the dialect cannot express it; it was not sent.
        """
        if not self._up:
            raise LinkDown("no connection to the switch is signed on")
        key = pairing_key(message)
        if len(self._waiting) >= self._max_in_flight or key in self._waiting:
            raise LinkBusy(f"{len(self._waiting)} messages are in flight")
        self._turn += 1
        connection = self._up[self._turn % len(self._up)]
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[key] = (answer, connection)
        try:
            async with asyncio.timeout(timeout_s):
                await connection.send(message)
                return await answer
        except TimeoutError:
            raise AnswerOverdue(f"no answer within {timeout_s} s") from None
        except OSError as error:
            raise LinkDown(f"the connection was lost: {type(error).__name__}") from None
        finally:
            del self._waiting[key]

    def answered(self, message: Message) -> None:
        """Hand an answer to the task that waits for it; a late one is dropped, because the repeat fetches it again."""
        answer, _ = self._waiting.get(pairing_key(message), (None, None))
        if answer is None or answer.done():
            log.info("late answer", link=self.name, mti=message.mti, response_code=message.elements.get(39))
            return
        answer.set_result(message)

    def joined(self, connection: _Connection) -> None:
        self._up.append(connection)
        self._signed_on.set()
        self.metrics.link_connections.set(len(self._up))
        log.info("signed on", link=self.name, connections=len(self._up))

    def left(self, connection: _Connection) -> None:
        """Forget a connection; a task that waits for an answer on it learns so at once."""
        if connection not in self._up:
            return
        self._up.remove(connection)
        self.metrics.link_connections.set(len(self._up))
        if not self._up:
            self._signed_on.clear()
        for answer, used in self._waiting.values():
            if used is connection and not answer.done():
                answer.set_exception(LinkDown("the connection was lost before the answer came"))
        log.warning("connection lost", link=self.name, connections=len(self._up))

    async def _keep(self, number: int) -> None:
        pause_s = _BACKOFF_S
        while True:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    reader, writer = await _connected(self.address)
                connection = _Connection(self, reader, writer, number)
                try:
                    if await connection.serve():
                        pause_s = _BACKOFF_S
                finally:
                    self.left(connection)
            except (OSError, TimeoutError) as error:
                log.info("no connection", link=self.name, error=type(error).__name__)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, _BACKOFF_CAP_S)


async def _connected(address: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to what `messages.address.address_of` makes of the link's address."""
    if path := unix_path(address[0]):
        return await asyncio.open_unix_connection(path)
    return await asyncio.open_connection(*address)


class _Connection:
    """One socket: signs on, reads until the end, answers the switch's own requests."""

    def __init__(
        self, link: AcquirerLink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self.link = link
        self._reader = reader
        self._writer = writer
        self._framing = framing()
        self._stan = number * 10_000
        self._management: dict[tuple[str, str], asyncio.Future[Message]] = {}
        self._advices: set[asyncio.Task[None]] = set()
        self._heard_at = 0.0

    async def send(self, message: Message) -> None:
        self._writer.write(self._framing.encode(self.link.codec.encode(message)))
        await self._writer.drain()

    async def serve(self) -> bool:
        """Sign on and read until the connection ends; True where it was signed on."""
        reading = asyncio.create_task(self._read())
        signed_on = False
        try:
            signed_on = await self._manage(SIGN_ON)
            if signed_on:
                self.link.joined(self)
                await self._echo_until(reading)
        except asyncio.CancelledError:
            self.link.left(self)
            with contextlib.suppress(Exception):
                await self._send_management(SIGN_OFF)
            raise
        finally:
            reading.cancel()
            for task in self._advices:
                task.cancel()
            self._writer.close()
            await asyncio.gather(reading, *self._advices, return_exceptions=True)
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._writer.wait_closed(), 1.0)
        return signed_on

    async def _echo_until(self, reading: asyncio.Task[None]) -> None:
        """Return when the reader has ended or an echo stays without an answer."""
        loop = asyncio.get_running_loop()
        while not reading.done():
            await asyncio.wait([reading], timeout=self.link.echo_s)
            if reading.done() or loop.time() - self._heard_at < self.link.echo_s:
                continue
            if not await self._manage(ECHO):
                log.warning("echo not answered", link=self.link.name)
                return

    async def _manage(self, code: str) -> bool:
        """Sign-on or echo; True where it was answered with 00."""
        try:
            async with asyncio.timeout(_MANAGEMENT_S):
                answer = await (await self._send_management(code))
        except (TimeoutError, OSError, LinkDown):
            return False
        return answer.elements.get(39) == "00"

    async def _send_management(self, code: str) -> asyncio.Future[Message]:
        self._stan = self._stan % 999_999 + 1
        elements = {7: de7(datetime.now(UTC)), 11: f"{self._stan:06d}", 32: self.link.acquirer_id, 70: code}
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._management = {(elements[7], elements[11]): answer}  # one at a time: an older one is given up
        await self.send(Message("0800", elements))
        return answer

    async def _read(self) -> None:
        """Read until end of stream; a frame that is no message is reported and skipped."""
        decoder = self._framing.decoder()
        loop = asyncio.get_running_loop()
        try:
            while data := await self._reader.read(65_536):
                self._heard_at = loop.time()
                for payload in decoder.receive(data):
                    self._receive(payload)
        except (OSError, MessagesError) as error:
            log.warning("connection broken", link=self.link.name, error=str(error) or type(error).__name__)
        finally:
            for waiting in self._management.values():
                if not waiting.done():
                    waiting.set_exception(LinkDown("the connection was lost"))
                    waiting.exception()  # somebody may have stopped waiting

    def _receive(self, payload: bytes) -> None:
        try:
            message = self.link.codec.decode(payload)
            if not is_response(message.mti):
                self._start_answering(message)
            elif message.mti == "0810":
                key = (message.elements.get(7, ""), message.elements.get(11, ""))
                waiting = self._management.pop(key, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
            else:
                self.link.answered(message)
        except MessagesError as error:
            log.warning("not a message", link=self.link.name, error=str(error), size=len(payload))

    def _start_answering(self, message: Message) -> None:
        if len(self._advices) >= _MAX_ADVICES:
            log.warning("too many advices at once", link=self.link.name, mti=message.mti)
            return
        task = asyncio.create_task(self._answer(message))
        self._advices.add(task)
        task.add_done_callback(self._advices.discard)

    async def _answer(self, message: Message) -> None:
        response_code: str | None = "00"
        if canonical_mti(message.mti) != "0800":
            try:
                response_code = await self.link.on_advice(message)
            except Exception:
                log.exception("advice not handled", link=self.link.name, mti=message.mti)
                return  # no answer: the switch sends it again
        if response_code is None:
            return
        elements = {number: message.elements[number] for number in _ECHOED if number in message.elements}
        with contextlib.suppress(OSError):
            await self.send(Message(response_mti(message.mti), {**elements, 39: response_code}))
