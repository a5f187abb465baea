"""One connection of a simulated party: honest answers in one send, spoiled ones as their fault wants them.

Encoded frames of the shell go in, bytes leave on the wire. A fault of framing lasts: after half a frame nothing more is
sent on this connection.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from messages.framing import ETX, STX
from simulators.wire import Wire

SETTLE_S = 0.001
MAX_HELD = 1_000  # frames that wait for the next one, or for slow bytes before them


class Line:
    """A wire with its faults.

    Args:
        nursery: where slow bytes leave from; ends with the connection.
        lost: exceptions of a wire whose connection is gone.
    """

    def __init__(self, wire: Wire, nursery: trio.Nursery, lost: tuple[type[Exception], ...]) -> None:
        self.wire = wire
        self._nursery = nursery
        self._lost = lost
        self._silent = False
        self._slow = False
        self._leaving = 0  # sends that the wire has not taken yet
        self._behind: list[bytes] = []  # bytes that wait until slow ones are out
        self._held: list[bytes] = []  # frames that leave after the next one

    @property
    def holding(self) -> bool:
        """Whether a frame waits for the next one."""
        return bool(self._held)

    async def send(self, frames: bytes) -> None:
        """Whole frames; held frames leave behind them. Errors as of `Wire.send`."""
        if frames and not self._silent:
            await self._put(frames + self._taken())

    async def send_half(self, frame: bytes) -> None:
        """The first half of a frame behind what was held back, and nothing after it."""
        if not self._silent:
            self._silent = True
            await self._settled()  # nothing may come behind the half
            await self._put(self._taken() + frame[: len(frame) // 2])

    def send_after_next(self, frame: bytes, delay_s: float) -> None:
        """Hold a frame back until another has left, or for `delay_s`."""
        if len(self._held) < MAX_HELD:
            self._held.append(frame)
            self._start(self._release, delay_s)

    def send_slowly(self, frame: bytes, delay_s: float) -> None:
        """One byte a segment, over `delay_s`; later bytes wait."""
        if self._silent:
            return
        if self._slow:
            self._wait_behind(frame)
            return
        self._slow = True
        self._start(self._trickle, frame, delay_s)

    async def _put(self, data: bytes) -> None:
        if self._slow:
            self._wait_behind(data)
        else:
            self._leaving += 1
            try:
                await self.wire.send(data)
            finally:
                self._leaving -= 1

    def _start(self, job: Callable[..., Awaitable[None]], *arguments: object) -> None:
        with suppress(RuntimeError):  # the nursery is closed: the connection has ended, and what was to be sent with it
            self._nursery.start_soon(job, *arguments)

    async def _settled(self) -> None:
        """Wait until the wire has taken all sends: it may let one overtake another."""
        while self._leaving:  # noqa: ASYNC110 (a fault, and seldom)
            await trio.sleep(SETTLE_S)

    def _wait_behind(self, data: bytes) -> None:
        if len(self._behind) < MAX_HELD:
            self._behind.append(data)

    def _taken(self) -> bytes:
        """The held frames; they are held no more."""
        if not self._held:
            return b""
        held, self._held = self._held, []
        return b"".join(held)

    async def _release(self, delay_s: float) -> None:
        await trio.sleep(delay_s)
        try:
            await self.send(self._taken())
        except self._lost:
            return

    async def _trickle(self, frame: bytes, delay_s: float) -> None:
        try:
            await self._settled()  # nothing may come between the bytes
            for at in range(len(frame)):
                await self.wire.send(frame[at : at + 1])
                await trio.sleep(delay_s / len(frame))
            self._slow = False
            behind, self._behind = self._behind, []
            if behind:
                await self.wire.send(b"".join(behind))
        except self._lost:
            return


# A byte that ends a frame in some framings must not do so here: the frame is whole.
_NO_FRAME_ENDS = bytes.maketrans(STX + ETX, b"~~")


def garbage(size: int, source: random.Random) -> bytes:
    """Random bytes in the place of a message of `size` bytes."""
    return source.randbytes(size).translate(_NO_FRAME_ENDS)
