"""The metrics port: connections beyond its limit are closed at once, and do not wait for ever."""

from __future__ import annotations

import contextlib

import trio

from switch.health import MAX_CONNECTIONS, HealthServer


def test_a_connection_beyond_the_limit_is_closed_and_the_next_one_served() -> None:
    async def script() -> None:
        async def ready() -> dict[str, bool]:
            return {}

        server = HealthServer(lambda: b"", ready)
        async with trio.open_nursery() as nursery:
            address, listeners = await server.listen("127.0.0.1:0")
            nursery.start_soon(server.run, listeners)
            port = int(address.rpartition(":")[2])
            silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
            while server._slots.value:  # noqa: ASYNC110
                await trio.sleep(0.01)
            with trio.fail_after(3):
                beyond = await trio.open_tcp_stream("127.0.0.1", port)
                with contextlib.suppress(trio.BrokenResourceError):
                    assert await beyond.receive_some(10) == b""
                await beyond.aclose()
            for stream in silent:
                await stream.aclose()
            while server._slots.value < MAX_CONNECTIONS:  # noqa: ASYNC110
                await trio.sleep(0.01)
            async with await trio.open_tcp_stream("127.0.0.1", port) as served:
                await served.send_all(b"GET /healthz HTTP/1.1\r\n\r\n")
                assert b"200 OK" in await served.receive_some(100)
            nursery.cancel_scope.cancel()

    trio.run(script)
