"""Real sockets and the network in memory behave alike where links look."""

from __future__ import annotations

import os
import random
import socket

import pytest
import trio

from switch.errors import WireError
from switch.links.memory_network import MemoryNetwork, Weather
from switch.links.network import COURTESY_MAX_S, CROWD, REFUSALS_A_TURN, REFUSED_S, Network, SocketNetwork, Wire
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
def test_bytes_that_came_one_by_one_are_read_together(which: int) -> None:
    async def script() -> None:
        network, address = networks()[which]
        acceptor = await network.listen(address)
        near = await network.dial(acceptor.address, 3.0)
        far = await acceptor.accept()
        for byte in b"0123456789":
            await near.send(bytes([byte]))
        await trio.sleep(0.1)
        assert await far.receive() == b"0123456789"
        for wire in (near, far):
            wire.close()
        acceptor.close()

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


def test_a_name_with_several_addresses_is_dialled_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script() -> None:
        network = SocketNetwork()
        acceptor = await network.listen("127.0.0.1:0")
        port = int(acceptor.address.rpartition(":")[2])
        nobody = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.9", port))
        there = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        for found in ([nobody, there], [there, nobody]):

            async def lookup(*arguments: object, found: object = found, **more: object) -> object:
                await trio.lowlevel.checkpoint()
                return found

            monkeypatch.setattr(trio.socket, "getaddrinfo", lookup)
            (await network.dial(f"host.example:{port}", 1.0)).close()
            (await acceptor.accept()).close()
        acceptor.close()
        with pytest.raises(WireError, match=r"host\.example"):
            await network.dial(f"host.example:{port}", 1.0)

    trio.run(script)


def test_a_peer_whose_machine_is_gone_is_noticed() -> None:
    async def script() -> None:
        network = SocketNetwork()
        acceptor = await network.listen("127.0.0.1:0")
        near = await network.dial(acceptor.address, 1.0)
        far = await acceptor.accept()
        for wire in (near, far):
            sock = wire._sock  # type: ignore[attr-defined]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            wire.close()
        acceptor.close()

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
        got = b""
        while len(got) < 50:
            got += await far.receive()
        assert got == bytes(range(50))
        await near.send(b"lost")
        network.cut("x:1")
        assert await far.receive() == b""
        assert await near.receive() == b""

    run(script)


def test_a_shared_socket_gives_each_worker_its_share() -> None:
    async def main() -> None:
        shared = socket.create_server(("127.0.0.1", 0))
        address = "{}:{}".format(*shared.getsockname())
        networks = [SocketNetwork({address: os.dup(shared.fileno())}) for _ in range(2)]
        shared.close()
        taken: list[list[Wire]] = [[], []]

        async def take(number: int, network: SocketNetwork) -> None:
            acceptor = await network.listen(address)
            try:
                while True:
                    taken[number].append(await acceptor.accept())
            finally:
                acceptor.close()

        async with trio.open_nursery() as nursery:
            for number, network in enumerate(networks):
                nursery.start_soon(take, number, network)
            wires = [await SocketNetwork().dial(address, 1.0) for _ in range(20)]
            with trio.fail_after(5):
                while len(taken[0]) + len(taken[1]) < 20:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        for wire in (*wires, *taken[0], *taken[1]):
            wire.close()
        assert min(len(taken[0]), len(taken[1])) >= 7, [len(mine) for mine in taken]

    trio.run(main)


def test_a_long_queue_of_new_connections_is_taken_without_a_pause() -> None:
    """Else a stranger who connects all the time fills the queue, and nobody else gets through."""

    async def script() -> None:
        shared = socket.create_server(("127.0.0.1", 0), backlog=100)
        address = "{}:{}".format(*shared.getsockname())
        acceptor = await SocketNetwork({address: os.dup(shared.fileno())}).listen(address)
        waiting = [socket.create_connection(shared.getsockname()) for _ in range(90)]
        taken = [await acceptor.accept() for _ in range(30)]  # the worker has many connections already
        before = trio.current_time()
        taken += [await acceptor.accept() for _ in range(60)]
        assert trio.current_time() - before <= CROWD * COURTESY_MAX_S + 0.001
        acceptor.close()
        shared.close()
        for connection in (*waiting, *taken):
            connection.close()

    run(script)


def test_connections_that_are_closed_at_once_are_taken_together() -> None:
    """They come in floods, and a pass of the scheduler for each would cost more than the rest."""

    async def script() -> None:
        shared = socket.create_server(("127.0.0.1", 0), backlog=100)
        address = "{}:{}".format(*shared.getsockname())
        acceptor = await SocketNetwork({address: os.dup(shared.fileno())}).listen(address)
        count, passes = 8 * REFUSALS_A_TURN, 0

        async def innocent() -> None:
            nonlocal passes
            while True:
                await trio.lowlevel.checkpoint()
                passes += 1

        waiting = [socket.create_connection(shared.getsockname()) for _ in range(count)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(innocent)
            for _ in range(count):
                (await acceptor.accept()).close()
            assert count / REFUSALS_A_TURN - 2 <= passes <= count / REFUSALS_A_TURN + 4
            nursery.cancel_scope.cancel()
        waiting.append(socket.create_connection(shared.getsockname()))
        before = trio.current_time()
        late = await acceptor.accept()
        assert trio.current_time() - before <= REFUSED_S + COURTESY_MAX_S
        acceptor.close()
        shared.close()
        late.close()
        for connection in waiting:
            connection.close()

    run(script)


def test_a_closed_wire_can_be_asked_again() -> None:
    async def main() -> None:
        network = SocketNetwork()
        acceptor = await network.listen("127.0.0.1:0")
        wire = await network.dial(acceptor.address, 1.0)
        wire.close()
        for _ in range(2):  # the second time upset the scheduler once
            assert await wire.receive() == b""
            with pytest.raises(WireError):
                await wire.send(b"x")
        acceptor.close()
        for _ in range(2):
            with pytest.raises(WireError):
                await acceptor.accept()

    trio.run(main)
