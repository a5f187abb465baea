"""Real sockets and the network in memory behave alike where links look."""

from __future__ import annotations

import random

import pytest
import trio

from switch.errors import WireError
from switch.memory_network import MemoryNetwork, Weather
from switch.network import Network, SocketNetwork
from tests.switch.desk import run


def networks() -> list[tuple[Network, str]]:
    return [(SocketNetwork(), "127.0.0.1:0"), (MemoryNetwork(random.Random(1)), "somewhere:1")]


@pytest.mark.parametrize("which", [0, 1], ids=["sockets", "memory"])
def test_bytes_travel_both_ways_and_the_end_is_seen(which: int) -> None:
    async def script() -> None:
        network, address = networks()[which]
        acceptor = await network.listen(address)
        near = await network.dial(acceptor.address, 3.0)
        far = await acceptor.accept()
        blob = bytes(range(256)) * 2000
        got = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send, blob)
            while len(got) < len(blob):
                got += await far.receive()
        assert got == blob
        await far.send(b"answer")
        assert await near.receive() == b"answer"
        far.close()
        far.close()
        assert await near.receive() == b""
        near.close()
        with pytest.raises(WireError):
            await near.send(b"too late")
        acceptor.close()
        with pytest.raises(WireError):
            await acceptor.accept()

    trio.run(script)


@pytest.mark.parametrize("which", [0, 1], ids=["sockets", "memory"])
def test_closing_wakes_who_receives(which: int) -> None:
    async def script() -> None:
        network, address = networks()[which]
        acceptor = await network.listen(address)
        near = await network.dial(acceptor.address, 3.0)
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                assert await near.receive() == b""

            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            near.close()
        acceptor.close()

    trio.run(script)


@pytest.mark.parametrize("which", [0, 1], ids=["sockets", "memory"])
def test_nobody_there(which: int) -> None:
    async def script() -> None:
        network, address = networks()[which]
        acceptor = await network.listen(address)
        acceptor.close()
        with pytest.raises(WireError):
            await network.dial(acceptor.address, 3.0)

    trio.run(script)


def test_workers_share_a_port() -> None:
    async def script() -> None:
        network = SocketNetwork()
        first = await network.listen("127.0.0.1:0")
        second = await network.listen(first.address)
        assert second.address == first.address
        first.close()
        second.close()

    trio.run(script)


def test_memory_keeps_the_order_and_loses_all_at_once() -> None:
    async def script() -> None:
        network = MemoryNetwork(random.Random(7), Weather(delay_s=(0.0, 1.0)))
        acceptor = await network.listen("x:1")
        near = await network.dial("x:1", 1.0)
        far = await acceptor.accept()
        for number in range(50):
            await near.send(bytes([number]))
        assert b"".join([await far.receive() for _ in range(50)]) == bytes(range(50))
        await near.send(b"lost")
        network.cut("x:1")
        assert await far.receive() == b""
        assert await near.receive() == b""

    run(script)
