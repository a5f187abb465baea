"""The two smallest ways to wait: a `Signal` for one waiting task, a `Future` for one value.

The hot path of a worker waits several times a payment; trio's `Event` and memory channels cost more than the work
between the waits. Both classes here belong to one trio thread and to exactly one waiting task.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import outcome as _outcome
import trio

T = TypeVar("T")


class Signal:
    """A flag that one task waits for; a flag set before the wait is not lost."""

    __slots__ = ("_set", "_task")

    def __init__(self) -> None:
        self._set = False
        self._task: trio.lowlevel.Task | None = None

    def set(self) -> None:
        self._set = True
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    async def wait(self) -> None:
        """Return once the flag is set, and clear it."""
        if not self._set:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        self._set = False

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Future(Generic[T]):
    """A value or an error that comes once; a second one is ignored."""

    __slots__ = ("_result", "_task")

    def __init__(self) -> None:
        self._result: _outcome.Outcome[T] | None = None
        self._task: trio.lowlevel.Task | None = None

    @property
    def done(self) -> bool:
        return self._result is not None

    def resolve(self, value: T) -> None:
        self._finish(_outcome.Value(value))

    def fail(self, error: Exception) -> None:
        self._finish(_outcome.Error(error))

    def _finish(self, result: _outcome.Outcome[T]) -> None:
        if self._result is None:
            self._result = result
            if self._task is not None:
                trio.lowlevel.reschedule(self._task)
                self._task = None

    async def wait(self) -> T:
        """The value; raises the error given to `fail`."""
        if self._result is None:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        assert self._result is not None
        return self._result.unwrap()

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
