"""Requests in flight: answered once, failed at the deadline or with the connection, bounded."""

from __future__ import annotations

import pytest
import trio

from messages.message import Message
from switch.errors import ExchangeLost, LinkUnavailable
from switch.links.pending import Pending
from tests.switch.desk import run

ANSWER = Message("0210", {39: "00"})


def test_an_answer_reaches_whom_it_belongs_to_once() -> None:
    async def script() -> None:
        pending = Pending(10)
        future = pending.open(("a",), 5.0)
        assert pending.answer(("a",), ANSWER)
        assert not pending.answer(("a",), ANSWER)
        assert await future.wait() is ANSWER
        assert len(pending) == 0

    run(script)


def test_slots_fail_at_their_own_deadlines_whatever_the_order() -> None:
    async def script() -> None:
        pending = Pending(10)
        failed: list[tuple[str, float]] = []

        async def wait(name: str, at: float) -> None:
            with pytest.raises(ExchangeLost):
                await pending.open((name,), at).wait()
            failed.append((name, trio.current_time()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pending.sweep)
            async with trio.open_nursery() as waiters:
                waiters.start_soon(wait, "late", 9.0)
                await trio.sleep(1.0)
                waiters.start_soon(wait, "soon", 2.0)
            nursery.cancel_scope.cancel()
        assert failed == [("soon", 2.0), ("late", 9.0)]
        assert not pending.answer(("soon",), ANSWER)

    run(script)


def test_the_table_is_bounded_and_keys_are_unique() -> None:
    pending = Pending(2)
    pending.open(("a",), 5.0)
    with pytest.raises(LinkUnavailable):
        pending.open(("a",), 5.0)
    pending.open(("b",), 5.0)
    with pytest.raises(LinkUnavailable):
        pending.open(("c",), 5.0)


def test_answered_deadlines_do_not_pile_up() -> None:
    pending = Pending(2)
    for number in range(1000):
        pending.open((number,), 5.0)
        pending.answer((number,), ANSWER)
    assert len(pending._deadlines) <= 9


def test_a_lost_connection_fails_all() -> None:
    async def script() -> None:
        pending = Pending(2)
        future = pending.open(("a",), 5.0)
        pending.fail_all("cable cut")
        with pytest.raises(ExchangeLost, match="cable cut"):
            await future.wait()

    run(script)
