"""A switch on a loopback socket under a test's control: answers, keeps silent, hangs up, charges back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from messages.codec import Codec
from messages.dialect import load_dialect
from messages.framing import framing
from messages.message import Message
from messages.mti import canonical_mti, response_mti

SILENCE = "silence"
HANG_UP = "hang up"
Rule = Callable[[Message], str]


def approve(_: Message) -> str:
    return "00"


class FakeSwitch:
    """Runs in a thread of its own. `rule` gives DE 39, SILENCE or HANG_UP for each message but 0800.

    An answer that was given once is given again for the same key, as the real switch does.
    """

    def __init__(self) -> None:
        self.rule: Rule = approve
        self.received: list[Message] = []
        self.answers: dict[tuple[str, ...], str] = {}
        self.codec = Codec(load_dialect("iso87-ascii"))
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._chargebacks: dict[str, Future[Message]] = {}
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.listen()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def mtis(self) -> list[str]:
        """The types received so far, without network management."""
        return [message.mti for message in self.received if not message.mti.startswith("08")]

    def only(self, mti: str) -> Message:
        [message] = [message for message in self.received if message.mti == mti]
        return message

    def listen(self) -> None:
        self._call(self._listen())

    def hang_up(self) -> None:
        """Stop listening and drop all connections."""
        self._call(self._hang_up())

    def send(self, message: Message) -> Message:
        """Send a request of the switch's own and return its answer."""
        answer: Future[Message] = Future()
        self._chargebacks[message.elements[11]] = answer
        self._call(self._send(message))
        return answer.result(5)

    def close(self) -> None:
        self._call(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(5)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.close()
        await asyncio.sleep(0.02)

    async def _send(self, message: Message) -> None:
        writer = next(iter(self._writers))
        writer.write(framing().encode(self.codec.encode(message)))
        await writer.drain()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        decoder = framing().decoder()
        try:
            while data := await reader.read(65536):
                for payload in decoder.receive(data):
                    self._receive(self.codec.decode(payload), writer)
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _receive(self, message: Message, writer: asyncio.StreamWriter) -> None:
        if message.mti == "0432" or (message.mti == "0810" and message.elements[11] in self._chargebacks):
            self._chargebacks.pop(message.elements[11]).set_result(message)
            return
        self.received.append(message)
        elements = message.elements
        key = (canonical_mti(message.mti), elements[7], elements[11])
        response_code = "00" if message.mti == "0800" else self.answers.get(key) or self.rule(message)
        if response_code == HANG_UP:
            writer.close()
        if response_code in (HANG_UP, SILENCE):
            return
        self.answers[key] = response_code
        echoed = {number: elements[number] for number in (3, 4, 7, 11, 32, 37, 41, 42, 49, 70) if number in elements}
        if message.mti in ("0100", "0101", "0200", "0201") and response_code == "00":
            echoed[38] = "A1B2C3"
        answer = Message(response_mti(message.mti), {**echoed, 39: response_code})
        writer.write(framing().encode(self.codec.encode(answer)))


def eventually(condition: Callable[[], Any], timeout_s: float = 5.0) -> Any:
    """The first truthy value of `condition`."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)
    return value
