"""One caller that keeps a number of commands in flight on the HSM's socket and times each: for `cardswitch bench hsm`.

Requests go in, commands a second and the times come out. As lean as it can be, so that the HSM's side is measured.
"""

from __future__ import annotations

import asyncio
from array import array
from itertools import cycle
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any, cast

import msgspec

from console.errors import ConsoleError
from hsm.wire import FrameReader, Refused, Unavailable, decode_answer, encode_body, frame

_BUDGET_MS = 30_000
_GIVE_UP_S = 30.0


class LoadFigures(msgspec.Struct, frozen=True):
    """`seconds` of load, and the nanoseconds of each command in it, from sending to reading its answer."""

    seconds: float
    times: list[int]


async def run_load(
    socket: Path, requests: list[Any], seconds: float, in_flight: int, *, once: bool = False
) -> LoadFigures:
    """Send requests in turn for `seconds`, or each of them `once`.

    Raises:
        ConsoleError: a command was refused, or the HSM is gone.
    """
    _, load = await asyncio.get_running_loop().create_unix_connection(
        lambda: _Load(requests, seconds, in_flight, once), str(socket)
    )
    try:
        async with asyncio.timeout(seconds + _GIVE_UP_S):
            await load.done
    except TimeoutError:
        raise ConsoleError("the HSM does not answer", "look at its log") from None
    finally:
        load.transport.close()
    return load.figures()


class _Load(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, requests: list[Any], seconds: float, in_flight: int, once: bool) -> None:
        bodies = [encode_body(request) for request in requests]
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._bodies = iter(bodies) if once else cycle(bodies)
        self._most = len(bodies) if once else 2**32 - 1
        self._in_flight = in_flight
        self._seconds = seconds
        self._reader = FrameReader()
        self._sent = 0
        self._started: dict[int, int] = {}
        self._times = array("q")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._began = perf_counter()
        self._send(self._in_flight)

    def data_received(self, data: bytes) -> None:
        now = perf_counter_ns()
        frames = self._reader.receive(data)
        for number, _, body in frames:
            answer: Any = decode_answer(body)
            if isinstance(answer, Refused | Unavailable) or getattr(answer, "verified", True) is False:
                self._fail(f"{type(answer).__name__}: {answer}")
                return
            self._times.append(now - self._started.pop(number))
        if self._sent < self._most and perf_counter() - self._began < self._seconds:
            self._send(len(frames))
        elif not self._started and not self.done.done():
            self._ended = perf_counter()
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the HSM closed the connection")

    def figures(self) -> LoadFigures:
        return LoadFigures(self._ended - self._began, list(self._times))

    def _send(self, count: int) -> None:
        frames = []
        for _ in range(min(count, self._most - self._sent)):
            self._sent += 1
            self._started[self._sent] = perf_counter_ns()
            frames.append(frame(self._sent, next(self._bodies), _BUDGET_MS))
        self.transport.write(b"".join(frames))

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(ConsoleError(f"a command of the benchmark was refused: {reason}"))
