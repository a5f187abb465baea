"""Faults of framing on a wire that lets one send overtake another: nothing comes behind half a frame."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from simulators.errors import WireLost
from simulators.issuer.line import Line

FRAME, LATER = b"\x00\x08ABCDEFGH", b"\x00\x08abcdefgh"


class Overtaking:
    """A wire whose first send takes longer than all that come after it."""

    peer = "overtaking"

    def __init__(self) -> None:
        self.sent = b""
        self._calls = 0

    async def receive(self) -> bytes:
        return b""

    async def send(self, data: bytes) -> None:
        self._calls += 1
        await trio.sleep(1.0 if self._calls == 1 else 0.0)
        self.sent += data

    def close(self) -> None:
        pass


def run(script: Callable[[], Awaitable[None]]) -> None:
    trio.run(script, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("half", [True, False])
def test_what_was_sent_before_stays_before(half: bool) -> None:
    wire = Overtaking()

    async def script() -> None:
        async with trio.open_nursery() as nursery:
            line = Line(wire, nursery, (WireLost,))
            nursery.start_soon(line.send, FRAME)
            await trio.testing.wait_all_tasks_blocked()
            if half:
                await line.send_half(LATER)
            else:
                line.send_slowly(LATER, 2.0)

    run(script)
    assert wire.sent == FRAME + (LATER[:5] if half else LATER)


def test_nothing_is_sent_slowly_where_the_connection_has_ended() -> None:
    wire = Overtaking()

    async def script() -> None:
        async with trio.open_nursery() as nursery:
            line = Line(wire, nursery, (WireLost,))
        line.send_slowly(FRAME, 0.5)
        line.send_after_next(FRAME, 0.5)

    run(script)
    assert wire.sent == b""
