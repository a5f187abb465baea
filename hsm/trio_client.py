"""The HSM as trio tasks see it: many callers, one connection, pipelined.

`async with open_hsm(path) as hsm` gives an `hsm.commands.Hsm` that connects again by itself. Called by the switch.
All requests of one scheduler tick leave in one send. A caller waits as a bare task, not on an event, and one sweep
looks after all deadlines, because both are on the path of every payment.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import outcome
import structlog
import trio

from hsm.client import ClientProtocol, HsmCaller, Outcome
from hsm.commands import HsmRefused, HsmUnavailable
from hsm.errors import ProtocolError
from hsm.wire import Request

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_CHUNK_BYTES = 262_144
# Deadlines are looked at this often within a timeout, so an answer may be late by an eighth before it is given up.
_SWEEPS = 8


@asynccontextmanager
async def open_hsm(path: str | Path, *, max_in_flight: int = 1024, timeout_s: float = 2.0) -> AsyncIterator[TrioHsm]:
    """Connect to the HSM and stay connected for as long as the block runs.

    Args:
        path: the unix socket.
        max_in_flight: requests without an answer; above it HsmRefused `overloaded`.
        timeout_s: an answer that takes longer is given up: HsmUnavailable.
    Returns:
        At once after the first attempt, also where it failed: then requests raise HsmUnavailable until it is back.
    """
    hsm = TrioHsm(str(path), max_in_flight, timeout_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(hsm._stay_connected)
        nursery.start_soon(hsm._sweep)
        try:
            yield hsm
        finally:
            nursery.cancel_scope.cancel()
            hsm._fail_all("the HSM client was closed")


class _Waiter:
    __slots__ = ("deadline", "task")

    def __init__(self, task: trio.lowlevel.Task, deadline: float) -> None:
        self.task = task
        self.deadline = deadline


class TrioHsm(HsmCaller):
    """The commands over the unix socket; made by `open_hsm`.

    Attributes:
        connected: whether the socket is up now.
    """

    def __init__(self, path: str, max_in_flight: int, timeout_s: float) -> None:
        self.connected = False
        self._path = path
        self._max_in_flight = max_in_flight
        self._timeout_s = timeout_s
        self._protocol = ClientProtocol(timeout_s)
        self._waiters: dict[int, _Waiter] = {}  # in the order of their deadlines
        self._unsent: list[bytes] = []
        self._sender: trio.lowlevel.Task | None = None  # set while the sender has nothing to do

    async def ask(self, request: Request) -> object:
        if not self.connected:
            raise HsmUnavailable("not connected to the HSM")
        if len(self._waiters) >= self._max_in_flight:
            raise HsmRefused("overloaded", f"{self._max_in_flight} requests wait for the HSM")
        number, data = self._protocol.send(request)
        self._unsent.append(data)
        if self._sender is not None:
            trio.lowlevel.reschedule(self._sender)
            self._sender = None
        waiters = self._waiters
        waiters[number] = _Waiter(trio.lowlevel.current_task(), trio.current_time() + self._timeout_s)

        def abort(_: object) -> trio.lowlevel.Abort:
            del waiters[number]
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(abort)

    async def _stay_connected(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        pause_s, first = _FIRST_PAUSE_S, True
        while True:
            reason = ""
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                try:
                    connection.setblocking(False)
                    connection.connect(self._path)  # of a unix socket: now or not at all
                    log.info("hsm_connected", socket=self._path)
                    self.connected, pause_s = True, _FIRST_PAUSE_S
                    if first:
                        task_status.started()
                    reason = await self._serve(connection)
                except OSError as error:
                    reason = error.strerror or type(error).__name__
                finally:
                    lost, self.connected = self.connected, False
            if lost or first:
                log.warning("hsm_lost", socket=self._path, reason=reason)
            self._fail_all(f"the connection to the HSM was lost: {reason}")
            if first and not lost:
                task_status.started()
            first = False
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _serve(self, connection: socket.socket) -> str:
        """Send and receive until the connection is gone; return why it is."""
        self._protocol = ClientProtocol(self._timeout_s)
        reason = "closed by the HSM"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, connection, nursery.cancel_scope)
            try:
                while True:
                    await trio.lowlevel.wait_readable(connection)
                    data = connection.recv(_CHUNK_BYTES)
                    if not data:
                        break
                    for number, answer in self._protocol.receive(data):
                        self._wake(number, answer)
            except (OSError, ProtocolError) as error:
                reason = str(error)
            nursery.cancel_scope.cancel()
        return reason

    async def _send(self, connection: socket.socket, lost: trio.CancelScope) -> None:
        try:
            while True:
                if not self._unsent:
                    self._sender = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(self._forget_sender)
                # Callers of this tick that run after this task was woken are still to come.
                await trio.lowlevel.checkpoint()
                data = memoryview(b"".join(self._unsent))
                self._unsent.clear()
                while data:
                    try:
                        data = data[connection.send(data) :]
                    except BlockingIOError:
                        await trio.lowlevel.wait_writable(connection)
        except OSError:
            lost.cancel()

    def _forget_sender(self, _: object) -> trio.lowlevel.Abort:
        self._sender = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(self._timeout_s / _SWEEPS)
            now = trio.current_time()
            late = []
            for number, waiter in self._waiters.items():
                if waiter.deadline > now:
                    break
                late.append(number)
            for number in late:
                self._wake(number, HsmUnavailable(f"no answer from the HSM in {self._timeout_s} s"))

    def _wake(self, number: int, answer: Outcome) -> None:
        waiter = self._waiters.pop(number, None)
        if waiter is None:
            return  # its caller has given up
        if isinstance(answer, Exception):
            trio.lowlevel.reschedule(waiter.task, outcome.Error(answer))
        else:
            trio.lowlevel.reschedule(waiter.task, outcome.Value(answer))

    def _fail_all(self, reason: str) -> None:
        self._unsent.clear()
        for number in list(self._waiters):
            self._wake(number, HsmUnavailable(reason))
