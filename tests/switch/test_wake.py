"""Signals and futures: nothing set is lost, nothing comes twice, cancellation leaves them usable."""

from __future__ import annotations

import pytest
import trio

from switch.wake import Future, Signal
from tests.switch.desk import run


def test_a_signal_set_before_the_wait_is_not_lost() -> None:
    async def script() -> None:
        signal = Signal()
        signal.set()
        signal.set()
        await signal.wait()
        with trio.move_on_after(1.0) as scope:
            await signal.wait()
        assert scope.cancelled_caught
        signal.set()
        await signal.wait()

    run(script)


def test_a_signal_wakes_who_waits() -> None:
    async def script() -> None:
        signal = Signal()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(signal.wait)
            await trio.testing.wait_all_tasks_blocked()
            signal.set()

    run(script)


def test_a_future_has_one_result() -> None:
    async def script() -> None:
        future: Future[int] = Future()
        future.resolve(1)
        future.resolve(2)
        future.fail(ValueError())
        assert await future.wait() == 1
        failed: Future[int] = Future()
        with trio.move_on_after(1.0):
            await failed.wait()
        failed.fail(ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            await failed.wait()

    run(script)
