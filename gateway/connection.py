"""One connection to the switch: signs on, reads until the end, answers the switch's own requests.

`gateway.acquirer_link` keeps N of them. If the link has a MAC, each sent message gets one, and each received one is
verified before any other use.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from gateway.errors import LinkDown
from gateway.switch_access import Mac, words
from messages.errors import MessagesError
from messages.exchange import de7
from messages.framing import framing
from messages.message import Message
from messages.mti import canonical_mti, is_response, response_mti

if TYPE_CHECKING:
    from gateway.acquirer_link import AcquirerLink

SIGN_ON, SIGN_OFF, ECHO = "001", "002", "301"  # DE 70
_SERVED = frozenset({SIGN_ON, SIGN_OFF, "201", ECHO})  # of the switch's network management; 201 begins a business day
_MANAGEMENT_S = 5.0
_MAX_ADVICES = 64  # from the switch, being handled at once on a connection; it repeats what is left out
_MAX_VERIFICATIONS = 256  # MACs being verified at once; no more is read meanwhile
_ECHOED = (2, 3, 4, 7, 11, 32, 37, 41, 42, 49, 70)
_HINT = {
    False: "the log of the switch says why",
    True: "the log of the switch says why: it takes the certificate that it pins, and its own mac_key",
}

log = structlog.get_logger("gateway.link")


class Connection:
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
        self._verifications: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(_MAX_VERIFICATIONS)
        self._heard_at = 0.0

    async def send(self, message: Message) -> None:
        """Send a message, with its MAC where the link has one. Raises LinkDown, OSError, MessagesError."""
        mac = self.link.access.mac
        payload = self.link.codec.encode(message) if mac is None else await mac.sealed(message)
        self._writer.write(self._framing.encode(payload))
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
            else:  # the switch says to its own log why it closes a connection, and nothing to the other end
                self.link.metrics.dials_failed.labels("not_signed_on").inc()
                log.warning("not signed on", link=self.link.name, hint=_HINT[self.link.access.mac is not None])
        except asyncio.CancelledError:
            self.link.left(self)
            with contextlib.suppress(Exception):
                await self._send_management(SIGN_OFF)
            raise
        finally:
            reading.cancel()
            tasks = (*self._advices, *self._verifications)
            for task in tasks:
                task.cancel()
            self._writer.close()
            await asyncio.gather(reading, *tasks, return_exceptions=True)
            with contextlib.suppress(Exception):
                # Not wait_for: before Python 3.12 it swallows a cancellation that comes as the connection closes.
                async with asyncio.timeout(1.0):
                    await self._writer.wait_closed()
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
                    await self._receive(payload)
        except (OSError, MessagesError) as error:
            shown = words(error) if isinstance(error, ssl.SSLError) else str(error) or type(error).__name__
            log.warning("connection broken", link=self.link.name, error=shown)
        finally:
            for waiting in self._management.values():
                if not waiting.done():
                    waiting.set_exception(LinkDown("the connection was lost"))
                    waiting.exception()  # somebody may have stopped waiting

    async def _receive(self, payload: bytes) -> None:
        """Take a frame; waits only where as many as there is room for wait for the verdict on their MAC."""
        try:
            message = self.link.codec.decode(payload)
        except MessagesError as error:
            self._unreadable(payload, error)
            return
        if self.link.access.mac is None:
            self._take(message, payload)
            return
        await self._room.acquire()
        task = asyncio.create_task(self._verify(self.link.access.mac, message, payload))
        self._verifications.add(task)
        task.add_done_callback(self._verified)

    async def _verify(self, mac: Mac, message: Message, payload: bytes) -> None:
        """Hand on a message whose MAC is right. Another one is no answer to anything, and is not answered."""
        reason = await mac.problem(message, payload)
        if reason:
            self.link.metrics.mac_failures.labels(reason).inc()
        else:
            self._take(message, payload)

    def _verified(self, task: asyncio.Task[None]) -> None:
        self._verifications.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()):
            log.error("message dropped", link=self.link.name, exc_info=error)

    def _take(self, message: Message, payload: bytes) -> None:
        """Hand on a message with a right MAC."""
        try:
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
            self._unreadable(payload, error)

    def _unreadable(self, payload: bytes, error: MessagesError) -> None:
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
        if canonical_mti(message.mti) == "0800":
            # A key exchange, too, is not served: its keys would have to reach the hsm, which the gateway only asks.
            response_code = "00" if message.elements.get(70) in _SERVED else "12"
        else:
            try:
                response_code = await self.link.on_advice(message)
            except Exception:
                log.exception("advice not handled", link=self.link.name, mti=message.mti)
                return  # no answer: the switch sends it again
        if response_code is None:
            return
        elements = {number: message.elements[number] for number in _ECHOED if number in message.elements}
        with contextlib.suppress(OSError, LinkDown):
            await self.send(Message(response_mti(message.mti), {**elements, 39: response_code}))
