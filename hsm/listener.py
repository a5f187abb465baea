"""The unix sockets: callers connect, are known by their credentials, and have their commands answered in turn.

Bytes go in, frames come out. All callers share one bounded queue, worked off in slices so that no caller keeps the
thread to itself; answers of a slice leave in one write a connection, after their audit records. Called by `hsm.server`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from time import perf_counter
from typing import cast

import structlog

from hsm.callers import Caller, Peer, peer_of
from hsm.errors import AuditError, ProtocolError
from hsm.service import Service
from hsm.wire import Answer, Frame, FrameReader, Refused, Unavailable, encode_body, frame

log = structlog.get_logger(__name__)

_SLICE = 32
_OVERLOADED = encode_body(Refused("overloaded", "too many commands wait; ask again later"))


class CommandQueue:
    """The commands of all connections, first come, first served.

    Args:
        service: answers them.
        max_queued: commands that wait or are at the vault; above it `overloaded` is the answer.
        budget_s: longest wait of a command whose caller states none.
    Attributes:
        unanswered: commands that wait or are at the vault.
    """

    def __init__(self, service: Service, max_queued: int, budget_s: float) -> None:
        self.service = service
        self.unanswered = 0
        self._max_queued = max_queued
        self._budget_s = budget_s
        self._waiting: deque[tuple[Connection, int, float, bytes]] = deque()
        self._scheduled = False
        service.queued = lambda: self.unanswered

    def put(self, connection: Connection, frames: list[Frame]) -> None:
        now = perf_counter()
        room = self._max_queued - self.unanswered
        for number, budget_ms, body in frames[:room]:
            deadline = now + (budget_ms / 1000 if budget_ms else self._budget_s)
            self._waiting.append((connection, number, deadline, body))
        self.unanswered += min(room, len(frames))
        for number, _, _ in frames[room:]:
            self.service.count_overloaded()
            connection.write(number, _OVERLOADED)
        if self._waiting and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        handle = self.service.handle
        for _ in range(min(_SLICE, len(self._waiting))):
            connection, number, deadline, body = self._waiting.popleft()
            if connection.closed:
                self.unanswered -= 1
            else:
                handle(connection, number, deadline, body)
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._work)


class Connection(asyncio.Protocol):
    """One caller's connection; `hsm.service.Asker`."""

    peer: Peer

    def __init__(self, queue: CommandQueue, connections: set[Connection], max_connections: int, caller: Caller) -> None:
        self.closed = False
        self._queue = queue
        self._connections = connections
        self._max_connections = max_connections
        self._caller = caller
        self._reader = FrameReader()
        self._answers: list[tuple[int, bytes]] = []
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not derive from it
        self._connections.add(self)
        self.peer = transport_peer(transport, self._caller)
        if self.peer.uid not in self._caller.users:
            self._abort("another user", user=self.peer.uid)
            self._queue.service.refuse_connection(self.peer)
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

    def answer(self, number: int, answer: Answer) -> None:
        """Send the answer to a command that the queue holds."""
        self._queue.unanswered -= 1
        self.write(number, encode_body(answer))

    def write(self, number: int, body: bytes) -> None:
        """Send together with the other answers of this turn of the loop."""
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._flush)
        self._answers.append((number, body))

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        answers, self._answers = self._answers, []
        try:
            self._queue.service.audit.flush()
        except AuditError as error:
            # A finished command is recorded once the disk takes it; until then nobody gets its result.
            unavailable = encode_body(Unavailable(str(error)))
            answers = [(number, unavailable) for number, _ in answers]
        if answers and not self.closed:
            self._transport.write(b"".join([frame(number, body) for number, body in answers]))

    def _abort(self, reason: str, **details: object) -> None:
        log.warning("caller_refused", caller=self._caller.name, reason=reason, **details)
        self.closed = True
        self._transport.abort()


def transport_peer(transport: asyncio.BaseTransport, caller: Caller) -> Peer:
    """Return who is at the other end of a transport."""
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as duplicate:
        return peer_of(duplicate, caller)
