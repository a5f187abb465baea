"""Raw-socket wires: whole frames in order under back-pressure, and ends that stay ends."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from messages.framing import framing
from simulators.errors import WireLost
from simulators.wire import SocketListener, SocketWire, dial


async def pair() -> tuple[SocketWire, SocketWire]:
    listener = SocketListener(("127.0.0.1", 0))
    near = await dial(listener.address)
    far = await listener.accept()
    listener.close()
    return near, far


def test_frames_of_many_senders_stay_whole() -> None:
    async def main() -> None:
        near, far = await pair()
        frames = framing("2-byte-be", 60_000)
        got: list[bytes] = []

        async def send(letter: bytes) -> None:
            for _ in range(40):
                await near.send(frames.encode(letter * 50_000))

        async with trio.open_nursery() as nursery:
            for letter in (b"a", b"b", b"c"):
                nursery.start_soon(send, letter)
            await trio.sleep(0.05)  # until the window is full
            decoder = frames.decoder()
            while len(got) < 120:
                got += decoder.receive(await far.receive())
        assert sorted(set(got)) == [letter * 50_000 for letter in (b"a", b"b", b"c")]
        assert all(got.count(letter * 50_000) == 40 for letter in (b"a", b"b", b"c"))
        near.close()
        far.close()

    trio.run(main)


def test_a_peer_that_does_not_read_loses_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.wire.MAX_UNSENT_BYTES", 1_000_000)

    async def main() -> None:
        near, far = await pair()

        async def flood() -> None:
            with pytest.raises(WireLost):
                for _ in range(200):
                    await near.send(bytes(500_000))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            nursery.start_soon(flood)
        far.close()

    trio.run(main)


def test_a_closed_wire_reads_as_ended_as_often_as_asked() -> None:
    async def main() -> None:
        for _ in range(2):  # trio would call the second wait on a closed socket a conflict
            near, far = await pair()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.receive)
                await trio.testing.wait_all_tasks_blocked()
                near.close()
                near.close()
            assert [await near.receive(), await near.receive()] == [b"", b""]
            with pytest.raises(WireLost):
                await near.send(b"x")
            assert await far.receive() == b""
            far.close()

    trio.run(main)


def test_nobody_there_is_said_with_the_address() -> None:
    async def main() -> None:
        listener = SocketListener(("127.0.0.1", 0))
        address = listener.address
        with pytest.raises(WireLost, match=f"cannot listen on 127.0.0.1:{address[1]}"):
            SocketListener(address)
        listener.close()
        with pytest.raises(WireLost, match=f"cannot connect to 127.0.0.1:{address[1]}"):
            await dial(address)
        with pytest.raises(WireLost, match="closed"):
            await listener.accept()

    trio.run(main)
