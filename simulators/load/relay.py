"""A bare relay and an echoing end: the cost of frames in trio without a look into them.

The benchmark sends the load generator's frames through `serve_relay` to `serve_echo` and back, and holds the switch's
rate against that. Frames are cut out of the stream and framed again, and nothing else: no parsing, no database.
As a process: `python -m simulators.load.relay relay LISTEN TARGET` or `… echo LISTEN`; prints its address once it
listens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import trio

from messages.address import address_of
from messages.errors import FrameError
from messages.framing import framing
from simulators.errors import WireLost
from simulators.wire import SocketListener, SocketWire, dial


async def serve_relay(
    listen: tuple[str, int],
    target: tuple[str, int],
    *,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Pass frames between each connection to `listen` and one of its own to `target`; runs until cancelled.

    Several processes may share `listen`. Raises WireLost where the address cannot be had.
    """

    async def relay(near: SocketWire) -> None:
        try:
            far = await dial(target)
        except WireLost:
            near.close()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pump, near, far)
            nursery.start_soon(_pump, far, near)

    await _serve(listen, relay, task_status)


async def serve_echo(
    listen: tuple[str, int], *, task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED
) -> None:
    """Send each frame back; runs until cancelled."""

    async def echo(wire: SocketWire) -> None:
        await _pump(wire, wire)

    await _serve(listen, echo, task_status)


async def _pump(source: SocketWire, sink: SocketWire) -> None:
    """Frames of `source` to `sink` until either closes; then both are closed."""
    frames = framing()
    decoder = frames.decoder()
    encode = frames.encode
    try:
        while data := await source.receive():
            await sink.send(b"".join([encode(frame) for frame in decoder.receive(data)]))
    except (WireLost, FrameError):
        pass
    finally:
        source.close()
        sink.close()


async def _serve(
    listen: tuple[str, int],
    handler: Callable[[SocketWire], object],
    task_status: trio.TaskStatus[tuple[str, int]],
) -> None:
    listener = SocketListener(listen, shared=True)
    try:
        async with trio.open_nursery() as nursery:
            task_status.started(listener.address)
            while True:
                nursery.start_soon(handler, await listener.accept())  # type: ignore[arg-type]
    finally:
        listener.close()


def main(arguments: list[str]) -> None:
    """Run a relay or an echo until the process is stopped."""

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            listen = address_of(arguments[1])
            if arguments[0] == "relay":
                host, port = await nursery.start(serve_relay, listen, address_of(arguments[2]))
            else:
                host, port = await nursery.start(serve_echo, listen)
            sys.stdout.write(f"{host}:{port}\n")
            sys.stdout.flush()

    trio.run(run)


if __name__ == "__main__":
    main(sys.argv[1:])
