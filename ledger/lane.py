"""A bounded queue of calls between trio's thread and the database's: calls go in one by one, sets come out.

`ledger.writer` has one lane for each kind of work. `submit` is called in trio's thread, the rest in the loop's. A set
is all calls that wait when a connection gets free, so one call alone goes at once and many share one commit. There is
one wake-up a batch in each direction; "is anything waiting?" and "append" are one step under a lock, or a wake-up is
lost.

Under load a set costs much more than a row, on both sides. So a lane that is busy rests a moment after each set, and
the next one is larger; and a second connection helps only where one set could not hold what is waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import outcome
import trio

from ledger.journal import JournalUnavailable

_log = logging.getLogger(__name__)

BUSY_PER_S = 500.0  # calls a second from which on a lane rests between sets; below, each goes at once
SPARE_AT = 256  # calls waiting from which on another connection helps the one at work

Execute = Callable[[Any, list[Any]], Awaitable[Sequence[Any]]]


class Call:
    """One caller's row; `task` is None once the caller was cancelled: the row stays, its result is dropped."""

    __slots__ = ("row", "task")

    def __init__(self, row: Any) -> None:
        self.row = row
        self.task: trio.lowlevel.Task | None = None


class Lane:
    """Calls of one kind, over connections of its own.

    Args:
        execute: writes a set on a connection; one result or exception for each row, in order. An exception of it (but
            JournalUnavailable) leaves its rows in doubt and costs the connection.
        connect: opens a connection.
        connections: number of sets that may be under way at once.
        max_waiting: calls that may wait; more raise JournalUnavailable at once.
        max_set: rows in one set.
        deadline_s: for one set; when it is over, the connection is closed and its callers are in doubt.
        rest_s: the pause after a set while the lane is busy; 0 for none.
    """

    def __init__(
        self,
        execute: Execute,
        connect: Callable[[], Awaitable[Any]],
        *,
        connections: int,
        max_waiting: int,
        max_set: int,
        deadline_s: float,
        rest_s: float = 0.0,
    ) -> None:
        self._execute = execute
        self._connect = connect
        self._size = connections
        self._max_waiting = max_waiting
        self._max_set = max_set
        self._deadline_s = deadline_s
        self._rest_s = rest_s
        self._lock = threading.Lock()
        self._waiting: deque[Call] = deque()
        self._awake = False  # the loop has been woken, or will look again by itself
        self._open = False  # at least one connection is up
        self._idle: list[_Link] = []
        self._up = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    @property
    def is_open(self) -> bool:
        """Whether a connection is up; each lane comes back by itself, within 1 s of the others."""
        return self._open

    async def submit(self, row: Any) -> Any:
        """Queue a row and wait for its result; trio's thread."""
        await trio.lowlevel.checkpoint_if_cancelled()
        call = Call(row)
        with self._lock:
            if not self._open:
                raise JournalUnavailable("PostgreSQL cannot be reached")
            if len(self._waiting) >= self._max_waiting:
                raise JournalUnavailable(f"{self._max_waiting} calls are waiting already")
            self._waiting.append(call)
            wake, self._awake = not self._awake, True
        if wake:
            assert self._loop is not None
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: `run` has refused the call
                self._loop.call_soon_threadsafe(self._pump)
        call.task = trio.lowlevel.current_task()

        def abort(_: Any) -> trio.lowlevel.Abort:
            call.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(abort)

    async def run(self, token: trio.lowlevel.TrioToken, first_up: Callable[[], None]) -> None:
        """Keep the connections up until cancelled; the loop's thread. `first_up` is called when one is up."""
        self._loop, self._token = asyncio.get_running_loop(), token
        links = [_Link() for _ in range(self._size)]
        try:
            async with asyncio.TaskGroup() as group:
                for link in links:
                    group.create_task(self._keep(link, first_up))
        finally:
            self._fail_waiting()

    async def _keep(self, link: _Link, first_up: Callable[[], None]) -> None:
        """Connect, serve sets until the connection is lost, connect again; the pause grows to 1 s."""
        pause_s = 0.02
        while True:
            try:
                connection = await asyncio.wait_for(self._connect(), self._deadline_s)
            except Exception as error:
                # After any error, the next attempt may succeed: a lane that ends would leave its callers without an
                # answer.
                _log.debug("no connection to PostgreSQL: %s", type(error).__name__)
                await asyncio.sleep(pause_s)
                pause_s = min(1.0, pause_s * 2)
                continue
            pause_s = 0.02
            self._up += 1
            with self._lock:
                self._open = True
            first_up()
            try:
                await self._serve(link, connection)
            finally:
                self._up -= 1
                with contextlib.suppress(ValueError):
                    self._idle.remove(link)
                connection.terminate()
                if self._up:
                    self._pump()  # calls that waited for this connection go to a spare one
                else:
                    self._fail_waiting()

    async def _serve(self, link: _Link, connection: Any) -> None:
        """Take sets until the connection is lost."""

        def lost(_: Any) -> None:
            if link in self._idle:
                self._idle.remove(link)
                if not link.work.done():  # cancelled with its task: the connection is being closed
                    link.work.set_result([])

        connection.add_termination_listener(lost)
        loop = asyncio.get_running_loop()
        taken_at = 0.0
        while not connection.is_closed():
            link.work = loop.create_future()
            self._idle.append(link)
            self._pump()
            try:
                calls = await link.work
                since_s, taken_at = loop.time() - taken_at, loop.time()
                if calls and not await self._write(connection, calls):
                    return
            except asyncio.CancelledError:
                if link.work.done() and not link.work.cancelled():
                    self._refuse(link.work.result(), "the journal is closed")
                raise
            if self._rest_s and len(calls) > max(1.0, BUSY_PER_S * since_s):
                await asyncio.sleep(self._rest_s)

    async def _write(self, connection: Any, calls: list[Call]) -> bool:
        """Write one set and answer its callers; False where the connection is of no more use."""
        try:
            async with asyncio.timeout(self._deadline_s):
                results = await self._execute(connection, [call.row for call in calls])
        except JournalUnavailable as error:
            self._refuse(calls, str(error))
        except Exception as error:
            # It is not known whether it was committed; a repeat with the same key will show it.
            self._refuse(calls, f"{type(error).__name__} while writing")
            return False
        else:
            self._answer(calls, results)
        return True

    def _pump(self) -> None:
        """Hand what is waiting to idle connections; the loop's thread."""
        while True:
            # While the lane is closing, the work of a task that was cancelled ends before the task itself: rows that
            # went there would never be answered.
            self._idle = [link for link in self._idle if not link.work.done()]
            with self._lock:
                if not self._idle:
                    return  # stays awake: the next connection that gets free looks here
                if not self._waiting:
                    self._awake = False
                    return
                if len(self._idle) < self._up and len(self._waiting) < SPARE_AT:
                    return  # likewise: the connection at work takes all of it in its next set
                count = min(self._max_set, len(self._waiting))
                calls = [self._waiting.popleft() for _ in range(count)]
            self._idle.pop().work.set_result(calls)

    def _fail_waiting(self) -> None:
        with self._lock:
            self._open = False
            self._awake = False
            calls = list(self._waiting)
            self._waiting.clear()
        self._refuse(calls, "PostgreSQL cannot be reached")

    def _refuse(self, calls: Sequence[Call], why: str) -> None:
        self._answer(calls, [JournalUnavailable(why) for _ in calls])

    def _answer(self, calls: Sequence[Call], results: Sequence[Any]) -> None:
        if not calls:
            return
        assert self._token is not None
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(_deliver, calls, results)


class _Link:
    """A connection's place in the lane: `work` gets the next set, an empty one when the connection is lost."""

    __slots__ = ("work",)
    work: asyncio.Future[list[Call]]


def _deliver(calls: Sequence[Call], results: Sequence[Any]) -> None:
    """Wake the callers of a set; trio's thread."""
    for call, result in zip(calls, results, strict=True):
        if call.task is not None:
            value: Any = outcome.Error(result) if isinstance(result, Exception) else outcome.Value(result)
            trio.lowlevel.reschedule(call.task, value)
