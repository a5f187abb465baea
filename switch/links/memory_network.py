"""A network in memory for tests and simulation: ordered byte streams that come late or break.

Replaces `SocketNetwork`. Delays and breaks come from a `Weather`, which draws from a seeded random, so
that a scenario runs the same way again.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

import trio

from switch.errors import WireError
from switch.links.network import RECEIVE_BYTES, Wire
from switch.wake import Signal

MAX_BUFFERED = 4096  # chunks on the way in one direction; more is a runaway test


@dataclass
class Weather:
    """The behaviour of a connection.

    Args:
        delay_s: (shortest, longest) time on the way of each chunk; order is kept.
        break_rate: chance that a chunk is lost and the connection with it, 0–1.
        window: bytes on the way in one direction; a faster sender waits until the other end takes some. 0: no limit.
    """

    delay_s: tuple[float, float] = (0.0005, 0.002)
    break_rate: float = 0.0
    window: int = 0


class _Direction:
    """Chunks on their way from one end to the other."""

    def __init__(self) -> None:
        self.chunks: deque[tuple[float, bytes]] = deque()
        self.size = 0  # bytes of them
        self.ended = False
        self.arrived = Signal()
        self.taken = Signal()

    def take(self, now: float) -> bytes:
        """All that has arrived, about `RECEIVE_BYTES` at most, as a kernel gives it to a reader that was slow."""
        found: list[bytes] = []
        size = 0
        while self.chunks and self.chunks[0][0] <= now and size < RECEIVE_BYTES:
            found.append(self.chunks.popleft()[1])
            size += len(found[-1])
        self.size -= size
        self.taken.set()
        return b"".join(found)


class MemoryWire:
    """One end of a connection."""

    def __init__(
        self, peer: str, inward: _Direction, outward: _Direction, weather: Weather, rng: random.Random
    ) -> None:
        self.peer = peer
        self.uid: int | None = None
        self._inward = inward
        self._outward = outward
        self._weather = weather
        self._rng = rng
        self._closed = False

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self._closed:
            if self._inward.chunks:
                at, _ = self._inward.chunks[0]
                if at <= trio.current_time():
                    return self._inward.take(trio.current_time())
                await trio.sleep_until(at)
            elif self._inward.ended:
                return b""
            else:
                await self._inward.arrived.wait()
        return b""

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self._closed or self._outward.ended or len(self._outward.chunks) >= MAX_BUFFERED:
            raise WireError(f"{self.peer}: connection closed")
        if self._weather.break_rate and self._rng.random() < self._weather.break_rate:
            self.cut()
            return
        while self._weather.window and self._outward.size >= self._weather.window and not self._outward.ended:
            await self._outward.taken.wait()
        at = trio.current_time() + self._rng.uniform(*self._weather.delay_s)
        if self._outward.chunks:
            at = max(at, self._outward.chunks[-1][0])
        self._outward.chunks.append((at, data))
        self._outward.size += len(data)
        self._outward.arrived.set()

    @property
    def unread(self) -> bool:
        return False  # arrived bytes are received at once: the clock of tests does not move meanwhile

    async def end(self) -> None:
        await trio.lowlevel.checkpoint()
        self._outward.ended = True
        self._outward.arrived.set()

    def close(self) -> None:
        """Close; sent bytes still arrive, then the peer sees the end."""
        self._closed = True
        for direction in (self._inward, self._outward):
            direction.ended = True
            direction.arrived.set()
            direction.taken.set()

    def settle(self, weather: Weather) -> None:
        """New weather for both ends."""
        self._weather.delay_s, self._weather.break_rate = weather.delay_s, weather.break_rate

    def cut(self) -> None:
        """Lose the connection and everything on its way, in both directions."""
        self._inward.chunks.clear()
        self._outward.chunks.clear()
        for direction in (self._inward, self._outward):
            direction.size = 0
            direction.ended = True
            direction.arrived.set()
            direction.taken.set()


class MemoryAcceptor:
    """A listening name in a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self.address = address
        self._network = network
        self._waiting: deque[MemoryWire] = deque()
        self._arrived = Signal()
        self._closed = False
        self._failure: Exception | None = None

    def break_with(self, failure: Exception) -> None:
        """Have `accept` raise."""
        self._failure = failure
        self._arrived.set()

    def offer(self, wire: MemoryWire) -> None:
        self._waiting.append(wire)
        self._arrived.set()

    async def accept(self) -> Wire:
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            if self._closed:
                raise WireError(f"{self.address}: closed")
            await self._arrived.wait()
            if self._failure is not None:
                raise self._failure
        return self._waiting.popleft()

    def close(self) -> None:
        self._closed = True
        self._network.forget(self)
        for wire in self._waiting:
            wire.cut()
        self._waiting.clear()
        self._arrived.set()


class MemoryNetwork:
    """Addresses and the connections between them.

    Args:
        rng: where delays, breaks and the choice among several listeners come from.
        weather: by address; `default` for the others.
    """

    def __init__(
        self, rng: random.Random, default: Weather | None = None, weather: dict[str, Weather] | None = None
    ) -> None:
        self._rng = rng
        self._default = default or Weather()
        self._weather = dict(weather or {})
        self._acceptors: dict[str, list[MemoryAcceptor]] = {}
        self._wires: dict[str, list[MemoryWire]] = {}
        self.refusing: set[str] = set()

    async def listen(self, address: str, shared: bool = False) -> MemoryAcceptor:
        await trio.lowlevel.checkpoint()
        acceptor = MemoryAcceptor(self, address)
        self._acceptors.setdefault(address, []).append(acceptor)
        return acceptor

    async def dial(self, address: str, timeout_s: float) -> MemoryWire:
        await trio.lowlevel.checkpoint()
        acceptors = self._acceptors.get(address)
        if not acceptors or address in self.refusing:
            raise WireError(f"{address}: connection refused")
        there, back = _Direction(), _Direction()
        weather = self._weather.get(address, self._default)
        near = MemoryWire(address, back, there, weather, self._rng)
        far = MemoryWire(f"dialler of {address}", there, back, weather, self._rng)
        self._rng.choice(acceptors).offer(far)
        wires = self._wires.setdefault(address, [])
        wires[:] = [wire for wire in wires if not wire._closed]
        wires.append(near)
        return near

    def cut(self, address: str) -> None:
        """Break every connection to `address`."""
        for wire in self._wires.pop(address, []):
            wire.cut()

    def calm(self) -> None:
        """From now on nothing breaks, and everything is fast; connections that exist included."""
        self._default = Weather()
        self._weather.clear()
        for wires in self._wires.values():
            for wire in wires:
                wire.settle(self._default)

    def forget(self, acceptor: MemoryAcceptor) -> None:
        acceptors = self._acceptors.get(acceptor.address, [])
        if acceptor in acceptors:
            acceptors.remove(acceptor)
