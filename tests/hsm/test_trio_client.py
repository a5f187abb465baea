"""The trio client against a server of the test's own: pipelining, timeouts, lost connections, bounds."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from hsm.commands import GeneratedMac, GenerateMac, HsmRefused, HsmUnavailable
from hsm.trio_client import TrioHsm, open_hsm
from hsm.wire import FrameReader, decode_request, encode_body, frame

MAC = GenerateMac(key="k", data=b"d")
Handler = Callable[[trio.SocketStream, int], Awaitable[None]]


class StubServer:
    """Listens on a unix socket; `handler` gets each connection."""

    def __init__(self, path: Path, handler: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
        self._path = path
        self._handler = handler
        self.connections = 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listening = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        await listening.bind(str(self._path))
        listening.listen(10)

        async def serve(stream: trio.SocketStream) -> None:
            self.connections += 1
            async with stream:
                await self._handler(stream)

        try:
            await trio.serve_listeners(serve, [trio.SocketListener(listening)], task_status=task_status)
        finally:
            self._path.unlink()


async def answer(stream: trio.SocketStream, data: bytes, reader: FrameReader, *, reverse: bool = False) -> int:
    frames = reader.receive(data)
    answers = []
    for number, _, body in frames:
        request = decode_request(body)
        assert isinstance(request, GenerateMac)
        answers.append(frame(number, encode_body(GeneratedMac(request.data))))
    await stream.send_all(b"".join(reversed(answers) if reverse else answers))
    return len(frames)


async def connected(hsm: TrioHsm) -> None:
    while not hsm.connected:  # noqa: ASYNC110 - nobody announces it
        await trio.sleep(0.01)


def run(
    path: Path,
    handler: Callable[[trio.SocketStream], Awaitable[None]],
    test: Callable[[TrioHsm], Awaitable[None]],
    *,
    max_in_flight: int = 1024,
    timeout_s: float = 5.0,
) -> StubServer:
    server = StubServer(path, handler)

    async def main() -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                await nursery.start(server.run)
                async with open_hsm(path, max_in_flight=max_in_flight, timeout_s=timeout_s) as hsm:
                    await test(hsm)
                nursery.cancel_scope.cancel()

    trio.run(main)
    return server


def test_callers_of_one_tick_share_a_send(tmp_path: Path) -> None:
    chunks: list[int] = []

    async def handler(stream: trio.SocketStream) -> None:
        reader = FrameReader()
        async for data in stream:
            chunks.append(await answer(stream, data, reader, reverse=True))

    async def test(hsm: TrioHsm) -> None:
        async def caller(number: int) -> None:
            data = number.to_bytes(8, "big")
            for _ in range(3):
                assert (await hsm.mac(GenerateMac(key="k", data=data))).mac == data

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(caller, number)

    run(tmp_path / "s", handler, test)
    assert sum(chunks) == 300
    assert len(chunks) <= 6


def test_no_answer_in_time_is_unavailable_and_others_go_on(tmp_path: Path) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        reader, swallowed = FrameReader(), b""
        async for data in stream:
            if not swallowed:
                swallowed = data
                continue
            await answer(stream, swallowed + data, reader)  # the late answer comes too

    async def test(hsm: TrioHsm) -> None:
        with pytest.raises(HsmUnavailable, match=r"no answer from the HSM in 0\.1 s"):
            await hsm.mac(MAC)
        assert (await hsm.mac(MAC)).mac == b"d"
        assert (await hsm.mac(MAC)).mac == b"d"

    assert run(tmp_path / "s", handler, test, timeout_s=0.1).connections == 1


def test_a_lost_connection_fails_what_is_in_flight_and_comes_back(tmp_path: Path) -> None:
    first = True

    async def handler(stream: trio.SocketStream) -> None:
        nonlocal first
        reader = FrameReader()
        async for data in stream:
            if first:
                first = False
                return
            await answer(stream, data, reader)

    async def test(hsm: TrioHsm) -> None:
        outcomes: list[str] = []

        async def caller() -> None:
            try:
                await hsm.mac(MAC)
            except HsmUnavailable as error:
                outcomes.append(str(error))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(caller)
        assert len(outcomes) == 10 and all("connection to the HSM was lost" in text for text in outcomes)
        with pytest.raises(HsmUnavailable, match="not connected"):
            await hsm.mac(MAC)
        await connected(hsm)
        assert (await hsm.mac(MAC)).mac == b"d"

    assert run(tmp_path / "s", handler, test).connections == 2


def test_an_answer_that_is_none_ends_the_connection(tmp_path: Path) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        async for _ in stream:
            await stream.send_all(b"\xff" * 8)

    async def test(hsm: TrioHsm) -> None:
        with pytest.raises(HsmUnavailable, match="a frame has"):
            await hsm.mac(MAC)

    run(tmp_path / "s", handler, test)


def test_in_flight_is_bounded(tmp_path: Path) -> None:
    release = trio.Event()

    async def handler(stream: trio.SocketStream) -> None:
        reader = FrameReader()
        async for data in stream:
            await release.wait()
            await answer(stream, data, reader)

    async def test(hsm: TrioHsm) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(hsm.mac, MAC)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(HsmRefused, match="overloaded"):
                await hsm.mac(MAC)
            release.set()
        assert (await hsm.mac(MAC)).mac == b"d"

    run(tmp_path / "s", handler, test, max_in_flight=3)


def test_a_cancelled_caller_leaves_nothing_behind(tmp_path: Path) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        reader, held = FrameReader(), b""
        async for data in stream:
            if not held:
                held = data
            else:
                await answer(stream, held + data, reader)

    async def test(hsm: TrioHsm) -> None:
        with trio.move_on_after(0.05) as scope:
            await hsm.mac(MAC)
        assert scope.cancelled_caught
        assert (await hsm.mac(GenerateMac(key="k", data=b"2"))).mac == b"2"

    run(tmp_path / "s", handler, test, max_in_flight=1)


def test_nobody_there_is_said_at_once_and_found_when_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def handler(stream: trio.SocketStream) -> None:
        reader = FrameReader()
        async for data in stream:
            await answer(stream, data, reader)

    async def main() -> None:
        with trio.fail_after(20):
            async with open_hsm(path) as hsm:
                with pytest.raises(HsmUnavailable, match="not connected"):
                    await hsm.mac(MAC)
                async with trio.open_nursery() as nursery:
                    await nursery.start(StubServer(path, handler).run)
                    await connected(hsm)
                    assert (await hsm.mac(MAC)).mac == b"d"
                    nursery.cancel_scope.cancel()

    trio.run(main)
