"""The unix socket: callers connect, are checked by their credentials, and have their commands answered in turn.

Bytes go in, frames come out. All callers share one bounded queue, worked off in slices so that no caller keeps the
thread to itself; answers of a slice leave in one write a connection. Called by `hsm.server`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from functools import partial
from typing import cast

import structlog

from hsm.errors import ProtocolError
from hsm.service import Service
from hsm.wire import Answer, FrameReader, Refused, encode_body, frame

log = structlog.get_logger(__name__)

_SLICE = 32
_OVERLOADED = encode_body(Refused("overloaded", "too many commands wait; ask again later"))


class CommandQueue:
    """The commands of all connections, first come, first served.

    Args:
        service: answers them.
        max_queued: commands that wait or are at the vault; above it `overloaded` is the answer.
    """

    def __init__(self, service: Service, max_queued: int) -> None:
        self._service = service
        self._max_queued = max_queued
        self._waiting: deque[tuple[Connection, int, bytes]] = deque()
        self._unanswered = 0
        self._scheduled = False

    def put(self, connection: Connection, frames: list[tuple[int, bytes]]) -> None:
        room = self._max_queued - self._unanswered
        for number, body in frames[:room]:
            self._waiting.append((connection, number, body))
        self._unanswered += min(room, len(frames))
        for number, _ in frames[room:]:
            connection.write(frame(number, _OVERLOADED))
        if self._waiting and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        for _ in range(min(_SLICE, len(self._waiting))):
            connection, number, body = self._waiting.popleft()
            if connection.closed:
                self._unanswered -= 1
            else:
                self._service.handle(body, partial(self._reply, connection, number))
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._work)

    def _reply(self, connection: Connection, number: int, answer: Answer) -> None:
        self._unanswered -= 1
        connection.write(frame(number, encode_body(answer)))


class Connection(asyncio.Protocol):
    """One caller."""

    def __init__(self, queue: CommandQueue, connections: set[Connection], max_connections: int) -> None:
        self.closed = False
        self._queue = queue
        self._connections = connections
        self._max_connections = max_connections
        self._reader = FrameReader()
        self._answers: list[bytes] = []
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not derive from it
        self._connections.add(self)
        user = peer_user(transport)
        if user not in (os.getuid(), 0):
            self._abort("another user", user=user)
        elif len(self._connections) > self._max_connections:
            self._abort("too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        try:
            self._queue.put(self, self._reader.receive(data))
        except ProtocolError as error:
            self._abort(str(error))

    def pause_writing(self) -> None:
        # A caller that does not read its answers is not read from either.
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def write(self, answer: bytes) -> None:
        """Send with whatever else is answered in this turn of the loop."""
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._flush)
        self._answers.append(answer)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._answers and not self.closed:
            self._transport.write(b"".join(self._answers))
        self._answers.clear()

    def _abort(self, reason: str, **details: object) -> None:
        log.warning("caller_refused", reason=reason, **details)
        self.closed = True
        self._transport.abort()


def peer_user(transport: asyncio.BaseTransport) -> int:
    """Return the user id of the process at the other end of a unix socket, as the kernel knows it."""
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as duplicate:
        credentials = duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return int(user)
