"""The lane when it is closed: every call that waits is answered, in any order of its tasks' ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio

from ledger.journal import JournalUnavailable
from ledger.lane import SPARE_AT, Call, Lane


class Token:
    """Stands in for trio's: keeps what the lane says to its callers."""

    def __init__(self) -> None:
        self.answered: dict[Any, Any] = {}

    def run_sync_soon(self, _deliver: Any, calls: Sequence[Call], results: Sequence[Any]) -> None:
        self.answered.update({call.row: result for call, result in zip(calls, results, strict=True)})


class Connection:
    def __init__(self) -> None:
        self.lost: list[Callable[[Any], None]] = []
        self.closed = False

    def add_termination_listener(self, listener: Callable[[Any], None]) -> None:
        self.lost.append(listener)

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True
        for listener in self.lost:
            listener(self)


class Closing:
    """A lane over connections that do nothing until they are released, in the order in which they were taken."""

    def __init__(self, connections: int) -> None:
        self.token = Token()
        self.made: list[Connection] = []
        self.under_way: list[tuple[Connection, asyncio.Event]] = []
        self.problems: list[dict[str, Any]] = []
        self.lane = Lane(
            self._execute, self._connect, connections=connections, max_waiting=10_000, max_set=SPARE_AT, deadline_s=60
        )

    async def _connect(self) -> Connection:
        self.made.append(Connection())
        return self.made[-1]

    async def _execute(self, connection: Connection, rows: list[Any]) -> list[Any]:
        done = asyncio.Event()
        self.under_way.append((connection, done))
        await done.wait()
        return rows

    async def start(self) -> asyncio.Task[None]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.problems.append(context))
        running = asyncio.create_task(self.lane.run(self.token, lambda: None))  # type: ignore[arg-type]
        while len(self.lane._idle) < self.lane._size:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return running

    def submit(self, *rows: Any) -> None:
        """As `Lane.submit`, without a task of trio's that waits."""
        self.lane._waiting.extend(map(Call, rows))
        self.lane._pump()

    async def release(self, connection: Connection) -> None:
        next(done for used, done in self.under_way if used is connection).set()
        self.under_way = [(used, done) for used, done in self.under_way if used is not connection]
        for _ in range(5):
            await asyncio.sleep(0)


async def _ended(running: asyncio.Task[None]) -> None:
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_a_call_that_waits_for_a_cancelled_connection_is_refused() -> None:
    async def scenario() -> None:
        closing = Closing(connections=2)
        running = await closing.start()
        # Have the task that was made first at work and the other idle: closing ends the first one first.
        closing.submit(*range(2 * SPARE_AT))
        await asyncio.sleep(0)
        first, second = closing.made
        await closing.release(second)
        await closing.release(first)
        closing.submit("written")
        await asyncio.sleep(0)
        assert [used for used, _ in closing.under_way] == [first]
        closing.submit("waiting")
        await _ended(running)
        assert isinstance(closing.token.answered["written"], JournalUnavailable)
        assert isinstance(closing.token.answered["waiting"], JournalUnavailable)
        assert closing.problems == []

    asyncio.run(scenario())


def test_a_call_that_comes_while_the_lane_is_cancelled_is_refused() -> None:
    async def scenario() -> None:
        closing = Closing(connections=1)
        running = await closing.start()
        running.cancel()
        await asyncio.sleep(0)  # the lane's task has cancelled the one that waits for work, which has not run since
        closing.submit("late")
        with pytest.raises(asyncio.CancelledError):
            await running
        assert isinstance(closing.token.answered["late"], JournalUnavailable)

    asyncio.run(scenario())


def test_a_connection_that_is_lost_while_the_lane_is_cancelled_raises_nothing() -> None:
    async def scenario() -> None:
        closing = Closing(connections=1)
        running = await closing.start()
        running.cancel()
        await asyncio.sleep(0)
        closing.made[0].terminate()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(scenario())


def test_a_call_after_the_end_of_the_loop_is_refused() -> None:
    async def scenario() -> None:
        closing = Closing(connections=1)

        def serve() -> None:
            async def once() -> None:
                running = await closing.start()
                await _ended(running)

            asyncio.run(once())

        thread = threading.Thread(target=serve)
        thread.start()
        await trio.to_thread.run_sync(thread.join)
        closing.lane._open = True  # the moment before the caller saw that the lane is closed
        with trio.move_on_after(0.01) as waited:
            await closing.lane.submit("row")
        assert waited.cancelled_caught  # and no RuntimeError of a loop that has ended

    trio.run(scenario)
