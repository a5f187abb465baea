"""Small things that tests of links need: a clock that jumps, and the far end of a connection, written out by hand."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import trio
import trio.testing

from hsm.commands import Hsm
from messages.codec import Codec
from messages.dialect import load_dialect
from messages.framing import Framing, framing
from messages.message import Message
from messages.mti import response_mti
from switch.clock import TrioClock
from switch.links.acquirer_port import AcquirerPort
from switch.links.issuer_line import IssuerLine
from switch.links.link_end import LinkEnd
from switch.links.management import refusal
from switch.links.memory_network import MemoryNetwork, Weather
from switch.links.network import Network, Wire
from switch.links.session import Session
from switch.links.settings import AcquirerLink, IssuerLink
from switch.meters import Meters

NO_HSM = cast(Hsm, None)  # of links without keys


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


class Desk:
    """One worker's links on a network in memory, with the calls of their owners.

    Attributes:
        served: requests that `serve` got, with the session they came through and their frame.
        refused: calls of `refuse`: message, DE 39 and the like, reason.
    """

    def __init__(self, seed: int = 0, weather: Weather | None = None, network: Network | None = None) -> None:
        self.rng = random.Random(seed)
        self.memory = MemoryNetwork(random.Random(seed), weather)
        self.network: Network = network or self.memory
        self.meters = Meters()
        self.clock = TrioClock(datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC))
        self.served: list[tuple[Session, Message, bytes]] = []
        self.refused: list[tuple[Message, dict[int, str], str]] = []
        self.ups = 0

    def port(self, **settings: Any) -> AcquirerPort:
        """An acquirer link; it listens on "port:1" where nothing else is said."""
        if "address" not in settings:
            settings.setdefault("listen", "port:1")
        link = AcquirerLink(name="pos", dialect=settings.pop("dialect", "iso87-ascii"), **settings)
        return AcquirerPort(
            link, self.network, self.clock, self.rng, NO_HSM, self.meters, self._serve, self._refuse, self._up
        )

    def line(self, **settings: Any) -> IssuerLine:
        """An issuer link; it dials "issuer:1" where nothing else is said."""
        if "listen" not in settings:
            settings.setdefault("address", "issuer:1")
        link = IssuerLink(name="alpha", dialect=settings.pop("dialect", "iso87-ascii"), **settings)
        return IssuerLine(link, self.network, self.clock, self.rng, NO_HSM, self.meters, self._serve, self._up)

    def _serve(self, end: LinkEnd, session: Session, message: Message, frame: bytes) -> None:
        self.served.append((session, message, frame))

    def _refuse(
        self, end: LinkEnd, session: Session, message: Message, frame: bytes, told: dict[int, str], reason: str
    ) -> None:
        self.refused.append((message, told, reason))
        session.send(session.codec.encode(refusal(message, told)), frame)

    def _up(self) -> None:
        self.ups += 1

    def answer(self, place: int = 0, code: str = "00") -> None:
        """Answer a request that was served, and give its place back."""
        session, message, frame = self.served.pop(place)
        session.send(session.codec.encode(answer_to(message, code)), frame)
        session.served()


def request(stan: int, mti: str = "0200") -> Message:
    elements = {
        2: "4242424242424242",
        3: "000000",
        4: "000000001000",
        7: "0314092653",
        11: f"{stan:06d}",
        32: "10001",
        41: "TERM0001",
        49: "978",
    }
    if mti[1] == "4":
        elements[90] = "0".ljust(42, "0")
    return Message(mti, elements)


def management(code: str, stan: int = 1) -> Message:
    return Message("0800", {7: "0314092653", 11: f"{stan:06d}", 70: code})


async def until(true: Callable[[], object], within_s: float = 30.0) -> None:
    """Return once something holds; on a clock that jumps this costs no time."""
    with trio.fail_after(within_s):
        while not true():  # noqa: ASYNC110 (tests look at states that have no event)
            await trio.sleep(0.01)
