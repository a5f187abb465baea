"""Small things that tests of single parts need: a world without faults and ready-made messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import trio
import trio.testing

from messages.exchange import de7
from messages.message import Message
from simulators.acquirer import Card
from tests.simulation.world import World, play

NOW = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
VISA, MASTERCARD, POOR = Card("4242424242424242"), Card("5555555555554444"), Card("4000000000009995")


def run(script: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine on a clock that jumps."""
    trio.run(script, clock=trio.testing.MockClock(autojump_threshold=0))


def in_world(script: Callable[[World], Awaitable[None]], **arguments: Any) -> None:
    """Run a test in a whole switch with one worker on a fast network."""

    async def opened(world: World) -> None:
        await world.open(workers=1)
        await script(world)

    play(opened, **arguments)


def purchase(stan: str = "000001", at: datetime = NOW, **changes: str) -> Message:
    """A 0200; `changes` by name `de4="…"`, an empty value removes the element."""
    elements = {
        2: VISA.pan,
        3: "000000",
        4: "000000002500",
        7: de7(at),
        11: stan,
        14: "3012",
        32: "10001",
        41: "TERM0001",
        42: "DEMOSHOP".ljust(15),
        49: "978",
    }
    mti = changes.pop("mti", "0200")
    for name, value in changes.items():
        elements[int(name[2:])] = value
    return Message(mti, {number: value for number, value in elements.items() if value})


async def told(world: World, message: Message, link: str = "gateway") -> Message | None:
    """Send one message on a connection of its own; the answer, None where none comes in 30 s."""
    client = world.clients[link]
    frames = await world.send_aside(client, message)
    return client.acquirer.decode(frames[0]) if frames else None


def surrogate(world: World, card: Card = VISA) -> str:
    return world.hsm.add_card(card.pan)
