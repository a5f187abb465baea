"""Small things that tests of links need: a clock that jumps, and the far end of a connection, written out by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
import trio.testing

from messages.codec import Codec
from messages.dialect import load_dialect
from messages.framing import Framing, framing
from messages.message import Message
from messages.mti import response_mti
from switch.links.network import Wire


def run(script: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine on a clock that jumps."""
    trio.run(script, clock=trio.testing.MockClock(autojump_threshold=0))


class Peer:
    """The other end of one connection, on messages.

    Attributes:
        frames: payloads as they came, with their headers.
    """

    def __init__(self, wire: Wire, dialect: str = "iso87-ascii", framed: Framing | None = None) -> None:
        self.wire = wire
        self.codec = Codec(load_dialect(dialect))
        self.frames: list[bytes] = []
        self._framing = framed or framing()
        self._decoder = self._framing.decoder()
        self._ready: list[bytes] = []

    async def send(self, message: Message, answered: bytes = b"") -> None:
        await self.wire.send(self._framing.encode(self.codec.encode(message), answered))

    async def receive(self) -> Message | None:
        """The next message; None at the end of the connection."""
        while not self._ready:
            data = await self.wire.receive()
            if not data:
                return None
            self._ready += self._decoder.receive(data)
        frame = self._ready.pop(0)
        self.frames.append(frame)
        return self.codec.decode(frame)

    async def asked(self, message: Message) -> Message | None:
        """Send, and return the next message that comes."""
        await self.send(message)
        return await self.receive()

    async def answer(self, request: Message, code: str = "00") -> None:
        """Answer the request that came last."""
        await self.send(answer_to(request, code), self.frames[-1])


def answer_to(request: Message, code: str = "00") -> Message:
    kept: dict[int, str] = {
        number: request.elements[number] for number in (7, 11, 32, 41, 70) if number in request.elements
    }
    kept[39] = code
    return Message(response_mti(request.mti), kept)
